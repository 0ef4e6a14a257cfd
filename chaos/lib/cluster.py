# SPDX-License-Identifier: Apache-2.0
"""A cluster of real processes on this machine.

    clients -> haproxy -> frontends f0..fN -> mock workers w0..wM (each with its bridge)
                              |                  |
                            (links)           (links)
                              |                  |
                              +---- nats --------+        everything below one directory

Ports come from below the ephemeral range, so that nobody else gets them while a process is down.
"""
import csv
import json
import os
import socket
import time

from jr_link import Link
from jr_procs import ROOT, Failed, find_program, free_port

from . import validate
from .nats import Nats
from .observe import AWAY, PREFIX, STREAM, Follower, Observer, Timeline
from .process import Bridge, Frontend, Process, Worker, get_json, wait_for

HAPROXY = """global
    maxconn 4000
    nbthread 1
    stats socket ipv4@127.0.0.1:@stats@ level user
defaults
    mode http
    timeout connect 2s
    timeout client 120s
    timeout server 120s
    timeout check 10s
    retries 5
    option redispatch 1
    retry-on conn-failure
    http-reuse never
    option http-no-delay
frontend clients
    bind 127.0.0.1:@listen@
    http-after-response set-header X-Replica %[srv_name]
    default_backend replicas
backend replicas
    balance roundrobin
    option httpchk GET /ready
    default-server check inter 1s fastinter 200ms downinter 200ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down
"""


def nats_program(newest=False):
    """The nats-server to run; newest: the one that ./dev setup --all builds, where it is."""
    built = os.path.join(ROOT, "build", "go", "nats-server")
    if os.environ.get("JR_NATS_SERVER"):
        return os.environ["JR_NATS_SERVER"]
    return built if newest and os.access(built, os.X_OK) else find_program("nats-server", "nats-server")


