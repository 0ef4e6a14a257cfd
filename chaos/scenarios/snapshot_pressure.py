# SPDX-License-Identifier: Apache-2.0
"""A large state and a snapshot due every few messages: writing and purging never stop, while the leader
is killed at any moment of it."""
import time

from lib.process import restored, wait_for

PROMISES = "NothingForgotten Resumable IndexDigestConverges ReadyOnlyWhenCaughtUp"


def run(r):
    c = r.start(replicas=3, workers=2, haproxy=True, threshold=5, worker_args=(
        "--block-size", "4", "--num-gpu-blocks-override", "60000", "--speedup-ratio", "0"))
    load = r.traffic(block=4, families=160, tails=4, prefix_blocks=300, max_tokens=2, clients=3)
    want = r.rounds(10000, 20000, 60000)
    c.await_pools(lambda p: p["entries"] > want, lambda: "a large state: %s" % {n: p["entries"] for n, p in c.pools().items()}, 120)
    for _ in range(r.rounds(2, 4, 40)):
        c.await_healthy()
        before = c.snapshot_seq()
        f = c.await_leader()
        wait_for(lambda: c.snapshot_seq() > before, "a snapshot", 60)
        time.sleep(r.rng.uniform(0, 0.3))
        f.kill()
        f.start()
        p = f.await_ready()
        r.say("%s, which led, is ready again at %d, %d of them from a snapshot" % (f.name, p["applied_seq"], restored(p)))
    wait_for(lambda: c.observer.last["stream"].get("first", 0) > 1, "a purge", 60)
    load.stop()
    r.say("%d blocks" % c.pools()["f0"]["entries"])
    r.settle(cold=c.frontends)
