# SPDX-License-Identifier: Apache-2.0
"""NATS goes away under traffic and comes back: routing goes on, nobody is given up, and afterwards
events and loads are what they would be. Two replicas, two engines with their bridges, a TTL of 2 s,
so that six leases' time is what half a minute is with the default of 5 s.

JR_LONG_OUTAGE_SECS=600 adds an outage of so many seconds."""
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import unittest

import jr_link
import jr_procs as jr
import jr_worker as play

TTL = 2
BLOCK = 16
LONG = float(os.environ.get("JR_LONG_OUTAGE_SECS", "0"))


def prompt(n, blocks=6):
    """The n-th prompt: shares no block with another."""
    return [n + 1] + [(n * 7919 + i * 31) % 30000 for i in range(blocks * BLOCK - 1)]


class Traffic:
    """One client a replica, request after request; and is it ready all along?"""

    def __init__(self, replicas):
        self.failed, self.n, self.stop = [], 0, threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(f, i), daemon=True)
                        for i, f in enumerate(replicas)]
        for t in self.threads:
            t.start()

    def _run(self, f, i):
        while not self.stop.is_set():
            self.n += 1
            body = {"model": "mock-model", "prompt": prompt(100 + self.n % 7 + 10 * i), "max_tokens": 2}
            for method, path, data in (("POST", "/v1/completions", body), ("GET", "/ready", None)):
                try:
                    status, _, text = jr.call(method, f.url + path, data)
                except OSError as e:
                    status, text = 0, str(e)
                if status != 200:
                    self.failed.append((f.name, path, status, text[:200]))
            self.stop.wait(0.03)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(60)