class Cluster:
    """links: "replicas" or "all" who reach NATS through a link of their own that can be cut.
    nats_nodes: 3 is a NATS cluster with three copies of everything. older: the build that the
    frontends begin as."""

    def __init__(self, jetrouter, directory, replicas=2, workers=3, haproxy=False, ttl=2.0, threshold=150,
                 drain_delay=0, links="", bridges_apart=False, nats_nodes=1, nats_config="", follow=True,
                 stream_max_bytes=None, ready_timeout=5, older=None, frontend_args=(), worker_args=()):
        self.jetrouter, self.dir, self.ttl = jetrouter, directory, ttl
        self.bridges_apart, self.links = bridges_apart, {}
        os.makedirs(directory, exist_ok=True)
        self.timeline = Timeline(self.path("events.jsonl"))
        self.nats_args = ["--nats-replicas", "3"] if nats_nodes > 1 else []
        self.nats_args += ["--stream-max-bytes", str(stream_max_bytes)] if stream_max_bytes else []
        self.frontend_args = ["--router-snapshot-threshold", str(threshold), "--stale-worker-secs", "4",
                              "--ready-timeout-secs", str(ready_timeout), "--drain-delay-secs", str(drain_delay),
                              *self.nats_args, *frontend_args]
        self.worker_args = ["--num-gpu-blocks-override", "400", "--speedup-ratio", "30",
                            "--max-model-len", "8192", *worker_args]
        self.servers = self._servers(nats_nodes, nats_config)
        self.nats = self.servers[0]
        self.frontends = [Frontend(self, i, self._nats_url("f%d" % i, links)) for i in range(replicas)]
        self.workers = [Worker(self, i, self._nats_url("w%d" % i, links == "all" and links)) for i in range(workers)]
        for f in self.frontends:
            f.argv[0] = older or jetrouter
        self.bridges = [Bridge(self, i, self.nats_url) for i in range(workers)] if bridges_apart else []
        self.haproxy = self._haproxy() if haproxy else None
        self.observer, self.follower = Observer(self), Follower(self) if follow else None

    def path(self, name):
        return os.path.join(self.dir, name)

    def _servers(self, n, config):
        ports, routes = free_port(n), free_port(n)
        self.nats_ports = [ports + i for i in range(n)]
        self.nats_url = ",".join("nats://127.0.0.1:%d" % p for p in self.nats_ports)
        servers = []
        for i, port in enumerate(self.nats_ports):
            argv = [nats_program(newest=n > 1), "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", self.path("js%d" % i)]
            if n > 1:
                argv += ["-n", "n%d" % i, "--cluster_name", "chaos", "--cluster", "nats://127.0.0.1:%d" % (routes + i),
                         "--routes", ",".join("nats://127.0.0.1:%d" % (routes + k) for k in range(n))]
            if config:
                with open(self.path("nats.conf"), "w") as f:
                    f.write(config)
                argv += ["-c", self.path("nats.conf")]
            servers.append(Process("n%d" % i, argv, self.path("n%d.log" % i), self.timeline.note))
        return servers

    def _nats_url(self, name, linked):
        if not linked:
            return self.nats_url
        self.links[name] = Link(self.nats_ports[0])
        return self.links[name].url

    def _haproxy(self):
        self.front_port, self.stats_port = free_port(), free_port()
        text = HAPROXY.replace("@listen@", str(self.front_port)).replace("@stats@", str(self.stats_port))
        for f in self.frontends:
            text += "    server %s 127.0.0.1:%d\n" % (f.name, f.port)
        with open(self.path("haproxy.cfg"), "w") as f:
            f.write(text)
        return Process("haproxy", [find_program("haproxy", "haproxy"), "-db", "-f", self.path("haproxy.cfg")],
                       self.path("haproxy.log"), self.timeline.note)

    # ---- life

    def start(self):
        self.start_nats()
        if self.follower:
            self.follower.start()
        self.observer.start()
        for p in self.workers + self.bridges + self.frontends:
            p.start()
        for f in self.frontends:
            f.await_ready()
        self.await_workers(60)
        if self.haproxy:
            self.haproxy.start()
            self.await_front()
        return self

    def await_front(self):
        wait_for(lambda: get_json(self.front_port, "/ready")[0] == 200, "an answer through haproxy")

    def await_balancer(self, f, sends):
        """The load balancer has seen that a replica is ready, or that it ended: else it sends requests to one that
        has just started, and none to the only one that is left."""
        def says():
            with socket.create_connection(("127.0.0.1", self.stats_port), timeout=5) as s, s.makefile() as answer:
                s.sendall(b"show stat\n")
                rows = csv.DictReader(answer.read().lstrip("# ").splitlines())
                return next(r["status"] for r in rows if r["svname"] == f.name)
        if self.haproxy and self.haproxy.alive():
            wait_for(lambda: says().startswith("UP") == sends, lambda: "haproxy sees %s as it is; it says %s" % (f.name, says()))

    def start_nats(self):
        for s in self.servers:
            if not s.alive():
                s.start()
        wait_for(self.nats_answers, "nats-server with JetStream", 60)

    def nats_answers(self):
        """JetStream answers; of a cluster also that it can place three copies."""
        try:
            with self.connect() as n:
                n.api("INFO")
                if len(self.servers) > 1:
                    n.api("STREAM.CREATE.try", {"name": "try", "subjects": ["try"], "num_replicas": 3})
                    n.api("STREAM.DELETE.try")
                return True
        except AWAY:
            return False

    def close(self):
        """Ends everything; what did not end in order is told."""
        self.observer.stop()
        if self.follower:
            self.follower.stop()
        bad = []
        for p in self.frontends + self.bridges + self.workers:
            died = not p.alive()
            try:
                code = p.stop()
            except Failed as e:
                bad.append(str(e))
                continue
            if not died and code != 0:
                bad.append("%s ended with %s after SIGTERM" % (p.name, code))
        for p in [self.haproxy, *self.servers]:
            if p and p.alive():
                p.popen.kill()
                p.popen.wait()
        for link in self.links.values():
            link.close()
        self.timeline.close()
        return bad

    def processes(self):
        return [p for p in self.servers + [self.haproxy] + self.frontends + self.workers + self.bridges if p]

    # ---- looking in

    def connect(self, timeout=3.0):
        """To a server that runs; through no link."""
        for s, port in zip(self.servers, self.nats_ports):
            if s.alive():
                return Nats(port, timeout)
        raise OSError("no nats-server runs")

    def last_seq(self):
        """Of the event stream; 0 while there is none or no server."""
        try:
            with self.connect() as n:
                return n.stream_info(STREAM)["state"]["last_seq"]
        except AWAY:
            return 0

    def snapshot_record(self):
        """The record of verified snapshots, as it stands in the state bucket; {} while nobody says."""
        try:
            with self.connect() as conn:
                m = conn.last("KV_%s-state" % PREFIX, "$KV.%s-state.snapshots" % PREFIX)
            return json.loads(m[1]) if m and m[1] else {}
        except AWAY:
            return {}

    def snapshot_seq(self):
        return int((self.snapshot_record().get("newest") or {}).get("seq", 0))

    def up(self):
        return [f for f in self.frontends if f.alive() and not f.paused]

    def pools(self):
        """Of every replica that runs; all of them must answer."""
        out = {f.name: f.pool() for f in self.up()}
        for name, p in out.items():
            if p is None:
                raise Failed("%s does not answer /state" % name)
        return out

    def await_pools(self, condition, what, timeout=60):
        """Until condition(pool) holds on every replica that runs."""
        wait_for(lambda: all(condition(p) for p in self.pools().values()), what, timeout)

    def leader(self):
        for f in self.up():
            p = f.pool()
            if p and p["leader"]:
                return f
        return None

    def await_leader(self, other_than=None, timeout=40):
        def found():
            f = self.leader()
            return f if f is not other_than else None
        return wait_for(found, "a replica that leads", timeout)

    def await_workers(self, timeout=40):
        """Every replica lists every living worker as live."""
        want = {str(w.id) for w in self.workers if w.alive()}

        def listed():
            for f in self.up():
                p = f.pool()
                if not p or not want <= {w["worker_id"] for w in p["workers"] if w["state"] == "live"}:
                    return False
            return True
        wait_for(listed, lambda: "workers %s live on every replica; they list %s" % (
            sorted(want), {k: [(w["worker_id"], w["state"]) for w in (p or {}).get("workers", ())]
                           for k, p in self.pools().items()}), timeout)

    def blocks_of(self, worker):
        """Blocks each replica has of a worker; None where it is not listed."""
        return {n: next((w["blocks"] for w in p["workers"] if w["worker_id"] == str(worker.id)), None)
                for n, p in self.pools().items()}

    def healthy(self):
        """Health before and after a fault: None, or what is wrong."""
        for f in self.frontends:
            if not f.alive():
                return "%s does not run" % f.name
            s = f.state()
            if not s:
                return "%s does not answer" % f.name
            if not s["replica"]["ready"]:
                return "%s is not ready: %s" % (f.name, s["replica"]["because"])
            if not s["nats"]["connected"]:
                return "%s has no NATS" % f.name
            if s["pools"][0]["digest_mismatch"]:
                return "%s has a digest that its peers do not have" % f.name
        return None

    def await_healthy(self, timeout=60):
        wait_for(lambda: self.healthy() is None, lambda: "a healthy cluster: %s" % self.healthy(), timeout)
        self.await_workers(timeout)

    def quiesce(self, timeout=60, rest=1.0):
        """After traffic: every replica at the stream's end, which no longer moves, and at rest. The position,
        and the states that all of them were in then."""
        self.await_healthy(timeout)
        seen = {}

        def at_rest():
            last = self.last_seq()
            states = {f.name: f.state() for f in self.up()}
            seen["moves"] = moves(states, last)
            if seen["moves"] or seen.get("last") != last:
                seen.update(last=last, at=time.monotonic())
                return False
            return time.monotonic() - seen["at"] > rest and (last, states)
        return wait_for(at_rest, lambda: "rest: stream at %d; %s" % (self.last_seq(), "; ".join(seen["moves"])), timeout)

    def await_told(self, timeout=60):
        """What the engines hold is what every replica knows of them: the last events have come."""
        def held(w):
            answer = get_json(w.port, "/mock/cache")[1]
            return answer and sum(len(r["blocks"]) for r in answer["ranks"])

        def differences():
            blocks = {w: (held(w), self.blocks_of(w)) for w in self.workers}
            return ["worker %d: %s, %s" % (w.id, *b) for w, b in blocks.items() if set(b[1].values()) != {b[0]}]
        wait_for(lambda: not differences(), lambda: "replicas know the blocks that engines hold; %s" % differences(), timeout)


def moves(states, last):
    """What keeps replicas from being at rest at a position, in words."""
    out = validate.LoadReturnsToZero(states)
    for name, s in states.items():
        p = s and s["pools"][0]
        if p and (p["applied_seq"] != last or p["index_is_old"]):
            out.append("%s at %d, %s" % (name, p["applied_seq"], p["recovery_state"]))
    return out
