#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The prefix index on the streams of README.md, in turn with the peer's best index.

    run.py BUILD_DIR [--trace FILE] [--ops FILE...] [--json] [--runs N] [--huge-pages]

Every measurement is a process of its own; ours and the peer's two best indexes alternate, CPU time,
medians of N (5). The peer is built once where cargo is; without it the rows have none and the program
says so. Without --ops the streams are made of the trace; one of less than 4,000 requests is repeated
four times under other ids, which is said at the start.

Ours is the time of the index's thread, in small pages as the program has it unless told otherwise. With
--huge-pages what the warmer's thread took meanwhile to touch memory for it (none below 16 MiB) is a row
of its own, and the memory row counts what is held in reserve.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.dont_write_bytecode = True

from table import Bench  # noqa: E402

EXCERPT = 4000
PEERS = ("crtc", "radix")
# What is made of the trace: name -> (options of the generator, split at).
STREAMS = {
    "whole": (["-b", "64", "-w", "16"], 0),
    "split 8": (["-b", "64", "-w", "16"], 8),
    "split 1": (["-b", "64", "-w", "16"], 1),
    "4 M entries": (["-b", "16", "-w", "64"], 0),
}
# (stream, private hashes) -> goals: the least ratio of apply, mixed and lookup, the most of the p99's, most bytes an entry
GOALS = {
    ("whole", False): (1.3, 1.4, 2, 0.7, None),
    ("split 8", False): (3, 2.5, None, 0.7, None),
    ("split 1", False): (6, 5, None, 0.7, 48),
    ("4 M entries", False): (1.3, 1.4, 2, None, 40),
    ("whole", True): (1.3, 1.4, None, None, None),
    ("split 1", True): (6, 5, None, None, None),
}
NO_GOALS = (None, None, None, None, None)


def say(words):
    print(words, file=sys.stderr, flush=True)


def make_streams(tools, trace, directory):
    """name -> file"""
    os.makedirs(directory, exist_ok=True)
    with open(trace, encoding="utf-8") as f:
        copies = 1 if sum(1 for _ in f) >= EXCERPT else 4
    files, stem = {}, os.path.basename(trace).removesuffix(".jsonl")
    for name, (options, split) in STREAMS.items():
        whole = os.path.join(directory, "%s.%s.x%d.ops" % (stem, "".join(options).replace("-", "_"), copies))
        if not os.path.exists(whole):
            subprocess.run([tools["gen"], trace, whole + ".part", "-x", str(copies)] + options, check=True, stdout=sys.stderr,
                           stderr=subprocess.DEVNULL)
            os.rename(whole + ".part", whole)
        out = whole
        if split:
            out = whole.removesuffix(".ops") + ".split%d.ops" % split
            if not os.path.exists(out):
                subprocess.run([tools["split"], whole, out + ".part", str(split)], check=True, stdout=sys.stderr,
                               stderr=subprocess.DEVNULL)
                os.rename(out + ".part", out)
        files[name] = out
    if copies > 1:
        say("streams of %s, repeated %d times; JR_TRACE names another trace" % (trace, copies))
    return files


def find_peer(directory):
    """The peer's program, or None."""
    path = os.path.join(directory, "target", "release", "peer-kv-router")
    if os.path.exists(path):
        return path
    if not shutil.which("cargo"):
        say("no peer: cargo is not here")
        return None
    say("building the peer, once: some minutes")
    done = subprocess.run(["bash", os.path.join(HERE, "peer-kv-router", "build.sh"), directory], stdout=subprocess.DEVNULL)
    if done.returncode or not os.path.exists(path):
        say("no peer: it could not be built")
        return None
    return path


def run_ours(tools, ops, mode, *options):
    done = subprocess.run([tools["index"], *options, ops, mode], capture_output=True, text=True)
    if not done.stdout:
        sys.exit("run.py: bench_index %s %s: %s" % (ops, mode, done.stderr.strip()))
    got = json.loads(done.stdout)
    return {"mops": got["mops"], "blocks": got["mops"] * got["cpu_s"], "ok": got["ok"], "bytes": got["bytes"] + got["slack"], "warmer": got["warmer_s"],
            "cpu": got["cpu_s"], "p99": got["p99"]}


