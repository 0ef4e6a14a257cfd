# SPDX-License-Identifier: Apache-2.0
"""Power fails: NATS, all replicas and all workers die at the same moment and start at the same time."""
import time

from lib.process import wait_for

PROMISES = "Resumable ReadyOnlyWhenCaughtUp IndexDigestConverges NothingForgotten"


def run(r):
    c = r.start(replicas=3, workers=3, haproxy=True, threshold=60)
    traffic = r.traffic()
    wait_for(c.snapshot_seq, "a first snapshot", 60)
    for _ in range(r.rounds(1, 2, 10)):
        c.await_healthy()
        r.answers(traffic, 50)
        began = time.monotonic()
        everybody = [c.nats, *c.frontends, *c.workers]
        r.rng.shuffle(everybody)
        for p in everybody:
            p.kill()
        at = dict(c.observer.last["stream"])
        c.nats.start()  # the position before the start of a replica is read from it
        wait_for(c.nats_answers, "nats-server with JetStream", 60)
        for p in c.workers + c.frontends:
            p.start()
        for f in c.frontends:
            f.await_ready()
        c.await_healthy()
        c.await_front()
        c.timeline.note("down", since=began - 0.5, until=time.monotonic())
        r.say("everybody is back after %.1f s at %d, it was %s" % (time.monotonic() - began, c.last_seq(), at.get("last")))
        r.answers(traffic, 50)
    r.settle(cold=[r.rng.choice(c.frontends)])
