# SPDX-License-Identifier: Apache-2.0
"""NATS is slow for everybody: first three seconds and more for an answer, under which routing goes on;
then one, under which leases are renewed and a replica that is started gets ready."""
import time

from lib.process import wait_for

PROMISES = "Resumable (routing outlives NATS) TerminatesOnce IndexDigestConverges ReadyOnlyWhenCaughtUp"
SMOKE = False


def delay(c, seconds):
    """What passes takes that long each way, and up to twice that."""
    for link in c.links.values():
        link.delay = {"up": seconds, "down": seconds}
    c.timeline.note("link", way="%g s each way" % seconds)


def run(r):
    # Who starts waits for the workers' leases, rather than be ready without having seen any.
    c = r.start(replicas=3, workers=2, links="all", ttl=8, haproxy=True, ready_timeout=120)
    traffic = r.traffic()
    r.answers(traffic, 100)
    for _ in range(r.rounds(1, 1, 10)):
        c.await_healthy()
        slow = began = time.monotonic()
        at = c.last_seq()
        delay(c, 1.5)
        r.answers(traffic, 1000)
        wait_for(lambda: c.last_seq() > at, "messages, slowly", 60)
        r.outlives(began)
        delay(c, 0.25)
        f = r.rng.choice(c.frontends)
        f.stop()
        began = time.monotonic()
        f.start()
        f.await_ready(150)
        r.say("%s was ready after %.1f s" % (f.name, time.monotonic() - began))
        r.answers(traffic, 100)
        delay(c, 0)
        c.await_healthy(90)
        c.timeline.note("cut_off", since=slow, until=time.monotonic())
    r.settle(cold=[r.rng.choice(c.frontends)])
