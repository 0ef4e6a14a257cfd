# SPDX-License-Identifier: Apache-2.0
"""nats-server is killed and comes back, with its data and then without: a different history."""
import shutil
import time

from lib.process import wait_for

PROMISES = "Resumable (routing outlives NATS) TerminatesOnce IndexDigestConverges"


def outage(r, c, traffic, with_data):
    r.healthy()
    began = time.monotonic()
    c.nats.kill()
    time.sleep(r.rng.uniform(1, 3))
    if not with_data:
        shutil.rmtree(c.path("js0"), ignore_errors=True)
    r.answers(traffic, 30)
    c.start_nats()
    r.say("NATS was gone for %.1f s, back %s data" % (time.monotonic() - began, "with" if with_data else "without"))
    c.await_healthy()
    # Readiness is lost for a while when the history is another one; routing is not.
    if with_data:
        r.outlives(began)


def run(r):
    c = r.start(replicas=2, workers=3, threshold=60)
    traffic = r.traffic()
    r.answers(traffic, 100)
    created = c.pools()["f0"]["stream_created"]
    for _ in range(r.rounds(1, 2, 20)):
        outage(r, c, traffic, with_data=True)
    r.require(c.pools()["f0"]["stream_created"] == created, "Resumable: the stream is another one than before")
    for _ in range(r.rounds(1, 1, 10)):
        outage(r, c, traffic, with_data=False)
        # Connected again comes first, the look at what the stream has become a moment later.
        c.await_pools(lambda p: p["stream_created"] != created and p["entries"],
                      lambda: "another stream, and its blocks; replicas see %s, it was %s" % (
                          {n: (p["stream_created"], p["entries"]) for n, p in c.pools().items()}, created))
        c.await_healthy()
        created = c.pools()["f0"]["stream_created"]
        r.say("blocks again: %s" % {n: p["entries"] for n, p in c.pools().items()})
    wait_for(lambda: c.pools()["f0"]["stream_created"] == c.pools()["f1"]["stream_created"], "one stream")
    r.settle(cold=[r.rng.choice(c.frontends)])
