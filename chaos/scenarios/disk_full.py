# SPDX-License-Identifier: Apache-2.0
"""JetStream has no room: every publish, lease and upload is refused until there is room again. Routing
goes on; what was refused is said again."""
import time

from lib.nats import NatsError
from lib.process import get_json, wait_for

PROMISES = "Resumable (routing outlives NATS) TerminatesOnce IndexDigestConverges NoGap NothingForgotten"
ROOM = 48 << 20


def fill(c):
    """Takes all the room there is."""
    with c.connect(timeout=15) as n:
        n.api("STREAM.CREATE.filler", {"name": "filler", "subjects": ["filler"], "storage": "file", "num_replicas": 1})
        size = 256 << 10
        while size > 64:
            answer = n.request("filler", b"x" * size)
            if b'"error"' in answer:
                size //= 2


def empty(c):
    with c.connect(timeout=15) as n:
        n.api("STREAM.DELETE.filler")


def refused(c):
    with c.connect() as n:
        try:
            return b'"error"' in n.request("$KV.chaos-probe.x", b"x" * 4096)
        except NatsError:
            return True


def run(r):
    c = r.start(replicas=2, workers=3, threshold=60, stream_max_bytes=8 << 20,
                nats_config="jetstream { max_file_store: %d }\n" % ROOM)
    traffic = r.traffic()
    r.answers(traffic, 100)
    for _ in range(r.rounds(1, 2, 10)):
        c.await_healthy()
        began, leader = time.monotonic(), c.await_leader()  # while there is no room nobody can become one
        fill(c)
        at = c.last_seq()
        # A snapshot is asked for where it cannot be stored.
        get_json(leader.port, "/admin/snapshot", "POST")
        r.answers(traffic, 200)
        time.sleep(r.rng.uniform(1, 2) * c.ttl)
        r.say("full for %.1f s: the stream went from %d to %d" % (time.monotonic() - began, at, c.last_seq()))
        empty(c)
        at = c.last_seq()
        wait_for(lambda: c.last_seq() > at, "messages again", 60)
        before = c.snapshot_seq()
        wait_for(lambda: c.snapshot_seq() > before, "a snapshot again", 90)
        c.await_healthy()
        r.outlives(began)
    r.settle(cold=[r.rng.choice(c.frontends)])
