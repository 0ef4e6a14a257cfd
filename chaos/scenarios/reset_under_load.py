# SPDX-License-Identifier: Apache-2.0
"""The pool is reset while requests flow: every replica clears at the same sequence, engines are
announced anew, no request notices."""
import time

from lib import validate
from lib.cluster import get_json, wait_for

PROMISES = "IndexDigestConverges TerminatesOnce"


def run(r):
    c = r.start(replicas=2, workers=3)
    traffic = r.traffic()
    for i in range(2 if r.short else 8):
        r.healthy()
        asked = traffic.count()
        wait_for(lambda: traffic.count() > asked + 60, "traffic")
        before = {n: p["epoch"] for n, p in c.pools().items()}
        target = r.rng.choice(c.frontends)
        status, _ = get_json(target.port, "/admin/reset", "POST")
        r.require(status == 202, "reset was answered with %d" % status)
        wait_for(lambda: all(p["epoch"] == before[n] + 1 for n, p in c.pools().items()),
                 lambda: "epoch %s + 1; %s" % (before, {n: p["epoch"] for n, p in c.pools().items()}), 20)
        wait_for(lambda: all(w["blocks"] for p in c.pools().values() for w in p["workers"]),
                 "blocks of every worker announced anew", 30)
        r.say("reset %d through %s: epochs %s, entries %s" % (i + 1, target.name, {
            n: p["epoch"] for n, p in c.pools().items()}, {n: p["entries"] for n, p in c.pools().items()}))
        time.sleep(r.rng.uniform(0, 1))
    pools = r.settle()
    r.check(validate.TerminatesOnce(r.requests()))
    r.cold_start([r.rng.choice(c.frontends)], pools)