class Outage(unittest.TestCase):
    options = {}

    def setUp(self):
        self.procs = jr.procs_of(self)
        self.traffic, self.streams = None, []
        self.nats = self.start_nats()
        self.mocker = self.procs.mocker("workers", n=2, bridge=True, nats=self.nats.url, namespace="test",
                                        block_size=BLOCK, lease_ttl_secs=TTL, **self.options)
        self.replicas = [self.replica(name) for name in ("a", "b")]
        for f in self.replicas:
            self.procs.wait_ready(f)
            self.well(f)

    def start_nats(self):
        return self.procs.nats()

    def replica(self, name, **kw):
        return self.procs.frontend(name, nats=self.nats.url, namespace="test", router_mode="kv",
                                   lease_ttl_secs=TTL, drain_delay_secs=0, log_level="debug",
                                   **{**self.options, **kw})

    def tearDown(self):
        if self.traffic:
            self.traffic.end()
        for s in self.streams:
            s.close()
        for f in self.replicas:
            self.assertEqual(f.stop() if f.running() else f.code(), 0, f.tail(60))

    def begin_traffic(self):
        self.traffic = Traffic(self.replicas)
        jr.wait_for(lambda: self.traffic.n > 20, "traffic")

    def workers(self, f):
        return jr.pool(f.url)["workers"]

    def well(self, f, timeout=60):
        """Both workers have their leases, and what they hold counts."""
        jr.wait_for(lambda: [(w["state"], w["credited"]) for w in self.workers(f)] == [("live", True)] * 2,
                    lambda: "two workers with credit at %s: %s" % (f.name, self.workers(f)), timeout)

    def ask(self, f, n):
        """Asks long prompt n: (worker, did it hold most of it, by its own word and by the replica's index)."""
        status, head, text = jr.call("POST", f.url + "/v1/completions", {
            "model": "mock-model", "prompt": prompt(n, 200), "max_tokens": 2}, jr.EXPLAIN)
        self.assertEqual(status, 200, text)
        cached = json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"]
        predicted = int(head["x-jetrouter-predicted-tokens"])
        return head["x-jetrouter-worker"], min(cached, predicted) >= 100 * BLOCK

    def degraded(self, f, since):
        """It says so, and since when, everywhere it should."""
        health = json.loads(jr.wait_http(
            f.url + "/health", lambda status, text: json.loads(text)["status"] == "degraded", proc=f))
        self.assertGreaterEqual(health["degraded_since"], int(since) - 1)
        self.assertLessEqual(health["degraded_since"], time.time() + 1)
        self.assertTrue(health["because"])
        state = jr.get_json(f.url + "/state")["nats"]
        self.assertTrue(state["degraded"])
        self.assertLessEqual(abs(state["degraded_since"] - health["degraded_since"]), 1)
        self.assertGreaterEqual(state["degraded_seconds"], health["degraded_seconds"])
        self.assertGreater(jr.metric(f.url, "jetrouter_degraded_seconds"), 0)

    def healthy(self, f, timeout=180):
        """Everywhere it should say so, at one time: a disk with room again is well for a moment before its server
        is started anew."""
        def well():
            return json.loads(jr.get(f.url + "/health")[1])["status"] == "healthy" and \
                jr.metric(f.url, "jetrouter_degraded_seconds") == 0 and \
                jr.get_json(f.url + "/state")["nats"]["degraded_since"] == 0 and \
                jr.pool(f.url)["recovery_state"] == "ready"
        jr.wait_for(well, lambda: "%s is healthy and at rest: %s, %s" % (
            f.name, jr.get(f.url + "/health")[1], jr.pool(f.url)["recovery_state"]), timeout)
        self.well(f, timeout)

    def hold(self, f):
        """A stream that goes on for long."""
        s = play.Stream(f.url + "/v1/completions", {
            "model": "mock-model", "prompt": prompt(1), "max_tokens": 100000, "stream": True,
            "ignore_eos": True}, timeout=120)
        self.streams.append(s)
        self.assertEqual(s.head(), 200)
        s.line()
        return s

    def of_peer(self, f):
        return sum(p["active_requests"] for p in jr.pool(f.url)["peers"])

    def agree(self, timeout=60):
        """Both at one sequence with one digest, and nothing in flight."""
        def same():
            views = [jr.pool(f.url) for f in self.replicas]
            return len({(v["applied_seq"], v["digest"]) for v in views}) == 1 and \
                all(sum(w["active_requests"] for w in v["workers"]) == 0 for v in views) and views
        return jr.wait_for(same, lambda: "agreement: %s" % [
            (v["applied_seq"], v["digest"], [w["active_requests"] for w in v["workers"]])
            for v in (jr.pool(f.url) for f in self.replicas)], timeout)

    def lives_through(self, away, back, seconds):
        """away(), the time of an outage, back(): what must hold before, meanwhile and after."""
        a, b = self.replicas
        stream = self.hold(a)
        jr.wait_for(lambda: self.of_peer(b) == 1, "the stream at b")
        self.begin_traffic()
        known = self.ask(a, 7)[0]
        jr.wait_for(lambda: all(self.ask(f, 7) == (known, True) for f in self.replicas), "both know of prompt 7")
        began = time.time()
        away()
        for f in self.replicas:
            self.degraded(f, began)
            self.assertEqual(self.ask(f, 7)[0], known, "routing goes on, by what is known")
        self.assertGreaterEqual(self.of_peer(b), 1, "what was in flight is still believed")
        learned = self.ask(a, 8)[0]  # its events wait with the bridge
        jr.wait_for(lambda: time.time() >= began + seconds, "the outage", seconds + 60)
        self.assertEqual({(w["state"], w["credited"]) for f in self.replicas for w in self.workers(f)},
                         {("live", True)}, "nobody is given up meanwhile")
        back()
        for f in self.replicas:
            self.healthy(f)
        jr.wait_for(lambda: self.of_peer(b) == 1, "the stream counts at b")
        # A bridge whose lease lapsed begins anew just then.
        for n, worker in ((8, learned), (7, known)):
            jr.wait_for(lambda n=n, worker=worker: self.ask(b, n) == (worker, True), "events caught up")
        self.traffic.end()
        self.assertEqual(self.traffic.failed, [])
        stream.close()
        self.agree()

    def stop_nats(self):
        self.nats.kill()

    def start_again(self):
        self.nats = self.procs.restart(self.nats)


class Restart(Outage):
    def test_a_second(self):
        self.lives_through(self.stop_nats, self.start_again, TTL / 2)

    def test_half_a_minute(self):
        self.lives_through(self.stop_nats, self.start_again, 6 * TTL)

    def test_ten_minutes(self):
        """So long that bridges overflow what they gather, and begin anew; of its length by option."""
        self.lives_through(self.stop_nats, self.start_again, LONG or 8 * TTL)

    def test_without_data(self):
        def back():
            shutil.rmtree(os.path.join(self.procs.folder, "nats"))
            self.start_again()
        self.lives_through(self.stop_nats, back, TTL)


