# SPDX-License-Identifier: Apache-2.0
"""Figures of runs: what a record says in numbers, and several of them together."""
from . import validate


def of(record):
    """Of one run; lists hold one number for each time it happened."""
    starts = {(e["who"], e["start"]): e["t"] for e in record.of("start", "f")}
    replays, decisions = record.of("replay"), record.of("decisions")
    at_rest = sum(max(0, len(r["states"]) - 1) for r in record.rests)
    gone, bound = [e["after"] for e in record.of("load_gone")], record.run["ttl"] + 1
    under_way = sum(len(lives) - 1 for lives in validate.seen_digests(record.history).values())
    excused = validate.excuses(record)
    failed = [r for r in record.requests if r.outcome != validate.OK]
    return {
        "requests": len(record.requests) + sum(e["requests"] for e in replays),
        "failed": len(failed) + sum(e["errors"] for e in replays),
        "failed_on_the_killed": sum(1 for r in failed if excused(r)),
        "sent_twice": len(validate.sent_twice(record.arrivals, record.requests, validate.kills_of(record, "w"))),
        "arrived": len(record.arrivals),
        "digests_compared": at_rest + under_way,
        "to_ready_s": [e["t"] - starts[e["who"], e["start"]] for e in record.of("ready") if (e["who"], e["start"]) in starts],
        "load_gone_s": gone,
        "load_gone_late": sum(1 for s in gone if s > bound),
        "decisions": sum(e["asked"] for e in decisions),
        "decisions_same": sum(e["same"] for e in decisions),
    }


def total(figures):
    out = {}
    for f in figures:
        for key, value in f.items():
            out[key] = out.get(key, type(value)()) + value
    return out


def _spread(seconds):
    s = sorted(seconds)
    return "median %.1f s, longest %.1f s (%d times)" % (s[len(s) // 2], s[-1], len(s))


def lines(f):
    """For people."""
    out = ["requests sent %d, failed %d (of them %d under way on what was killed or while all was down), sent twice %d of %d that arrived" % (
        f["requests"], f["failed"], f["failed_on_the_killed"], f["sent_twice"], f["arrived"]),
        "digests compared %d" % f["digests_compared"]]
    if f["to_ready_s"]:
        out.append("time to ready: " + _spread(f["to_ready_s"]))
    if f["load_gone_s"]:
        out.append("load of a dead replica gone after: %s; %d later than its lease time + 1 s" % (
            _spread(f["load_gone_s"]), f["load_gone_late"]))
    if f["decisions"]:
        out.append("query-only decisions the same after kill -9: %d of %d (%.3f %%)" % (
            f["decisions_same"], f["decisions"], 100.0 * f["decisions_same"] / f["decisions"]))
    return out
