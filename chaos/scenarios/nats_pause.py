# SPDX-License-Identifier: Apache-2.0
"""nats-server is stopped (SIGSTOP) for longer than leases last: connections stay, nobody answers. When it
wakes up every lease is over."""
import time

PROMISES = "Resumable (routing outlives NATS) TerminatesOnce IndexDigestConverges LoadReturnsToZero"


def run(r):
    c = r.start(replicas=3, workers=3)
    traffic = r.traffic()
    r.answers(traffic, 100)
    for _ in range(r.rounds(1, 2, 20)):
        c.await_healthy()
        began = time.monotonic()
        c.nats.pause()
        time.sleep(r.rng.uniform(1.5, 2.5) * c.ttl)
        r.answers(traffic, 50)
        c.nats.resume()
        r.say("NATS slept for %.1f s, a lease lasts %g" % (time.monotonic() - began, c.ttl))
        r.answers(traffic, 50)
        c.await_healthy()
        r.outlives(began)
    r.settle(cold=[r.rng.choice(c.frontends)])
