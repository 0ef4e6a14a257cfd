# SPDX-License-Identifier: Apache-2.0
"""The leader dies while it writes a snapshot: after the chunks, then after the meta. The next leader
goes on; a cold start of everybody comes to the same state."""
import time

from lib.process import wait_for

PROMISES = "NothingForgotten Resumable IndexDigestConverges ReadyOnlyWhenCaughtUp"


def crash_at(r, c, point):
    """One replica with the failpoint is made leader; it dies in its next snapshot."""
    leader = c.await_leader()
    victim = r.rng.choice([f for f in c.frontends if f is not leader])
    victim.kill()
    victim.start(env={"JETROUTER_FAILPOINTS": "%s=crash" % point})
    victim.await_ready()
    for f in c.frontends:
        if f is not victim:
            f.kill()
    since = victim.await_death("the crash at %s" % point, 90)
    r.say("%s crashed at %s" % (victim.name, point))
    before = c.snapshot_record()
    for f in c.frontends:
        f.start()
    for f in c.frontends:
        f.await_ready()
    c.await_front()
    c.timeline.note("down", since=since, until=time.monotonic())
    wait_for(lambda: c.snapshot_record().get("newest", before.get("newest")) != before.get("newest"),
             "a snapshot by the next leader", 90)
    r.say("snapshot at %d by %s" % (c.snapshot_seq(), c.await_leader().name))


def run(r):
    c = r.start(replicas=2, workers=3, haproxy=True, threshold=40)
    traffic = r.traffic()
    wait_for(c.snapshot_seq, "a first snapshot", 60)
    for point in ("snapshot.after_upload", "snapshot.after_commit") * r.rounds(1, 1, 5):
        c.await_healthy()
        crash_at(r, c, point)
    wait_for(lambda: c.observer.last["stream"].get("first", 0) > 1, "a purge", 60)
    traffic.stop()
    r.settle(cold=c.frontends)
