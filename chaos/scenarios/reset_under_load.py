# SPDX-License-Identifier: Apache-2.0
"""The pool is reset while requests flow: every replica clears at the same sequence, engines are
announced anew, no request notices."""
import time

from lib.process import get_json

PROMISES = "IndexDigestConverges TerminatesOnce"


def run(r):
    c = r.start(replicas=2, workers=3)
    traffic = r.traffic()
    for i in range(r.rounds(2, 3, 30)):
        c.await_healthy()
        r.answers(traffic, 60)
        before = max(p["epoch"] for p in c.pools().values())
        target = r.rng.choice(c.frontends)
        status, _ = get_json(target.port, "/admin/reset", "POST")
        r.require(status == 202, "reset was answered with %d" % status)
        c.await_pools(lambda p: p["epoch"] == before + 1, lambda: "epoch %d; %s" % (
            before + 1, {n: p["epoch"] for n, p in c.pools().items()}))
        c.await_pools(lambda p: all(w["blocks"] for w in p["workers"]), "blocks of every worker announced anew")
        r.say("reset %d through %s: entries %s" % (i + 1, target.name, {n: p["entries"] for n, p in c.pools().items()}))
        time.sleep(r.rng.uniform(0, 1))
    r.settle(cold=[r.rng.choice(c.frontends)])
