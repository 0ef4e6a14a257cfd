# SPDX-License-Identifier: Apache-2.0
"""The same streams through one of four replicas and through all four, turn about: replicas that decide
at the same moment on loads that are a moment old must not all prefer the same worker. What is found in
caches, the requests of the busiest worker and the times to the first token stand side by side."""
from lib.replay import Replay, rate, share

PROMISES = "one replica or four: as much is found in caches, no worker gets more"
ALONE = True
SMOKE = False
SECONDS = 8
REPLICAS = 4
LOST = 1        # points of the cached share
UNEVEN = 0.1    # of the mean: so much more than with one replica may the busiest worker get, in some round: those
                # who herd do it in every one, and a round alone is off by as much
STALLED = 0.97  # of the rate: below, the machine did not keep it, and the figures are of the machine


def spread(reports):
    """Requests of the busiest worker in those of the mean one."""
    n = {}
    for x in reports:
        for w in x["workers"]:
            n[w["worker"]] = n.get(w["worker"], 0) + w["requests"]
    return max(n.values()) * len(n) / sum(n.values())


def median(reports, what):
    v = sorted(x["ttft_ms"][what] for x in reports)
    return v[len(v) // 2]


def describe(reports):
    return "%.2f %% found in caches, busiest worker %.3f of the mean, TTFT p50 %.1f p90 %.1f p99 %.1f ms" % (
        share(reports), spread(reports), *(median(reports, p) for p in ("p50", "p90", "p99")))


def run(r):
    c = r.start(replicas=REPLICAS, workers=4, haproxy=True, ttl=5, threshold=3000, follow=False,
                worker_args=("--num-gpu-blocks-override", "16384", "--speedup-ratio", "30"))
    replay = Replay(c, r.seed)
    replay.run(SECONDS, "warm-up")
    one, all_ = [], []
    for _ in range(r.rounds(1, 3, 10)):
        one.append(replay.run(SECONDS, "one", c.frontends[0].port))
        all_.append(replay.run(SECONDS, "all"))
    r.say("through one replica: " + describe(one))
    r.say("through %d:           %s" % (REPLICAS, describe(all_)))
    c.timeline.note("herding", share=[share(one), share(all_)], spread=[spread(one), spread(all_)],
                    ttft_p99=[median(one, "p99"), median(all_, "p99")])
    failed = sum(x["errors"] for x in one + all_)
    r.require(failed == 0, "TerminatesOnce: %d requests failed" % failed)
    if min(rate(one), rate(all_)) < STALLED * replay.rate:
        r.say("the machine did not keep %d streams a second: nothing is compared" % replay.rate)
    else:
        r.require(share(all_) >= share(one) - LOST, "replicas find less in caches than one does")
        least, most = min(spread([x]) for x in all_), max(spread([x]) for x in one)
        r.require(least <= most + UNEVEN, "replicas herd: one worker gets more than its share in every round, "
                  "%.3f of the mean at least, and %.3f at most through one" % (least, most))
    r.settle()
