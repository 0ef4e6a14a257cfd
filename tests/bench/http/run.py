#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The HTTP path: our frontend in round-robin mode, haproxy as the peer, the workers alone as the floor.

    run.py BUILD_DIR [--json] [--runs N] [--seconds S] [--case NAME...]

Four mock workers, one load driver, the same bodies for all three. CPU is that of the proxy a request
(or a streamed event), measured by the driver from the outside; the floor of CPU is what the workers
themselves take a request. Medians of N interleaved runs. Every reply is checked in full.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path[:0] = [os.path.join(ROOT, "tests", "lib"), os.path.dirname(HERE)]
sys.dont_write_bytecode = True

from jr_procs import Failed, Procs, find_program, free_port, port_open, wait_for, wait_http  # noqa: E402
from table import Bench  # noqa: E402

WORKERS = 4
# name -> (body, is a stream, options of the driver; bounded in count by -n and in time by -d)
CASES = {
    "1 KiB": ("c1k.json", False, ["-c", "32", "-n", "20000", "-w", "500", "-m", "64"]),
    "16 KiB": ("c16k.json", False, ["-c", "32", "-n", "10000", "-w", "200", "-m", "64"]),
    "32k token ids": ("ints32k.json", False, ["-c", "16", "-n", "2000", "-w", "50", "-m", "64"]),
    "stream of 128": ("s1k.json", True, ["-c", "64", "-r", "48", "-w", "48", "-m", "64", "-e", "128", "-s"]),
}
STREAM_ITL_US = 5000


def command(argv):
    got = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    return got.returncode, got.stdout, got.stderr


class Rig:
    """Workers and the three ways to them: {name: (url, pids whose CPU counts)}."""

    def __init__(self, procs, bins, jetrouter):
        self.procs, self.bins = procs, bins
        first = free_port(WORKERS)
        self.ports = list(range(first, first + WORKERS))
        worker = procs.start("mockworker", [os.path.join(bins, "mockworker"), "-p", "%d-%d" % (first, self.ports[-1])])
        for port in self.ports:
            wait_for(lambda: port_open(port), "mock worker on %d" % port)
        ours = free_port()
        argv = [jetrouter, "frontend", "--http-host", "127.0.0.1", "--http-port", str(ours),
                "--router-mode", "round-robin"]
        for port in self.ports:
            argv += ["--worker", "http://127.0.0.1:%d" % port]
        frontend = procs.start("frontend", argv)
        wait_http("http://127.0.0.1:%d/ready" % ours, proc=frontend)
        haproxy, peer = self._haproxy()
        hosts = ",".join("127.0.0.1:%d" % p for p in self.ports)
        self.ways = {"measured": ("127.0.0.1:%d" % ours, frontend.pid),
                     "peer": ("127.0.0.1:%d" % peer, haproxy.pid), "floor": (hosts, worker.pid)}

    def _haproxy(self):
        port = free_port()
        with open(os.path.join(HERE, "haproxy.cfg")) as f:
            text = f.read().replace("@listen@", str(port))
        for i, p in enumerate(self.ports):
            text = text.replace("@w%d@" % (i + 1), str(p))
        path = os.path.join(self.procs.folder, "haproxy.cfg")
        with open(path, "w") as f:
            f.write(text)
        p = self.procs.start("haproxy", [find_program("haproxy", "haproxy"), "-db", "-f", path])
        wait_for(lambda: port_open(port), "haproxy")
        return p, port

    def set_workers(self, query):
        for port in self.ports:
            wait_http("http://127.0.0.1:%d/_mock/set?%s" % (port, query))

    def load(self, way, body, options, seconds):
        """The driver's report; errors counts every reply that was wrong or missing."""
        host, pid = self.ways[way]
        if "-r" in options:  # its warm-up takes a second, and a stream most of another
            seconds += 2
        code, out, err = command([os.path.join(self.bins, "loadgen"), *options, "-d", seconds, "-b", body, "-P", pid,
                                  "http://%s/v1/completions" % host])
        if not out.startswith("{"):
            raise Failed("the load driver failed (%d): %s" % (code, err))
        return json.loads(out)


def bench_case(bench, rig, bodies, name, args):
    body, is_stream, options = CASES[name]
    rig.set_workers("itl_us=%d" % (STREAM_ITL_US if is_stream else 0))
    runs = {way: [] for way in rig.ways}
    for _ in range(args.runs):
        for way in rig.ways:
            runs[way].append(rig.load(way, os.path.join(bodies, body), options, args.seconds))

    def median(way, field):
        return statistics.median(r[field] for r in runs[way])

    def row(what, unit, field):
        bench.add("%s: %s" % (name, what), unit, **{way: median(way, field) for way in runs}, less_is_better=True)
    if is_stream:
        row("CPU of an event", "us", "cpu_us_event")
        row("delay of an event, p99", "us", "delay_p99_us")
    else:
        row("CPU of a request", "us", "cpu_us_req")
        row("latency, p99", "us", "p99_us")
    ours = runs["measured"]
    none = sum(not r["ok"] for r in ours)  # a run without any answer is wrong too
    bench.answers("%s: answers" % name, sum(r["ok"] + r["errors"] for r in ours) + none,
                  sum(r["errors"] for r in ours) + none)
    for way in runs:
        bad = [r for r in runs[way] if r["errors"] or not r["ok"]]
        if bad:
            print("%s, %s: %s" % (name, way, json.dumps(bad[0])), file=sys.stderr)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("build")
    ap.add_argument("--json", action="store_true")
    ap.add_argument("--runs", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=3)
    ap.add_argument("--case", action="append", choices=sorted(CASES))
    args = ap.parse_args()
    bins = os.path.join(os.path.abspath(args.build), "tests", "bench", "http")
    code, out, err = command(["make", "-s", "-C", HERE, "BIN=" + bins])
    if code:
        raise Failed("make failed:\n%s%s" % (out, err))
    bench = Bench(args.json)
    with tempfile.TemporaryDirectory() as bodies, Procs() as procs:
        command([sys.executable, os.path.join(HERE, "mkbodies.py"), bodies])
        rig = Rig(procs, bins, os.path.join(os.path.abspath(args.build), "jetrouter"))
        for name in args.case or CASES:
            bench_case(bench, rig, bodies, name, args)
    return bench.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as e:
        sys.exit("bench http: %s" % e)
