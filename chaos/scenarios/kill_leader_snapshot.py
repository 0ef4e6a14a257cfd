# SPDX-License-Identifier: Apache-2.0
"""The leader dies while it writes a snapshot: after the chunks, then after the meta. The next leader
goes on; a cold start of everybody comes to the same state."""
from lib import validate
from lib.cluster import Failed, wait_for

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
    wait_for(lambda: not victim.alive(), "the crash at %s" % point, 60)
    r.say("%s crashed at %s" % (victim.name, point))
    before = validate.snapshot_record(c)
    for f in c.frontends:
        f.start()
    for f in c.frontends:
        f.await_ready()

    def newer():
        now = validate.snapshot_record(c)
        return now.get("newest") and now.get("newest") != before.get("newest") and now
    try:
        now = wait_for(newer, "a snapshot by the next leader", 60)
        r.say("snapshot %s at %s by %s" % (now["newest"]["object"], now["newest"]["seq"], c.await_leader().name))
    except Failed as e:
        r.check(["NothingForgotten: %s" % e])


def run(r):
    c = r.start(replicas=2, workers=3, haproxy=True, threshold=40)
    traffic = r.traffic()
    wait_for(lambda: validate.snapshot_record(c).get("newest"), "a first snapshot", 60)
    for point in ("snapshot.after_upload", "snapshot.after_commit") * (1 if r.short else 3):
        c.await_healthy()
        crash_at(r, c, point)
    wait_for(lambda: c.observer.records()[-1]["stream"].get("first", 0) > 1, "a purge", 60)
    traffic.stop()
    r.cold_start(c.frontends, r.settle())
