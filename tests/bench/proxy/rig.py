# SPDX-License-Identifier: Apache-2.0
"""What `bench proxy` runs: workers, NATS, bridges with events, our frontend in both modes, haproxy. Python
standard library only."""
import json
import os
import socket
import subprocess
import urllib.parse

from jr_procs import Failed, call, find_program, free_port, metric, pool, port_open, wait_for, wait_http

HERE = os.path.dirname(os.path.abspath(__file__))
WORKERS = 4
EVENTS_A_SECOND = 100  # batches of each engine: 8 blocks stored and 8 removed
BLOCK_SIZE = 16
CACHED = ("ids1k.json", "ids16k.json", "ints32k.json", "sids1k.json")  # prompts the engines hold


def command(argv):
    got = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    return got.returncode, got.stdout, got.stderr


def rss_kb(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


class Rig:
    """Workers and the ways to them: .ways is {name: (HOST:PORT[,...], the pid whose CPU counts)}."""

    def __init__(self, procs, build, bodies):
        self.procs, self.build, self.bodies = procs, build, bodies
        self.bins = os.path.join(build, "tests", "bench", "proxy")
        first = free_port(WORKERS)
        self.ports = list(range(first, first + WORKERS))
        worker = procs.start("mockworker", [os.path.join(self.bins, "mockworker"), "-p",
                                            "%d-%d" % (first, self.ports[-1])])
        for port in self.ports:
            wait_for(lambda: port_open(port), "mock worker on %d" % port)
        self.nats = procs.nats()
        self._engines()
        self.ways = {name: self.start(name) for name in ("kv", "haproxy", "plain")}
        self.ways["direct"] = (",".join("127.0.0.1:%d" % p for p in self.ports), worker.pid)

    def _engines(self):
        """A bridge a worker, whose KV events come from kvfeed."""
        first = free_port(WORKERS)
        endpoints = ["tcp://127.0.0.1:%d" % (first + i) for i in range(WORKERS)]
        log = os.path.join(self.procs.folder, "kvfeed.log")
        argv = [os.path.join(self.build, "tests", "bench", "kvfeed"), str(EVENTS_A_SECOND), *endpoints, "--",
                *(os.path.join(self.bodies, b) for b in CACHED)]
        with open(log, "wb") as err:
            self.feed = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True)
        if self.feed.stdout.readline() != "ready\n":
            raise Failed("kvfeed did not start: see " + log)
        for i, endpoint in enumerate(endpoints):
            self.procs.start_jetrouter("bridge-%d" % i, "bridge", nats_server=self.nats.url, worker_id=i + 1,
                                       engine_url="http://127.0.0.1:%d" % self.ports[i],
                                       kv_events_endpoint=endpoint, block_size=BLOCK_SIZE)

    def close(self):
        self.feed.kill()
        self.feed.wait()
        self.feed.stdin.close()
        self.feed.stdout.close()

    def start(self, name, tag="", **options):
        """A fresh proxy: kv, plain or haproxy; options are of our frontend. (HOST:PORT, pid)"""
        p = {"kv": self._kv, "plain": self._plain, "haproxy": self._haproxy}[name](name + tag, **options)
        return "127.0.0.1:%d" % p.port, p.pid

    def _kv(self, name, **options):
        p = self.procs.frontend(name, nats=self.nats.url, router_mode="kv", **options)
        self.procs.wait_ready(p)
        wait_for(lambda: [w["state"] for w in pool(p.url)["workers"]] == ["live"] * WORKERS, "four live workers")
        if name == "kv":  # the first: engines tell what they hold once bridges and a router listen
            self.feed.stdin.write("go\n")
            self.feed.stdin.flush()
            if self.feed.stdout.readline() != "told\n":
                raise Failed("kvfeed has ended")
        held = (32768 + 2286 + 132 + 128) // BLOCK_SIZE
        wait_for(lambda: min(w["blocks"] for w in pool(p.url)["workers"]) > held, "the prompts in the index")
        return p

    def _plain(self, name, **options):
        p = self.procs.frontend(name, router_mode="round-robin",
                                worker=["http://127.0.0.1:%d" % port for port in self.ports], **options)
        self.procs.wait_ready(p)
        return p

    def _haproxy(self, name):
        port = free_port()
        with open(os.path.join(HERE, "haproxy.cfg")) as f:
            text = f.read().replace("@listen@", str(port))
        for i, w in enumerate(self.ports):
            text = text.replace("@w%d@" % (i + 1), str(w))
        path = os.path.join(self.procs.folder, name + ".cfg")
        with open(path, "w") as f:
            f.write(text)
        p = self.procs.start(name, [find_program("haproxy", "haproxy"), "-db", "-f", path])
        wait_for(lambda: port_open(port), "haproxy")
        p.port = port
        return p

    def stop(self, pid):
        self.procs.stop(next(p for p in self.procs.all if p.pid == pid), number=9)

    def set_workers(self, query):
        for port in self.ports:
            wait_http("http://127.0.0.1:%d/_mock/set?%s" % (port, query))

    def worker_stats(self, field):
        return sum(json.loads(call("GET", "http://127.0.0.1:%d/_mock/stats" % p)[2])[field] for p in self.ports)

    def metric(self, way, name):
        return metric("http://" + self.ways[way][0], name)

    def load(self, way, body, options, seconds):
        """The driver's report; errors counts every reply that was wrong or missing."""
        host, pid = self.ways[way]
        code, out, err = command([os.path.join(self.bins, "loadgen"), *options, "-d", seconds, "-b",
                                  os.path.join(self.bodies, body), "-P", pid, "http://%s/v1/completions" % host])
        if not out.startswith("{"):
            raise Failed("the load driver failed (%d): %s" % (code, err))
        return json.loads(out)


class Waiting:
    """n requests that hang at the workers, each on a connection of its own."""

    def __init__(self, rig, host, body, n):
        self.rig, self.socks = rig, []
        parts = urllib.parse.urlsplit("http://" + host)
        with open(os.path.join(rig.bodies, body), "rb") as f:
            data = f.read()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n" \
               b"Content-Length: %d\r\n\r\n" % len(data)
        before = rig.worker_stats("active")
        for _ in range(n):
            s = socket.create_connection((parts.hostname, parts.port), timeout=30)
            s.sendall(head + data)
            self.socks.append(s)
        wait_for(lambda: rig.worker_stats("active") - before >= n, "%d requests at the workers" % n)

    def close(self):
        for s in self.socks:
            s.close()
