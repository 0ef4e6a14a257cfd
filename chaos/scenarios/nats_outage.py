# SPDX-License-Identifier: Apache-2.0
"""nats-server is away for half a minute (--outage-secs 600: for ten). Routing goes on and says that it
is degraded; what happened meanwhile is caught up."""
import time

from lib.process import get_json, wait_for

PROMISES = "Resumable (routing outlives NATS) TerminatesOnce IndexDigestConverges NoGap"
SMOKE = False


def run(r):
    c = r.start(replicas=2, workers=3)
    traffic = r.traffic()
    r.answers(traffic, 100)
    r.healthy()
    began, before = time.monotonic(), c.last_seq()
    c.nats.kill()
    wait_for(lambda: all(get_json(f.port, "/health")[1]["status"] == "degraded" for f in c.frontends), "replicas say degraded")
    while time.monotonic() < began + r.args.outage_secs:
        r.answers(traffic, 50)
        r.require(all(f.ready() for f in c.frontends), "Resumable: a replica is not ready without NATS")
        time.sleep(1)
    c.start_nats()
    r.say("NATS was gone for %.1f s" % (time.monotonic() - began))
    c.await_healthy(90)
    wait_for(lambda: all(get_json(f.port, "/health")[1]["status"] == "healthy" for f in c.frontends), "replicas say healthy")
    r.outlives(began)
    wait_for(lambda: c.last_seq() > before, "messages again")
    r.settle(cold=[r.rng.choice(c.frontends)])
