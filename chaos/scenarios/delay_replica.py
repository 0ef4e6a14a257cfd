# SPDX-License-Identifier: Apache-2.0
"""The way of one replica to NATS takes a third of a second each way: it is behind, never wrong, and
stays a member; the leader has its turn."""
import time

from lib.process import wait_for

PROMISES = "Ordered Unique IndexDigestConverges LoadReturnsToZero TerminatesOnce"
SMOKE = False


def run(r):
    c = r.start(replicas=3, workers=3, links="replicas", ttl=6, threshold=60)
    traffic = r.traffic()
    r.answers(traffic, 100)
    for i in range(r.rounds(1, 2, 10)):
        c.await_healthy()
        f = c.await_leader() if i == 0 else r.rng.choice(c.frontends)
        began, snapshot, at = time.monotonic(), c.snapshot_seq(), c.last_seq()
        c.timeline.note("link", f.name, way="delayed")
        c.links[f.name].delay = {"up": 0.3, "down": 0.3}
        r.answers(traffic, 200)
        wait_for(lambda: f.pool()["applied_seq"] > at, "%s goes on reading" % f.name)
        wait_for(lambda: c.snapshot_seq() > snapshot, "a snapshot meanwhile", 90)
        c.links[f.name].heal()
        c.timeline.note("link", f.name, way="healed")
        c.await_healthy()
        r.outlives(began)
        r.say("%s was delayed for %.1f s" % (f.name, time.monotonic() - began))
    r.settle(cold=[r.rng.choice(c.frontends)])