def run_peer(peer, ops, index, mode, blocks):
    got = json.loads(subprocess.run([peer, ops, index, mode], capture_output=True, text=True, check=True).stdout)
    if mode == "mem":
        return got["bytes_per_entry"]
    return {"mops": blocks / got["cpu_s"], "p99": got.get("lookup_lat", {}).get("p99", 0) / 1000}


def median(runs, field):
    return statistics.median(r[field] for r in runs)


class Table:
    def __init__(self, args, tools, peer):
        self.bench, self.runs, self.tools, self.peer = Bench(args.json), args.runs, tools, peer
        self.options = ["--huge-pages"] if args.huge_pages else []
        self.checked = self.wrong = 0

    def ours(self, ops, mode, private):
        got = run_ours(self.tools, ops, mode, *self.options, *(["--private-hashes"] if private else []))
        self.checked += 1
        self.wrong += not got["ok"]
        return got

    def alternate(self, ops, mode, private):
        """Ours, and the peer's index that did best."""
        ours, peers = [], {p: [] for p in PEERS}
        peer_mode = "mixed" if mode == "waits" else mode
        for _ in range(self.runs):
            ours.append(self.ours(ops, mode, private))
            for index in PEERS if self.peer else ():
                peers[index].append(run_peer(self.peer, ops, index, peer_mode, ours[-1]["blocks"]))
        if not self.peer:
            return ours, None
        if mode == "waits":
            return ours, min(peers.values(), key=lambda r: median(r, "p99"))
        return ours, max(peers.values(), key=lambda r: median(r, "mops"))

    def rate(self, name, ops, mode, private, goal):
        ours, peer = self.alternate(ops, mode, private)
        floor = None if private else run_ours(self.tools, ops, mode, "--floor")["mops"]
        self.bench.add("%s: %s" % (name, mode), "Mblock-ops/s", median(ours, "mops"), peer=median(peer, "mops") if peer else None,
                       floor=floor, goal=goal if peer else None)
        if median(ours, "warmer") > median(ours, "cpu") / 100:
            self.bench.add("%s: %s, CPU time of the warmer beside ours" % (name, mode), "s of %.2f" % median(ours, "cpu"), median(ours, "warmer"))
        return ours

    def stream(self, name, ops, private=False):
        apply, mixed, lookup, p99, most = GOALS.get((name, private), NO_GOALS)
        if private:
            name += ", hashes of each engine"
        ours = self.rate(name, ops, "apply", private, apply)
        self.rate(name, ops, "mixed", private, mixed)
        if private:
            return
        self.rate(name, ops, "lookup", private, lookup)
        waits, peer = self.alternate(ops, "waits", private)
        self.bench.add("%s: lookup in mixed, p99" % name, "us", median(waits, "p99"), peer=median(peer, "p99") if peer else None,
                       goal=p99 if peer else None, less_is_better=True)
        held = min(run_peer(self.peer, ops, p, "mem", 0) for p in PEERS) if self.peer else None
        self.bench.add("%s: memory" % name, "bytes/entry", median(ours, "bytes"), peer=held, most=most)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--trace")
    parser.add_argument("--ops", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--huge-pages", action="store_true")
    args = parser.parse_args()
    binaries = os.path.join(args.build, "tests", "bench")
    tools = {"index": os.path.join(binaries, "bench_index"), "gen": os.path.join(binaries, "gen_index_ops"),
             "split": os.path.join(binaries, "split_ops")}
    table = Table(args, tools, find_peer(os.path.abspath(os.path.join(binaries, "peer-kv-router"))))
    if args.ops:
        for ops in args.ops:
            table.stream(os.path.basename(ops), ops)
    else:
        files = make_streams(tools, args.trace, os.path.join(binaries, "ops"))
        for name, ops in files.items():
            table.stream(name, ops)
        for name, private in GOALS:
            if private:
                table.stream(name, files[name], True)
    table.bench.answers("index: runs whose checksums hold", table.checked, table.wrong)
    return table.bench.end()


if __name__ == "__main__":
    sys.exit(main())
