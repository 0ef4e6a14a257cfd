#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the data plane costs beside haproxy (the floor) and nobody at all (the workers alone).

    run.py BUILD_DIR [--json] [--quick] [--runs N] [--seconds S] [--case NAME...]

Four mock workers, one load driver, the same bodies for all. Ours runs twice: "kv" routes by the index, with
four bridges that publish events meanwhile and replica sync on; "plain" is round-robin without NATS. CPU is that
of the proxy's process a request (or a streamed event), told by the scheduler; "aside" is the share that
threads other than the loop had of it. The runs of all ways alternate; medians, and behind them how far the runs of kv
lie apart. Every reply is checked in full.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path[:0] = [HERE, os.path.dirname(HERE), os.path.join(ROOT, "tests", "lib")]
sys.dont_write_bytecode = True

from jr_procs import Failed, Procs  # noqa: E402
from table import Bench  # noqa: E402
from rig import CACHED, Rig, Waiting, command, rss_kb  # noqa: E402

WAYS = ("kv", "haproxy", "plain", "direct")
PACED_US = 5000
CLOSED = ["-c", "32", "-m", "64"]
# name -> (body, options of the driver, delay between a worker's events, fields, goal and stretch against haproxy)
REQUEST, EVENT = ("cpu_us_req", "cpu_main_us_req"), ("cpu_us_event", "cpu_main_us_event")
CASES = {
    "1 KiB": ("ids1k.json", CLOSED + ["-n", "60000", "-w", "500"], 0, REQUEST, 1.0, 0.8),
    "16 KiB": ("ids16k.json", CLOSED + ["-n", "30000", "-w", "200"], 0, REQUEST, 1.0, 0.8),
    "234 kB of text": ("text235k.json", CLOSED + ["-n", "4000", "-w", "32"], 0, REQUEST, 2.0, 1.3),
    "32,768 token ids": ("ints32k.json", CLOSED + ["-n", "4000", "-w", "50"], 0, REQUEST, 3.5, 2.5),
    "paced stream": ("sids1k.json", ["-c", "64", "-r", "48", "-w", "48", "-m", "64", "-e", "128", "-s"], PACED_US, EVENT,
                     1.1, 0.95),
    "burst stream": ("sids1k.json", CLOSED + ["-n", "6000", "-w", "64", "-e", "128", "-s"], 0, EVENT, 1.0, 0.8),
}
LATENCY = ("ids1k.json", ["-c", "64", "-r", "1000", "-w", "500", "-m", "64"])
LATENCY_GOAL, LATENCY_STRETCH = 1.3, 1.0
# name -> (body, waiting requests, most KiB of each)
MEMORY = {"waiting 1 KiB": ("c1k.json", 500, 24.0), "waiting 234 kB": ("text235k.json", 100, 1.1 * 233696 / 1024)}
IDLE_MOST_MIB = 24.0
# Cases that run with --http-threads 1 and 2, at full speed: {case: name of the rows}
LOOPS = {"1 KiB": "1 KiB", "32,768 token ids": "32,768 ids"}


class Table(Bench):
    """Rows of kv beside the others; a goal is a ratio to haproxy, or the most when that is said."""

    def add(self, name, unit, runs, goal, stretch=None, most=False, aside=None):
        """runs: {way: values of its runs}."""
        mid = {way: statistics.median(values) for way, values in runs.items()}
        ours, floor = mid["kv"], mid["haproxy"]
        ratio = ours / floor if floor > 0 else None
        ok = goal is None or (ours <= goal if most else ratio is not None and ratio <= goal)
        self.missed += not ok
        spread = (max(runs["kv"]) - min(runs["kv"])) / ours * 100 if ours else 0
        self._print({"name": name, "unit": unit, "goal": goal, "stretch": stretch, "measured": ours, "floor": floor,
                     "ratio": ratio, "spread_pct": spread, "aside": aside, "plain": mid.get("plain"),
                     "plain_ratio": mid["plain"] / floor if floor > 0 and "plain" in mid else None,
                     "direct": mid.get("direct"), "runs": len(runs["kv"]), "ok": ok}, "" if ok else "  MISSED")

    def heading(self):
        return "%-22s %-13s %7s %7s %9s %8s %7s %7s %7s %9s %7s %8s" % (
            "name", "unit", "goal", "stretch", "measured", "haproxy", "ratio", "spread", "aside", "plain", "ratio", "direct")

    def line(self, row):
        def cell(key, width, form="%.4g"):
            value = row.get(key)
            return " %*s" % (width, "-" if value is None else form % value)
        return ("%-22s %-13s" % (row["name"], row["unit"]) + cell("goal", 7) + cell("stretch", 7)
                + cell("measured", 9) + cell("floor", 8) + cell("ratio", 7, "%.2fx") + cell("spread_pct", 7, "%.0f%%")
                + cell("aside", 7, "%.3g") + cell("plain", 9) + cell("plain_ratio", 7, "%.2fx") + cell("direct", 8))


def run_all(rig, body, options, args, ways=WAYS):
    """{way: the driver's reports}, a round of all ways after the other."""
    runs = {way: [] for way in ways}
    for i in range(args.runs):
        for way in ways[i % len(ways):] + ways[:i % len(ways)]:
            runs[way].append(rig.load(way, body, options, args.seconds))
    return runs


