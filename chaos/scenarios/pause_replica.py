# SPDX-License-Identifier: Apache-2.0
"""The leader is stopped for longer than its lease lasts, another one leads and writes snapshots, then
the old one wakes up: it may neither overwrite a newer snapshot nor purge."""
import time

from lib.process import wait_for

PROMISES = "NothingForgotten LoadReturnsToZero IndexDigestConverges"


def run(r):
    c = r.start(replicas=3, workers=3, haproxy=True, threshold=40)
    r.traffic(timeout=120)
    wait_for(c.snapshot_seq, "a first snapshot", 60)
    for _ in range(r.rounds(1, 1, 10)):
        c.await_healthy()
        old = c.await_leader()
        time.sleep(r.rng.uniform(0, 1))
        began = time.monotonic()
        old.pause()
        before = c.snapshot_seq()
        r.say("paused %s, which leads, at %d" % (old.name, c.last_seq()))
        new = c.await_leader(other_than=old)
        # The clients before hang on the one that is paused.
        more = r.traffic([f.port for f in c.up()], timeout=120)
        wait_for(lambda: c.snapshot_seq() > before, "a snapshot by %s" % new.name, 60)
        time.sleep(r.rng.uniform(0, 2))
        seq = c.snapshot_seq()
        more.stop()
        old.resume()
        r.say("woke %s; meanwhile %s led and wrote a snapshot at %d" % (old.name, new.name, seq))
        # Given up while it slept: what it says until it has seen the log again is of another time.
        wait_for(lambda: (old.pool() or {}).get("applied_seq", 0) >= seq, "%s reads on" % old.name, 60)
        c.timeline.note("cut_off", old.name, since=began, until=time.monotonic())
        c.await_healthy()
        wait_for(lambda: sum(p["leader"] for p in c.pools().values()) <= 1, "NothingForgotten: no more than one leader", 10)
    r.settle(cold=[r.rng.choice(c.frontends)])
