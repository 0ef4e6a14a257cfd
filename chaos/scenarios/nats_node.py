# SPDX-License-Identifier: Apache-2.0
"""Three nats-servers with three copies of everything; one of them is killed, the one that leads the event
stream first, and comes back. Routing does not notice."""
import time

from lib.observe import AWAY, STREAM
from lib.process import wait_for

PROMISES = "Resumable (routing outlives NATS) TerminatesOnce NoGap Unique IndexDigestConverges"
SMOKE = False


def leads(c):
    """The server that leads the event stream."""
    try:
        with c.connect() as n:
            name = n.stream_info(STREAM)["cluster"].get("leader")
    except AWAY:
        return None
    return next((s for s in c.servers if s.name == name and s.alive()), None)


def run(r):
    c = r.start(replicas=2, workers=2, ttl=4, nats_nodes=3)
    traffic = r.traffic()
    r.answers(traffic, 100)
    for i in range(r.rounds(1, 2, 20)):
        c.await_healthy(90)
        led = wait_for(lambda: leads(c), "a leader of the event stream", 60)
        victim = led if i == 0 else r.rng.choice(c.servers)
        began, at = time.monotonic(), c.last_seq()
        victim.kill()
        wait_for(lambda: leads(c), "another leader of the event stream", 60)
        wait_for(lambda: c.last_seq() > at, "the stream goes on with two of three", 60)
        r.answers(traffic, 50)
        c.start_nats()
        c.await_healthy(90)
        r.outlives(began)
        r.say("%s%s was gone for %.1f s" % (victim.name, ", which led the stream," if victim is led else "", time.monotonic() - began))
    r.settle(cold=[r.rng.choice(c.frontends)])
