# SPDX-License-Identifier: Apache-2.0
"""Three replicas behind haproxy under 200 streams a second; one after the other gets SIGTERM, ends when
its streams have, and is started again. Nothing fails, nothing is sent twice, and as much is found in
caches as in the steady runs before and after, within a point: the figure is printed.

With --upgrade-from PATH the replicas begin as another build, mostly the one before: then all of it
holds while both run side by side, and what one wrote the other reads."""
import time

from lib.replay import Background, Replay, rate, share

PROMISES = "TerminatesOnce (no request fails, none is sent twice) LoadReturnsToZero ReadyOnlyWhenCaughtUp"
ALONE = True
SECONDS = 8  # of one run of streams
LOST = 1     # points of the cached share: so much less than in the steady runs is knowledge lost
STALLED = 4  # the same when the machine did not keep the rate: prompts then come before their parents' blocks are told


def upgrade(r, f):
    c, began = r.cluster, time.monotonic()
    code = f.stop(60)
    r.require(code == 0, "%s ended with %s" % (f.name, code))
    ended = time.monotonic()
    f.argv[0] = c.jetrouter
    f.start()
    f.await_ready()
    c.await_healthy()
    r.say("%s drained in %.1f s, ready %.1f s later" % (f.name, ended - began, time.monotonic() - ended))


def run(r):
    c = r.start(replicas=3, workers=4, haproxy=True, ttl=5, drain_delay=5, threshold=3000, follow=False,
                older=r.older, worker_args=("--num-gpu-blocks-override", "16384", "--speedup-ratio", "30"))
    replay = Replay(c, r.seed)
    warm = [replay.run(SECONDS, "warm-up")]
    steady = [replay.run(SECONDS, "steady") for _ in range(r.rounds(1, 2, 4))]
    streams = Background(replay, SECONDS, "rolling")
    try:
        for _ in range(r.rounds(1, 1, 5)):
            for f in c.frontends:
                upgrade(r, f)
    finally:
        rolling = streams.stop()
    steady.append(replay.run(SECONDS, "steady"))
    failed = sum(x["errors"] for x in warm + steady + rolling)
    r.require(failed == 0, "TerminatesOnce: %d requests failed: %s" % (
        failed, [x["error_reasons"] for x in warm + steady + rolling]))
    r.say("cached tokens: %.2f %% steady (runs: %s), %.2f %% while rolling (%+.2f points); %d + %d streams, %.0f and %.0f a second" % (
        share(steady), " ".join("%.2f" % share([x]) for x in steady), share(rolling), share(rolling) - share(steady),
        sum(x["requests"] for x in steady), sum(x["requests"] for x in rolling), rate(steady), rate(rolling)))
    c.timeline.note("cached_share", steady=share(steady), rolling=share(rolling), rate=rate(rolling))
    kept = min(rate(steady), rate(rolling)) > 0.97 * replay.rate
    r.require(share(rolling) >= share(steady) - (LOST if kept else STALLED), "the cached share fell to %.2f %%, the steady runs had %.2f %%" % (
        share(rolling), share(steady)))
    r.settle()
