# SPDX-License-Identifier: Apache-2.0
"""Three replicas behind haproxy under 200 streams a second; one after the other gets SIGTERM, ends when
its streams have, and is started again. Nothing fails, nothing is sent twice, and as much is found in
caches as in the steady run before."""
import time

from lib.replay import Background, Replay

PROMISES = "TerminatesOnce (no request fails, none is sent twice) LoadReturnsToZero ReadyOnlyWhenCaughtUp"
ALONE = True


def share(reports):
    return sum(x["cached_tokens"] for x in reports) / max(1, sum(x["prompt_tokens"] for x in reports))


def run(r):
    c = r.start(replicas=3, workers=4, haproxy=True, ttl=5, drain_delay=5, threshold=3000, follow=False,
                worker_args=("--num-gpu-blocks-override", "16384", "--speedup-ratio", "6"))
    replay = Replay(c, r.rng)
    replay.run(4, "warm-up")
    steady = [replay.run(r.rounds(8, 12, 60), "steady")]
    rolling = Background(replay, 8, "rolling")
    try:
        for i in range(r.rounds(1, 1, 5)):
            for f in c.frontends:
                began = time.monotonic()
                code = f.stop(60)
                r.require(code == 0, "%s ended with %s" % (f.name, code))
                ended = time.monotonic()
                f.start()
                f.await_ready()
                c.await_healthy()
                r.say("%s drained in %.1f s, ready %.1f s later" % (f.name, ended - began, time.monotonic() - ended))
    finally:
        reports = rolling.stop()
    failed = sum(x["errors"] for x in steady + reports)
    r.require(failed == 0, "TerminatesOnce: %d requests failed: %s" % (failed, [x["error_reasons"] for x in steady + reports]))
    points = 100 * (share(reports) - share(steady))
    r.say("cached tokens: %.2f %% steady, %.2f %% while rolling (%+.2f points); %d + %d streams, at %.0f and %.0f a second" % (
        100 * share(steady), 100 * share(reports), points, sum(x["requests"] for x in steady), sum(x["requests"] for x in reports),
        rate(steady), rate(reports)))
    c.timeline.note("cached_share", steady=share(steady), rolling=share(reports), rate=rate(reports))
    r.require(abs(points) <= 1, "the cached share moved by %.2f points" % points)
    r.settle()


def rate(reports):
    return sum(x["requests"] for x in reports) / sum(x["duration_s"] for x in reports)
