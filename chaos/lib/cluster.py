# SPDX-License-Identifier: Apache-2.0
"""A cluster of real processes on this machine, and an observer that writes down what it says.

    clients -> haproxy -> frontends f0..fN -> mock workers w0..wM (each with its bridge)
                              |                  |
                              +---- nats --------+        everything below one directory

Ports come from below the ephemeral range, so that nobody else gets them while a process is down.
"""
import ctypes
import http.client
import json
import os
import signal
import subprocess
import threading
import time

from jr_procs import Failed, find_program, free_port

from .nats import Batch, Control, Nats, NatsError

NAMESPACE, COMPONENT = "dynamo", "backend"
PREFIX = "namespace-%s-component-%s" % (NAMESPACE, COMPONENT)
STREAM = PREFIX + "-kv-events"


def wait_for(fn, what, timeout=30.0, every=0.05):
    """Waits until fn() is true and returns that value; it may raise Failed to end early."""
    end = time.monotonic() + timeout
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed("not within %.0f s: %s" % (timeout, what() if callable(what) else what))
        time.sleep(every)


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """A child with a log file; may be started again with the same arguments."""

    def __init__(self, name, argv, log, env=None):
        self.name, self.argv, self.log, self.env = name, argv, log, env or {}
        self.popen, self.paused = None, False
        self.starts = 0

    def start(self, env=None):
        assert not self.alive(), self.name
        with open(self.log, "ab") as out:
            out.write(b"--- start %d: %s\n" % (self.starts, " ".join(self.argv).encode()))
            out.flush()
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          env={**os.environ, **self.env, **(env or {})},
                                          start_new_session=True, preexec_fn=_die_with_parent)
        self.starts += 1
        self.paused = False

    def alive(self):
        return self.popen is not None and self.popen.poll() is None

    def kill(self):
        if self.popen:
            self.popen.kill()
            self.popen.wait()

    def stop(self, timeout=20):
        """SIGTERM; the exit code, or Failed when it does not end."""
        if not self.alive():
            return self.popen.returncode if self.popen else 0
        self.resume()
        self.popen.terminate()
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("%s did not end within %d s of SIGTERM" % (self.name, timeout)) from None

    def pause(self):
        self.popen.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused:
            self.popen.send_signal(signal.SIGCONT)
            self.paused = False


def get_json(port, path, method="GET", body=None, timeout=5):
    """(status, JSON) of a request, or (0, None) when nobody answers."""
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        conn.request(method, path, body)
        reply = conn.getresponse()
        return reply.status, json.loads(reply.read() or b"null")
    except (OSError, http.client.HTTPException, ValueError):
        return 0, None
    finally:
        conn.close()


class Frontend(Process):
    def __init__(self, cluster, number):
        self.port = free_port()
        self.cluster = cluster
        argv = [cluster.jetrouter, "frontend", "--http-host", "127.0.0.1", "--http-port", str(self.port),
                "--router-mode", "kv", "--nats-server", cluster.nats_url,
                "--replica-id", "f%d" % number, "--lease-ttl-secs", str(cluster.ttl),
                "--drain-delay-secs", "0", *cluster.frontend_args]
        super().__init__("f%d" % number, argv, cluster.path("f%d.log" % number))
        self.last_at_spawn = 0  # of the stream, read just before the start
        self.ready_starts = 0   # starts after which readiness was seen
        self.checked = []       # violations of ReadyOnlyWhenCaughtUp, see await_ready

    def start(self, env=None):
        self.last_at_spawn = self.cluster.last_seq()
        super().start(env)

    def state(self, timeout=5):
        if not self.alive() or self.paused:
            return None
        return get_json(self.port, "/state", timeout=timeout)[1]

    def pool(self):
        s = self.state()
        return s["pools"][0] if s and s["pools"] else None

    def ready(self):
        return self.alive() and not self.paused and get_json(self.port, "/ready")[0] == 200

    def await_ready(self, timeout=40):
        """Waits for /ready and checks, at its first 200, that the replica had caught up."""
        def check():
            if not self.alive():
                raise Failed("%s ended with %s: %s" % (self.name, self.popen.returncode, self.tail()))
            return self.ready()
        wait_for(check, lambda: "%s ready; it says %s" % (self.name, (self.state() or {}).get("replica")), timeout)
        p = self.pool()
        if p["recovery_state"] != "degraded" and (
                p["applied_seq"] < self.last_at_spawn or p["applied_seq_at_ready"] < p["stream_last_seq_at_start"]):
            self.checked.append("%s was ready at %d (said: %d of %d) but the stream held %d before its start" % (
                self.name, p["applied_seq"], p["applied_seq_at_ready"], p["stream_last_seq_at_start"],
                self.last_at_spawn))
        self.ready_starts += 1
        return p

    def tail(self, lines=3):
        with open(self.log, "rb") as f:
            return b" | ".join(f.read()[-4000:].splitlines()[-lines:]).decode("utf-8", "replace")


def restored(p):
    """Messages a replica did not have to read, because a snapshot covers them."""
    return p["applied_seq"] - p["counters"]["log_messages"]


