# SPDX-License-Identifier: Apache-2.0
"""Who looks on while a scenario runs, and writes down what it sees: the timeline of what was done, the
observer of replicas and stream, the follower of the event stream. What they write is all that the
validators know (record.py reads it)."""
import base64
import json
import threading
import time

from .nats import NatsError, pool_names
from .process import wait_for

PREFIX, STREAM = pool_names("dynamo", "backend")
AWAY = (OSError, NatsError, ValueError, KeyError)  # of a server that is not there


class Timeline:
    """events.jsonl: what was done to whom, and what a scenario found. From any thread."""

    def __init__(self, path):
        self.file, self.lock = open(path, "a"), threading.Lock()

    def note(self, what, who="", **kw):
        line = json.dumps({"t": time.monotonic(), "what": what, "who": who, **kw}) + "\n"
        with self.lock:
            if not self.file.closed:
                self.file.write(line)
                self.file.flush()

    def close(self):
        with self.lock:
            self.file.close()


class Observer:
    """history.jsonl: a line of every replica's state and of the stream several times a second."""

    def __init__(self, cluster, every=0.25):
        self.cluster, self.every = cluster, every
        self.last = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.conn = None

    def start(self):
        self.thread.start()

    def stop(self):
        self.stopping.set()
        if self.thread.ident:
            self.thread.join(20)

    def _stream(self):
        """First sequence and what the purge may reach, in this order: both only grow."""
        try:
            if not self.conn:
                self.conn = self.cluster.connect(timeout=1)
            info = self.conn.stream_info(STREAM)
            record = self.conn.last("KV_%s-state" % PREFIX, "$KV.%s-state.snapshots" % PREFIX)
            return {"created": info["created"], "first": info["state"]["first_seq"],
                    "last": info["state"]["last_seq"], "snapshots": json.loads(record[1]) if record and record[1] else {}}
        except AWAY as e:
            if self.conn:
                self.conn.close()
            self.conn = None
            return {"error": str(e)}

    def _sample(self, f):
        start = f.starts
        s = f.state(timeout=2)
        if not s or f.starts != start:
            return None
        p = dict(s["pools"][0]) if s["pools"] else {}
        for key in ("workers", "peers", "namespace", "component", "stream", "queue", "snapshot"):
            p.pop(key, None)
        return {"start": start, "incarnation": s["replica"]["incarnation"], "ready": s["replica"]["ready"],
                "because": s["replica"]["because"], "nats": s["nats"], "pool": p}

    def _run(self):
        with open(self.cluster.path("history.jsonl"), "w") as out:
            while not self.stopping.wait(self.every):
                self.last = {"t": time.monotonic(), "stream": self._stream(),
                             "replicas": {f.name: self._sample(f) for f in self.cluster.frontends}}
                out.write(json.dumps(self.last) + "\n")
                out.flush()


class Follower:
    """log.jsonl: the event stream, read while it is written, so that nothing of it is lost to a purge.
    Another part begins when it is another stream, or one that went back."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.created, self.next, self.part = None, 1, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()

    def stop(self):
        self.stopping.set()
        if self.thread.ident:
            self.thread.join(20)

    def await_seq(self, seq):
        wait_for(lambda: self.next > seq, lambda: "the follower at %d; it is at %d" % (seq, self.next - 1), 60)

    def _read(self, conn, out):
        info = conn.stream_info(STREAM)
        state = info["state"]
        if info["created"] != self.created or state["last_seq"] + 1 < self.next:
            self.created, self.next, self.part = info["created"], 1, self.part + 1
        while self.next <= state["last_seq"] and not self.stopping.is_set():
            m = conn.message(STREAM, self.next)
            line = {"part": self.part, "seq": self.next}
            if m is not None:
                line.update(subject=m[0], data=base64.b64encode(m[2]).decode())
            out.write(json.dumps(line) + "\n")
            self.next += 1
        out.flush()

    def _run(self):
        with open(self.cluster.path("log.jsonl"), "w") as out:
            while not self.stopping.is_set():
                try:
                    with self.cluster.connect() as conn:
                        while not self.stopping.wait(0.05):
                            self._read(conn, out)
                except AWAY:
                    self.stopping.wait(0.2)  # no server, or no stream yet
