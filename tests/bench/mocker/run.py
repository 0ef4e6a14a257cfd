#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many requests a mock engine answers, so that it is never what is measured.

    run.py BUILD_DIR [--json] [--runs N]

One mock engine at --speedup-ratio 0, alone on one core, and one load driver on another; prompts of
1 KiB, 8 tokens an answer, every reply checked in full. The floor is the bench's own bare mock worker
in the engine's place: what the driver can ask at all. Runs alternate; medians. Where others have a part
of the cores, the rows of CPU time are those that say what an engine takes.

Then ENGINES of them in one process, with KV events and replays: what one costs in memory, and that every
one answers, the whole process having no more threads than it has for one.
"""
import argparse
import json
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.dirname(HERE)
ROOT = os.path.dirname(os.path.dirname(BENCH))
sys.path[:0] = [BENCH, os.path.join(BENCH, "proxy"), os.path.join(ROOT, "tests", "lib")]
sys.dont_write_bytecode = True

from jr_procs import Failed, Procs, call, find_program, free_port, port_open, wait_for  # noqa: E402
from rig import command  # noqa: E402
from table import Bench  # noqa: E402

GOAL = 20000  # requests/s on one core
TOKENS = 8
ENGINES = 1000


def process(pid):
    """Threads, and KiB resident."""
    with open("/proc/%d/status" % pid) as f:
        fields = dict(line.split(":", 1) for line in f if ":" in line)
    return int(fields["Threads"]), int(fields["VmRSS"].split()[0])


def many(procs, bench):
    one = procs.mocker("one", events=True, speedup_ratio=0)
    threads, alone = process(one.pid)
    fleet = procs.mocker("fleet", n=ENGINES, events=True, speedup_ratio=0)
    idle = process(fleet.pid)[1]
    wrong = 0
    for i, url in enumerate(fleet.urls):
        prompt = {"model": "mock-model", "prompt": [i] * 512, "max_tokens": TOKENS}
        status, _, body = call("POST", url + "/v1/completions", prompt)
        wrong += status != 200 or json.loads(body)["usage"]["completion_tokens"] != TOKENS
    now, used = process(fleet.pid)
    bench.add("%d engines in one process, an engine" % ENGINES, "KiB resident", (idle - alone) / (ENGINES - 1))
    bench.add("the same, each with a prompt of 8 blocks", "KiB resident", (used - alone) / (ENGINES - 1))
    bench.answers("engines that answer, on no more threads", ENGINES, wrong + (now > threads))


def body(folder):
    """1 KiB of which each request has seven digits of its own (the driver's -m)."""
    path = os.path.join(folder, "body.json")
    head = {"model": "mock-model", "max_tokens": TOKENS, "prompt": "10000000"}
    text = "10000000"
    while len(json.dumps(head)) < 1024:
        text += " tokens of text"
        head["prompt"] = text
    with open(path, "w") as f:
        json.dump(head, f)
    return path


def main():
    a = argparse.ArgumentParser()
    a.add_argument("build")
    a.add_argument("--json", action="store_true")
    a.add_argument("--runs", type=int, default=5)
    o = a.parse_args()
    bins = os.path.join(o.build, "tests", "bench", "proxy")
    code, _, err = command(["make", "-s", "-C", os.path.join(BENCH, "proxy"), "BIN=" + os.path.abspath(bins)])
    if code:
        raise Failed("the load driver does not build: " + err)
    cores = sorted(os.sched_getaffinity(0))
    one, other, taskset = str(cores[0]), str(cores[-1]), find_program("taskset", "util-linux")
    with Procs(os.path.abspath(os.path.join(o.build, "jetrouter"))) as procs:
        bare_port, port = free_port(), free_port()
        bare = procs.start("bare", [taskset, "-c", one, os.path.join(bins, "mockworker"), "-p", str(bare_port)])
        ours = procs.start("mocker", [taskset, "-c", one, procs.jetrouter, "mocker", "--http-host", "127.0.0.1",
                                      "--http-port", str(port), "--speedup-ratio", "0",
                                      "--zmq-kv-events-ports", str(free_port())])
        wait_for(lambda: port_open(bare_port) and port_open(port), "both workers")
        path, ways = body(procs.folder), {"bare": (bare, bare_port), "ours": (ours, port)}
        rates, cpu, ok, wrong = {"bare": [], "ours": []}, {"bare": [], "ours": []}, 0, 0
        for _ in range(o.runs):
            for way, (proc, at) in ways.items():
                code, out, err = command([
                    taskset, "-c", other, os.path.join(bins, "loadgen"), "-c", "32", "-m", "64", "-n", "60000", "-w",
                    "500", "-d", "20", "-b", path, "-P", proc.pid, "http://127.0.0.1:%d/v1/completions" % at])
                if not out.startswith("{"):
                    raise Failed("the load driver failed (%d): %s" % (code, err))
                got = json.loads(out)
                rates[way].append(got["rps"])
                cpu[way].append(1e6 / got["cpu_us_req"])
                ok, wrong = ok + got["ok"], wrong + got["errors"]
        mid = {way: statistics.median(v) for way, v in rates.items()}
        of_cpu = {way: statistics.median(v) for way, v in cpu.items()}
        bench = Bench(o.json)
        bench.add("mocker, 1 KiB, %d tokens, beside bare" % TOKENS, "requests/s", mid["ours"], floor=mid["bare"])
        bench.add("mocker, 1 KiB, %d tokens, to its goal" % TOKENS, "requests/s", mid["ours"], floor=GOAL, goal=1.0)
        bench.add("the same, of the engine's CPU time, beside bare", "requests/s", of_cpu["ours"], floor=of_cpu["bare"])
        bench.add("the same, of the engine's CPU time, to its goal", "requests/s", of_cpu["ours"], floor=GOAL, goal=1.0)
        bench.answers("answers", ok + wrong, wrong)
        many(procs, bench)
        return bench.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as e:
        sys.exit("bench mocker: %s" % e)