class Worker(Process):
    def __init__(self, cluster, number):
        self.port, self.id = free_port(), number + 1
        argv = [cluster.jetrouter, "mocker", "--http-host", "127.0.0.1", "--http-port", str(self.port),
                "--num-workers", "1", "--worker-id", str(self.id), "--nats-server", cluster.nats_url,
                "--lease-ttl-secs", str(cluster.ttl), "--zmq-kv-events-ports", str(free_port()),
                "--zmq-replay-ports", str(free_port()), "--bridge", *cluster.worker_args]
        super().__init__("w%d" % number, argv, cluster.path("w%d.log" % number))

    def healthy(self):
        return self.alive() and get_json(self.port, "/health")[0] in (200,) or self._plain_health()

    def _plain_health(self):
        try:
            conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            conn.request("GET", "/health")
            return conn.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


HAPROXY = """global
    maxconn 2000
    nbthread 1
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    retries 5
    option redispatch 1
    retry-on conn-failure
    http-reuse never
frontend clients
    bind 127.0.0.1:@listen@
    http-after-response set-header X-Replica %[srv_name]
    default_backend replicas
backend replicas
    balance roundrobin
    option httpchk GET /ready
    default-server check inter 150ms fastinter 100ms fall 1 rise 2 observe layer4 error-limit 1 on-error mark-down
"""


class Cluster:
    def __init__(self, jetrouter, directory, replicas=2, workers=3, haproxy=False, ttl=2.0, threshold=150,
                 frontend_args=(), worker_args=()):
        self.jetrouter, self.dir, self.ttl = jetrouter, directory, ttl
        os.makedirs(directory, exist_ok=True)
        self.nats_port = free_port()
        self.nats_url = "nats://127.0.0.1:%d" % self.nats_port
        self.frontend_args = ["--router-snapshot-threshold", str(threshold), "--stale-worker-secs", "4",
                              "--ready-timeout-secs", "5", *frontend_args]
        self.worker_args = ["--num-gpu-blocks-override", "400", "--speedup-ratio", "30",
                            "--max-model-len", "8192", *worker_args]
        self.nats = Process("nats", [os.environ.get("JR_NATS_SERVER") or find_program("nats-server", "nats-server"), "-js", "-a", "127.0.0.1",
                                     "-p", str(self.nats_port), "-sd", self.path("js")], self.path("nats.log"))
        self.frontends = [Frontend(self, i) for i in range(replicas)]
        self.workers = [Worker(self, i) for i in range(workers)]
        self.haproxy = self._haproxy() if haproxy else None
        self.observer, self.follower = Observer(self), Follower(self)

    def path(self, name):
        return os.path.join(self.dir, name)

    def _haproxy(self):
        self.front_port = free_port()
        text = HAPROXY.replace("@listen@", str(self.front_port))
        for f in self.frontends:
            text += "    server %s 127.0.0.1:%d\n" % (f.name, f.port)
        with open(self.path("haproxy.cfg"), "w") as f:
            f.write(text)
        return Process("haproxy", [find_program("haproxy", "haproxy"), "-db", "-f", self.path("haproxy.cfg")],
                       self.path("haproxy.log"))

    # ---- life

    def start(self):
        self.start_nats()
        self.follower.start()
        for p in self.workers + self.frontends:
            p.start()
        for f in self.frontends:
            f.await_ready()
        self.await_workers()
        if self.haproxy:
            self.haproxy.start()
            self.await_front()
        self.observer.start()
        return self

    def start_nats(self):
        self.nats.start()
        wait_for(self.nats_answers, "nats-server with JetStream", 15)

    def nats_answers(self):
        try:
            with Nats(self.nats_port) as n:
                n.api("INFO")
                return True
        except (OSError, NatsError, ValueError):
            return False

    def await_front(self):
        wait_for(lambda: get_json(self.front_port, "/ready")[0] == 200, "an answer through haproxy", 15)

    def close(self):
        """Ends everything; what did not end by itself, or crashed, is told."""
        self.observer.stop()
        self.follower.stop()
        bad = []
        for p in self.frontends + self.workers:
            if p.popen is None:
                continue
            died = not p.alive()
            try:
                code = p.stop()
            except Failed as e:
                bad.append(str(e))
                continue
            if not died and code != 0:
                bad.append("%s ended with %s after SIGTERM" % (p.name, code))
        for p in [self.haproxy, self.nats]:
            if p:
                p.kill()
        return bad

    def processes(self):
        return [p for p in [self.nats, self.haproxy] + self.frontends + self.workers if p]

    # ---- looking in

    def connect(self):
        return Nats(self.nats_port)

    def last_seq(self):
        """Of the event stream; 0 while there is none or no server."""
        try:
            with self.connect() as n:
                return n.stream_info(STREAM)["state"]["last_seq"]
        except (OSError, NatsError, ValueError):
            return 0

    def up(self):
        return [f for f in self.frontends if f.alive() and not f.paused]

    def pools(self):
        """Of every replica that runs; all of them must answer."""
        out = {f.name: f.pool() for f in self.up()}
        for name, p in out.items():
            if p is None:
                raise Failed("%s does not answer /state" % name)
        return out

    def leader(self):
        for f in self.up():
            p = f.pool()
            if p and p["leader"]:
                return f
        return None

    def await_leader(self, other_than=None, timeout=20):
        def found():
            f = self.leader()
            return f if f is not other_than else None
        return wait_for(found, "a replica that leads", timeout)

    def await_workers(self, timeout=30, workers=None):
        """Every replica lists every living worker as live."""
        want = {str(w.id) for w in (self.workers if workers is None else workers) if w.alive()}

        def listed():
            for f in self.up():
                p = f.pool()
                if not p or not want <= {w["worker_id"] for w in p["workers"] if w["state"] == "live"}:
                    return False
            return True
        wait_for(listed, lambda: "workers %s live on every replica; they list %s" % (
            sorted(want), {k: [(w["worker_id"], w["state"]) for w in (p or {}).get("workers", ())]
                           for k, p in self.pools().items()}), timeout)

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

    def await_healthy(self, timeout=40):
        wait_for(lambda: self.healthy() is None, lambda: "a healthy cluster: %s" % self.healthy(), timeout)
        self.await_workers(timeout)

    def quiesce(self, timeout=40, rest=1.5):
        """After traffic: every replica at the stream's end, which no longer moves, and at rest."""
        self.await_healthy(timeout)
        seen = {}

        def at_rest():
            last = self.last_seq()
            pools = self.pools()
            still = all(p and p["applied_seq"] == last and p["bookings"] == 0 for p in pools.values())
            if not still or seen.get("last") != last:
                seen.update(last=last, at=time.monotonic())
                return False
            return time.monotonic() - seen["at"] > rest
        wait_for(at_rest, lambda: "rest: stream at %d, replicas at %s" % (self.last_seq(), {
            k: p and (p["applied_seq"], p["recovery_state"], p["bookings"]) for k, p in self.pools().items()}), timeout)


