# SPDX-License-Identifier: Apache-2.0
"""A worker is killed and comes back with an empty cache: its requests go elsewhere, its blocks leave
the index and return."""
import time

from lib import validate
from lib.cluster import wait_for

PROMISES = "RoutedToLiveWorker TerminatesOnce IndexDigestConverges"


def blocks_of(c, worker):
    """Blocks each replica has of a worker; None where it is not listed."""
    return {n: next((w["blocks"] for w in p["workers"] if w["worker_id"] == str(worker.id)), None)
            for n, p in c.pools().items() if p}


def run(r):
    c = r.start(replicas=2, workers=3)
    traffic, kills = r.traffic(), []
    for _ in range(1 if r.short else 6):
        r.healthy()
        asked = traffic.count()
        wait_for(lambda: traffic.count() > asked + 500, "traffic")
        w = r.rng.choice(c.workers)
        wait_for(lambda: all(blocks_of(c, w).values()), "blocks of worker %d" % w.id, 60)
        w.kill()
        kills.append(time.monotonic())
        r.say("killed worker %d, of which the replicas have blocks %s" % (w.id, blocks_of(c, w)))
        if r.rng.random() < 0.7:
            wait_for(lambda: not any(blocks_of(c, w).values()), lambda: "no blocks of the dead worker %d; %s" % (
                w.id, blocks_of(c, w)), 40)
            r.say("its blocks are gone")
        else:
            time.sleep(r.rng.uniform(0.2, 2))
        w.start()
        c.await_workers()
        wait_for(lambda: all(blocks_of(c, w).values()), lambda: "new blocks of worker %d; %s" % (w.id, blocks_of(c, w)), 60)
        r.say("worker %d is back with blocks %s" % (w.id, blocks_of(c, w)))
    pools = r.settle()
    r.check(validate.RoutedToLiveWorker(r.requests(), kills, slack=0.3))
    r.cold_start([r.rng.choice(c.frontends)], pools)
