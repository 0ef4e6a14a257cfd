# SPDX-License-Identifier: Apache-2.0
"""A random replica is killed and started again, over and over, behind a load balancer that repeats
only what could not be connected."""
import time

from lib.process import restored

PROMISES = "TerminatesOnce LoadReturnsToZero IndexDigestConverges ReadyOnlyWhenCaughtUp Resumable"


def run(r):
    c = r.start(replicas=3, workers=3, haproxy=True)
    traffic = r.traffic(clients=6, max_tokens=64)
    for i in range(r.rounds(2, 4, 40)):
        c.await_healthy()
        r.answers(traffic, 30)
        f = r.rng.choice(c.frontends)
        if i % 2 == 0:
            r.kill_under_load(f)
        else:
            f.kill()
            time.sleep(r.rng.uniform(0.1, 1))
        f.start()
        p = f.await_ready()
        r.say("killed %s; ready again at %d, %d of them from a snapshot" % (f.name, p["applied_seq"], restored(p)))
    c.await_healthy()
    r.settle(cold=[r.rng.choice(c.frontends)])