def check(table, name, runs):
    checked = wrong = 0
    for way, reports in runs.items():
        for r in reports:
            bad = r["errors"] + (not r["ok"])  # a run without any answer is wrong too
            checked, wrong = checked + r["ok"] + bad, wrong + bad
            if bad:
                print("%s, %s: %s" % (name, way, json.dumps(r)), file=sys.stderr)
    table.answers(name, checked, wrong)


def bench_cpu(table, rig, name, args):
    body, options, itl_us, (field, main_field), goal, stretch = CASES[name]
    rig.set_workers("itl_us=%d" % itl_us)
    if body == "text235k.json":  # each of its 64 texts once, for who keeps what the tokenizer said
        rig.load("kv", body, CLOSED + ["-n", "128"], 30)
    runs = run_all(rig, body, options, args)
    aside = statistics.median(r[field] - r[main_field] for r in runs["kv"])
    table.add(name, "us/event" if field == EVENT[0] else "us/request",
              {way: [r[field] for r in reports] for way, reports in runs.items()}, goal, stretch, aside=aside)
    check(table, name, runs)


def bench_latency(table, rig, args):
    rig.set_workers("itl_us=0")
    runs = run_all(rig, *LATENCY, args)
    for q in ("p50", "p99"):
        added = {way: [r[q + "_us"] - d[q + "_us"] for r, d in zip(runs[way], runs["direct"])] for way in WAYS}
        added["direct"] = [r[q + "_us"] for r in runs["direct"]]
        table.add("added latency, " + q, "us", added, LATENCY_GOAL, LATENCY_STRETCH)
    check(table, "latency", runs)


def bench_loops(table, rig, args):
    """One and two HTTP loops: what a request costs, and how many a second there are. The driver, the workers,
    NATS and the bridges have the same cores: where they leave none idle, a second loop has no room to show."""
    rig.set_workers("itl_us=0")
    for way in ("kv", "plain"):
        rig.ways[way + " 2"] = rig.start(way, "-2", http_threads=2)
    for case, name in LOOPS.items():
        body, options = CASES[case][:2]
        runs = run_all(rig, body, options, args, (*WAYS, "kv 2", "plain 2"))
        for loops, tail in ((1, ""), (2, " 2")):
            of = {"kv": "kv" + tail, "haproxy": "haproxy", "plain": "plain" + tail, "direct": "direct"}
            for field, unit in (("cpu_us_req", "us/request"), ("rps", "requests/s")):
                table.add("%s, %d loop%s" % (name, loops, "s"[:loops - 1]), unit,
                          {way: [r[field] for r in runs[way_]] for way, way_ in of.items()}, None)
        check(table, name + ", loops", runs)


def bench_memory(table, rig, args):
    ways = ("kv", "haproxy", "plain")
    idle = {way: [] for way in ways}
    held = {name: {way: [] for way in ways} for name in MEMORY}
    rig.set_workers("ttft_us=600000000")
    for i in range(args.memory_runs):
        for way in ways:
            for name, (body, n, _) in MEMORY.items():
                host, pid = rig.start(way, "-%s-%d" % (name.replace(" ", "-"), i))
                idle[way].append(rss_kb(pid) / 1024)
                first = Waiting(rig, host, body, 1)  # buffers that are there once are not of each
                before = rss_kb(pid)
                waiting = Waiting(rig, host, body, n)
                held[name][way].append((rss_kb(pid) - before) / n)
                waiting.close()
                first.close()
                rig.stop(pid)
    rig.set_workers("ttft_us=0")
    table.add("resident, idle", "MiB", idle, IDLE_MOST_MIB, most=True)
    for name, (_, _, most) in MEMORY.items():
        table.add("resident, " + name, "KiB each", held[name], most, most=True)


def check_routing(table, rig):
    """The rows of kv are of routing by what caches hold, or they mean nothing."""
    asked, found = (rig.metric("kv", "jetrouter_%s_blocks_total" % w) for w in ("prompt", "overlap"))
    if asked:  # half of each prompt is everywhere; texts are in no cache
        table.answers("blocks found in caches", int(found), 0 if found > 0.1 * asked else 1)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("build")
    ap.add_argument("--json", action="store_true")
    ap.add_argument("--quick", action="store_true", help="one short run of each: less than a minute, only to look")
    ap.add_argument("--runs", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=3)
    ap.add_argument("--case", action="append", choices=[*CASES, "latency", "memory", "loops"])
    args = ap.parse_args()
    args.memory_runs = 3
    if args.quick:
        args.runs, args.seconds, args.memory_runs = 1, 0.7, 1
    build = os.path.abspath(args.build)
    code, out, err = command(["make", "-s", "-C", HERE, "BIN=" + os.path.join(build, "tests", "bench", "proxy")])
    if code:
        raise Failed("make failed:\n%s%s" % (out, err))
    table = Table(args.json)
    with tempfile.TemporaryDirectory() as bodies, Procs(os.path.join(build, "jetrouter")) as procs:
        command([sys.executable, os.path.join(HERE, "mkbodies.py"), bodies])
        rig = Rig(procs, build, bodies)
        try:
            for name in args.case or [*CASES, "latency", "memory", "loops"]:
                if name in CASES:
                    bench_cpu(table, rig, name, args)
                else:
                    {"latency": bench_latency, "memory": bench_memory, "loops": bench_loops}[name](table, rig, args)
            if {CASES[c][0] for c in args.case or CASES if c in CASES} & set(CACHED):
                check_routing(table, rig)
        finally:
            rig.close()
    return table.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as e:
        sys.exit("bench proxy: %s" % e)