class Paused(Outage):
    """The server takes no bytes and ends no connection: a stopped process, a host that hangs."""

    def test_paused(self):
        self.lives_through(lambda: self.nats.send(signal.SIGSTOP), lambda: self.nats.send(signal.SIGCONT),
                           4 * TTL)


class StartedBlind(Outage):
    def test_started_while_nats_is_away(self):
        """Ready after a time, saying how; it knows no worker; and goes on with the others afterwards. As does one
        that has more time, and waits."""
        a, _ = self.replicas
        known = self.ask(a, 7)[0]
        self.stop_nats()
        began = time.time()
        waits, c = self.replica("waits", ready_timeout_secs=3600), self.replica("c", ready_timeout_secs=1)
        self.replicas += [waits, c]
        body = jr.wait_http(waits.url + "/ready", lambda status, text: status == 503, proc=waits)
        self.assertIn("NATS", json.loads(body)["because"])
        ready = self.procs.wait_ready(c)
        self.assertEqual([p["recovery_state"] for p in ready["pools"]], ["degraded"])
        self.degraded(c, began)
        self.assertEqual(jr.get_json(c.url + "/v1/models")["data"], [])
        status, head, _ = jr.call("POST", c.url + "/v1/completions",
                                  {"model": "mock-model", "prompt": prompt(1), "max_tokens": 2})
        self.assertEqual((status, head["retry-after"]), (503, "1"))
        self.start_again()
        for f in self.replicas:
            self.healthy(f)
            self.assertEqual(jr.get(f.url + "/ready")[0], 200)
            jr.wait_for(lambda f=f: self.ask(f, 7) == (known, True), "its index counts at " + f.name)
        self.agree()


class Slow(Outage):
    """Seconds each way, more than a lease lives: replicas cannot keep theirs, and know it."""

    def start_nats(self):
        server = self.procs.nats()
        self.link = jr_link.Link(server.port)
        self.addCleanup(self.link.close)
        return server

    def replica(self, name, **kw):
        f = self.procs.frontend(name, nats=self.link.url, namespace="test", router_mode="kv",
                                lease_ttl_secs=TTL, drain_delay_secs=0, log_level="debug", **kw)
        return f

    def test_slow(self):
        def slow():
            self.link.delay.update(up=1.5, down=1.5)
        self.lives_through(slow, self.link.heal, 6 * TTL)


class FullDisk(Outage):
    """Not a byte more can be stored. nats-server 2.9 then answers nobody, newer ones refuse what goes
    to the streams that met it: in both cases room alone does not help, it must be restarted."""
    options = {"stream_max_bytes": 8 << 20}

    def start_nats(self):
        port, self.small = jr.free_port(), os.path.join(self.procs.folder, "small")
        os.mkdir(self.small)
        p = self.procs.start("nats", [
            jr.find_program("unshare", "util-linux"), "-rm", "sh", "-c",
            'mount -t tmpfs -o size=48m none "$1" && while :; do '
            'setpriv --pdeathsig KILL "$2" -a 127.0.0.1 -p "$3" -js -sd "$1"; done',
            "sh", self.small, jr.find_program("nats-server", "nats-server"), str(port)])
        p.port, p.url = port, "nats://127.0.0.1:%d" % port
        jr.wait_for(lambda: jr.port_open(port) or not p.running(), "nats-server")
        self.filler = "/proc/%d/root%s/filler" % (p.pid, self.small)
        return p

    def fill(self):
        fd = os.open(self.filler, os.O_CREAT | os.O_WRONLY)
        for size in (65536, 4096):
            try:
                while True:
                    os.write(fd, b"x" * size)
            except OSError:
                pass
        os.close(fd)

    def make_room(self):
        os.unlink(self.filler)
        with open("/proc/%d/task/%d/children" % (self.nats.pid, self.nats.pid)) as f:
            os.kill(int(f.read().split()[0]), signal.SIGKILL)

    def test_full(self):
        self.lives_through(self.fill, self.make_room, 4 * TTL)


def may_mount():
    """Needs a mount namespace of its own for a disk that is small."""
    return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False,
                          capture_output=True).returncode == 0


if __name__ == "__main__":
    if not may_mount():
        print("not run: FullDisk, no mount namespaces here")
        del FullDisk
    unittest.main()
