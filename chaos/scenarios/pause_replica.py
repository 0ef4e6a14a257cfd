# SPDX-License-Identifier: Apache-2.0
"""The leader is stopped for longer than its lease lasts, another one leads and writes snapshots, then
the old one wakes up: it may neither overwrite a newer snapshot nor purge."""
import time

from lib import validate
from lib.cluster import wait_for

PROMISES = "NothingForgotten LoadAccountingReturnsToZero IndexDigestConverges"


def run(r):
    c = r.start(replicas=3, workers=3, haproxy=True, threshold=40)
    r.traffic(timeout=120)
    wait_for(lambda: validate.snapshot_record(c).get("newest"), "a first snapshot", 60)
    for _ in range(1 if r.short else 5):
        c.await_healthy()
        old = c.await_leader()
        time.sleep(r.rng.uniform(0, 1))
        old.pause()
        before = validate.snapshot_record(c)
        r.say("paused %s, which leads, at %d" % (old.name, c.last_seq()))
        new = c.await_leader(other_than=old)
        more = r.traffic(timeout=120)  # the clients before hang on the one that is paused

        def newer():
            return int(validate.snapshot_record(c)["newest"]["seq"]) > int(before["newest"]["seq"])
        wait_for(newer, "a snapshot by %s" % new.name, 60)
        time.sleep(r.rng.uniform(0, 2))
        record = validate.snapshot_record(c)
        more.stop()
        old.resume()
        r.say("woke %s; meanwhile %s led and wrote a snapshot at %s" % (old.name, new.name, record["newest"]["seq"]))
        c.await_healthy()
        leaders = [f.name for f in c.frontends if (f.pool() or {}).get("leader")]
        r.require(len(leaders) <= 1, "NothingForgotten: more than one replica says it leads: %s" % leaders)
    pools = r.settle()
    r.check(validate.TerminatesOnce(r.requests()))
    r.cold_start([r.rng.choice(c.frontends)], pools)
