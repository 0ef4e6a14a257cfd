# SPDX-License-Identifier: Apache-2.0
"""A random replica is killed and started again, over and over, behind a load balancer that repeats
only what could not be connected."""
import time

from lib import validate
from lib.cluster import restored, wait_for

PROMISES = "TerminatesOnce IndexDigestConverges ReadyOnlyWhenCaughtUp Resumable"


def run(r):
    c = r.start(replicas=3, workers=3, haproxy=True)
    traffic, kills = r.traffic(), []
    for _ in range(3 if r.short else 12):
        r.healthy()
        asked = traffic.count()
        wait_for(lambda: traffic.count() > asked + 30, "answers before the fault")
        f = r.rng.choice(c.frontends)
        f.kill()
        kills.append((time.monotonic(), f.name))
        r.say("killed %s at %d" % (f.name, c.last_seq()))
        time.sleep(r.rng.uniform(0.1, 3))
        f.start()
        p = f.await_ready()
        r.say("%s ready at %d, %d of them from a snapshot" % (f.name, p["applied_seq"], restored(p)))
        c.await_healthy()
    pools = r.settle()
    r.check(validate.TerminatesOnce(r.requests(), validate.in_flight_at(kills)))
    r.cold_start([r.rng.choice(c.frontends)], pools)
