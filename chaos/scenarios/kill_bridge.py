# SPDX-License-Identifier: Apache-2.0
"""The bridge of a worker is killed, the worker lives on: it is routed to without credit for its cache
(stale), and has credit again when a new bridge has announced what the engine holds."""
import time

from lib.process import wait_for

PROMISES = "NoGap RoutedToLiveWorker TerminatesOnce IndexDigestConverges"


def states(c, worker):
    return {(n, w["state"], w["credited"]) for n, p in c.pools().items() for w in p["workers"] if w["worker_id"] == str(worker.id)}


def run(r):
    c = r.start(replicas=2, workers=2, bridges_apart=True)
    traffic = r.traffic()
    for i in range(r.rounds(1, 3, 30)):
        c.await_healthy()
        n = r.rng.randrange(len(c.bridges))
        b, w = c.bridges[n], c.workers[n]
        wait_for(lambda: all(c.blocks_of(w).values()), lambda: "blocks of worker %d; %s" % (w.id, c.blocks_of(w)), 60)
        b.kill()
        if i % 3 == 0:
            wait_for(lambda: {s[1:] for s in states(c, w)} == {("stale", False)}, lambda: "worker %d stale; %s" % (
                w.id, states(c, w)))
            r.answers(traffic, 50)
        else:
            time.sleep(r.rng.uniform(0, 1))
        b.start()
        wait_for(lambda: {s[1:] for s in states(c, w)} == {("live", True)}, lambda: "worker %d live; %s" % (
            w.id, states(c, w)), 60)
        wait_for(lambda: all(c.blocks_of(w).values()), lambda: "blocks of worker %d; %s" % (w.id, c.blocks_of(w)), 60)
        r.say("killed the bridge of worker %d; blocks again %s" % (w.id, c.blocks_of(w)))
    r.settle(cold=[r.rng.choice(c.frontends)])
