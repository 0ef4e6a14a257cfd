# SPDX-License-Identifier: Apache-2.0
"""A worker is killed and comes back with an empty cache: its requests go elsewhere, its blocks leave
the index and return."""
import time

from lib.process import wait_for

PROMISES = "RoutedToLiveWorker TerminatesOnce IndexDigestConverges"


def run(r):
    c = r.start(replicas=2, workers=3)
    traffic = r.traffic()
    for i in range(r.rounds(1, 2, 20)):
        c.await_healthy()
        r.answers(traffic, 200)
        w = r.rng.choice(c.workers)
        wait_for(lambda: all(c.blocks_of(w).values()), "blocks of worker %d" % w.id, 60)
        blocks = c.blocks_of(w)
        w.kill()
        if i % 2 == 0:
            wait_for(lambda: not any(c.blocks_of(w).values()), lambda: "no blocks of the dead worker %d; %s" % (
                w.id, c.blocks_of(w)), 60)
        else:
            time.sleep(r.rng.uniform(0.2, 2))
        w.start()
        c.await_workers()
        wait_for(lambda: all(c.blocks_of(w).values()), lambda: "new blocks of worker %d; %s" % (w.id, c.blocks_of(w)), 60)
        r.say("killed worker %d with blocks %s, back with %s" % (w.id, blocks, c.blocks_of(w)))
    r.settle(cold=[r.rng.choice(c.frontends)])
