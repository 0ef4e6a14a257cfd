# SPDX-License-Identifier: Apache-2.0
"""The processes of a cluster. Each may be killed, stopped, paused and started again with the same
arguments; what is done to it stands in the cluster's timeline, by which validators judge later."""
import http.client
import json
import os
import signal
import subprocess
import time

from jr_procs import Failed, die_with_parent, free_port


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


class Process:
    """A child with a log file. note(what, who, ...) writes into the timeline."""

    def __init__(self, name, argv, log, note, env=None):
        self.name, self.argv, self.log, self.note, self.env = name, argv, log, note, env or {}
        self.popen, self.paused = None, False
        self.starts = 0

    def start(self, env=None):
        assert not self.alive(), self.name
        with open(self.log, "ab") as out:
            out.write(b"--- start %d: %s\n" % (self.starts, " ".join(self.argv).encode()))
            out.flush()
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          env={**os.environ, **self.env, **(env or {})},
                                          start_new_session=True, preexec_fn=die_with_parent)
        self.starts += 1
        self.paused = False
        self.note("start", self.name, start=self.starts)

    def alive(self):
        return self.popen is not None and self.popen.poll() is None

    def kill(self):
        if self.popen:
            since = time.monotonic()
            self.popen.kill()
            self.popen.wait()
            self.died(since)

    def died(self, since):
        """It ended between then and now; by itself, at a failpoint, is to clients the same as a kill."""
        self.note("kill", self.name, start=self.starts, since=since)

    def await_death(self, what, timeout):
        """Until it has ended by itself; when it was last seen alive."""
        seen = time.monotonic()

        def gone():
            nonlocal seen
            now = time.monotonic()
            seen = now if self.alive() else seen
            return not self.alive()
        wait_for(gone, what, timeout)
        self.died(seen)
        return seen

    def stop(self, timeout=30):
        """SIGTERM; the exit code, or Failed when it does not end."""
        if not self.alive():
            return self.popen.returncode if self.popen else 0
        self.resume()
        self.note("stop", self.name, start=self.starts)
        self.popen.terminate()
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("%s did not end within %d s of SIGTERM" % (self.name, timeout)) from None
        self.note("ended", self.name, start=self.starts, code=code)
        return code

    def pause(self):
        self.note("pause", self.name)
        self.popen.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused:
            self.popen.send_signal(signal.SIGCONT)
            self.paused = False
            self.note("resume", self.name)

    def tail(self, lines=3):
        with open(self.log, "rb") as f:
            return b" | ".join(f.read()[-4000:].splitlines()[-lines:]).decode("utf-8", "replace")


class Frontend(Process):
    def __init__(self, cluster, number, nats_url):
        self.port = free_port()
        self.cluster = cluster
        argv = [cluster.jetrouter, "frontend", "--http-host", "127.0.0.1", "--http-port", str(self.port),
                "--router-mode", "kv", "--nats-server", nats_url, "--replica-id", "f%d" % number,
                "--lease-ttl-secs", str(cluster.ttl), *cluster.frontend_args]
        super().__init__("f%d" % number, argv, cluster.path("f%d.log" % number), cluster.timeline.note)
        self.last_at_spawn = 0  # of the stream, read just before the start

    def start(self, env=None):
        self.cluster.await_balancer(self, False)
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

    def await_ready(self, timeout=60):
        """Waits for the first 200 of /ready, writes down where the replica is then, and waits until it gets requests."""
        def check():
            if not self.alive():
                raise Failed("%s ended with %s: %s" % (self.name, self.popen.returncode, self.tail()))
            return self.ready()
        wait_for(check, lambda: "%s ready; it says %s" % (self.name, (self.state() or {}).get("replica")), timeout)
        p = self.pool()
        if p is None:
            raise Failed("%s is ready and does not answer /state" % self.name)
        self.note("ready", self.name, start=self.starts, last_at_spawn=self.last_at_spawn, **{
            k: p[k] for k in ("applied_seq", "recovery_state", "applied_seq_at_ready", "stream_last_seq_at_start")})
        self.cluster.await_balancer(self, True)
        return p


def restored(p):
    """Messages a replica did not have to read, because a snapshot covers them."""
    return p["applied_seq"] - p["counters"]["log_messages"]


class Worker(Process):
    """A mock engine; with its bridge in the same process unless the cluster has bridges apart."""

    def __init__(self, cluster, number, nats_url):
        self.port, self.id = free_port(), number + 1
        self.events, self.replay = free_port(), free_port()
        argv = [cluster.jetrouter, "mocker", "--http-host", "127.0.0.1", "--http-port", str(self.port),
                "--num-workers", "1", "--worker-id", str(self.id), "--log-level", "debug",
                "--zmq-kv-events-ports", str(self.events), "--zmq-replay-ports", str(self.replay)]
        if not cluster.bridges_apart:
            argv += ["--bridge", "--nats-server", nats_url, "--lease-ttl-secs", str(cluster.ttl), *cluster.nats_args]
        super().__init__("w%d" % number, argv + cluster.worker_args, cluster.path("w%d.log" % number),
                         cluster.timeline.note)


class Bridge(Process):
    """The bridge of a worker, as a process of its own."""

    def __init__(self, cluster, number, nats_url):
        w = cluster.workers[number]
        argv = [cluster.jetrouter, "bridge", "--engine-url", "http://127.0.0.1:%d" % w.port,
                "--kv-events-endpoint", "tcp://127.0.0.1:%d" % w.events,
                "--kv-events-replay-endpoint", "tcp://127.0.0.1:%d" % w.replay,
                "--worker-id", str(w.id), "--nats-server", nats_url, "--lease-ttl-secs", str(cluster.ttl),
                *cluster.nats_args]
        super().__init__("b%d" % number, argv, cluster.path("b%d.log" % number), cluster.timeline.note)
