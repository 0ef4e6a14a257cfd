# SPDX-License-Identifier: Apache-2.0
"""nats-server goes away and comes back, with its data and then without: a different history."""
import shutil
import time

from lib import validate
from lib.cluster import wait_for

PROMISES = "Resumable (routing outlives NATS) TerminatesOnce IndexDigestConverges"


def outage(r, c, traffic, with_data):
    r.healthy()
    began, asked = time.monotonic(), traffic.count()
    c.nats.kill()
    time.sleep(r.rng.uniform(1, 4))
    if not with_data:
        shutil.rmtree(c.path("js"), ignore_errors=True)
    wait_for(lambda: traffic.count() > asked + 30, "answers without NATS", 20)
    c.start_nats()
    r.say("NATS was gone for %.1f s, back %s data" % (time.monotonic() - began, "with" if with_data else "without"))
    c.await_healthy(60)
    # Readiness is lost for a while when the history is another one; routing is not.
    if with_data:
        r.check(validate.StayedReady(c.observer.records(), began, time.monotonic()))


def run(r):
    c = r.start(replicas=2, workers=3, threshold=60)
    traffic = r.traffic()
    wait_for(lambda: traffic.count() > 100, "traffic")
    created = c.pools()["f0"]["stream_created"]
    for _ in range(1 if r.short else 4):
        outage(r, c, traffic, with_data=True)
    r.require(c.pools()["f0"]["stream_created"] == created, "Resumable: the stream is another one than before")
    for _ in range(1 if r.short else 2):
        outage(r, c, traffic, with_data=False)
        # Connected again comes first, the look at what the stream has become a moment later.
        wait_for(lambda: all(p["stream_created"] != created and p["entries"] for p in c.pools().values()),
                 lambda: "another stream, and its blocks; replicas see %s, it was %s" % (
                     {n: (p["stream_created"], p["entries"]) for n, p in c.pools().items()}, created), 30)
        c.await_healthy(60)
        created = c.pools()["f0"]["stream_created"]
        r.say("blocks again: %s" % {n: p["entries"] for n, p in c.pools().items()})
    pools = r.settle()
    r.check(validate.TerminatesOnce(r.requests()))
    r.cold_start([r.rng.choice(c.frontends)], pools)