class Observer:
    """Writes a line of every replica's state and of the stream several times a second."""

    def __init__(self, cluster, every=0.25):
        self.cluster, self.every = cluster, every
        self.history, self.lock = [], threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.conn = None

    def start(self):
        self.thread.start()

    def stop(self):
        self.stopping.set()
        if self.thread.ident:
            self.thread.join(20)

    def records(self):
        with self.lock:
            return list(self.history)

    def _stream(self):
        """First sequence and what the purge may reach, in this order: both only grow."""
        try:
            if not self.conn:
                self.conn = self.cluster.connect()
            info = self.conn.stream_info(STREAM)
            record = self.conn.last("KV_%s-state" % PREFIX, "$KV.%s-state.snapshots" % PREFIX)
            return {"created": info["created"], "first": info["state"]["first_seq"],
                    "last": info["state"]["last_seq"], "snapshots": json.loads(record[1]) if record and record[1] else {}}
        except (OSError, NatsError, ValueError) as e:
            if self.conn:
                self.conn.close()
            self.conn = None
            return {"error": str(e)}

    def _sample(self, f):
        s = f.state(timeout=2)
        if not s:
            return None
        p = dict(s["pools"][0]) if s["pools"] else {}
        for key in ("workers", "peers", "namespace", "component", "stream"):
            p.pop(key, None)
        return {"start": f.starts, "incarnation": s["replica"]["incarnation"], "ready": s["replica"]["ready"],
                "because": s["replica"]["because"], "nats": s["nats"], "pool": p}

    def _run(self):
        with open(self.cluster.path("history.jsonl"), "w") as out:
            while not self.stopping.wait(self.every):
                line = {"t": time.monotonic(), "stream": self._stream(),
                        "replicas": {f.name: self._sample(f) for f in self.cluster.frontends}}
                with self.lock:
                    self.history.append(line)
                out.write(json.dumps(line) + "\n")
                out.flush()


class Follower:
    """Reads the event stream while it is written, so that nothing of it is lost to a purge."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.created, self.next = None, 1
        self.log = []      # [(sequence, Batch or Control)] of the stream as it is now
        self.whole = True  # from its first message, without a gap
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()

    def stop(self):
        self.stopping.set()
        if self.thread.ident:
            self.thread.join(20)

    def await_seq(self, seq):
        wait_for(lambda: self.next > seq, lambda: "the follower at %d; it is at %d" % (seq, self.next - 1), 30)

    def _read(self, conn):
        info = conn.stream_info(STREAM)
        state = info["state"]
        if info["created"] != self.created or state["last_seq"] + 1 < self.next:
            self.created, self.next, self.log, self.whole = info["created"], 1, [], True
        while self.next <= state["last_seq"] and not self.stopping.is_set():
            m = conn.message(STREAM, self.next)
            if m is None:
                self.whole = False
            else:
                self.log.append((self.next, Batch(m[2]) if m[0].endswith(".batch") else Control(m[2])))
            self.next += 1

    def _run(self):
        while not self.stopping.is_set():
            try:
                with self.cluster.connect() as conn:
                    while not self.stopping.wait(0.05):
                        self._read(conn)
            except (OSError, NatsError, ValueError):
                self.stopping.wait(0.2)  # no server, or no stream yet
