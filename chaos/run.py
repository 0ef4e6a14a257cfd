#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs chaos scenarios: faults against real processes, then what was promised is checked.

    run.py [SCENARIO...] [--short] [--seed N] [--list] [--keep] [--jetrouter PATH] [--out DIR]

Without names all scenarios run. Exit code: 0 when every promise held, 1 on a violation; the evidence
(logs of all processes, history.jsonl, requests.jsonl, states.json) stays in the folder that is named.
"""
import argparse
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "chaos"), os.path.join(ROOT, "tests", "lib")]
sys.dont_write_bytecode = True

from lib import validate  # noqa: E402
from lib.cluster import Cluster, Failed, restored  # noqa: E402
from lib.nats import NatsError  # noqa: E402
from lib.traffic import Request, Traffic  # noqa: E402
from jr_procs import metric  # noqa: E402


class Run:
    """What a scenario has in hand: a cluster, traffic, a random source, a place for violations."""

    def __init__(self, name, seed, short, jetrouter, directory):
        self.name, self.seed, self.short, self.jetrouter, self.dir = name, seed, short, jetrouter, directory
        self.rng = random.Random(seed)
        self.violations, self.notes = [], []
        self.cluster = None
        self.all_traffic = []
        self.began = time.monotonic()

    def say(self, text):
        print("  %6.1f s  %s" % (time.monotonic() - self.began, text), flush=True)

    def start(self, **kw):
        self.cluster = Cluster(self.jetrouter, self.dir, **kw)
        self.cluster.start()
        self.say("%d replicas, %d workers%s" % (len(self.cluster.frontends), len(self.cluster.workers),
                                                ", haproxy" if self.cluster.haproxy else ""))
        return self.cluster

    def traffic(self, ports=None, **kw):
        c = self.cluster
        ports = ports or ([c.front_port] if c.haproxy else [f.port for f in c.frontends])
        t = Traffic(ports, self.seed + len(self.all_traffic), **kw).start()
        self.all_traffic.append(t)
        return t

    def check(self, violations):
        self.violations += violations
        for v in violations:
            self.say("VIOLATION " + v)

    def require(self, condition, what):
        """A promise that holds or not, here and now."""
        if not condition:
            self.check([what])

    def healthy(self):
        wrong = self.cluster.healthy()
        self.require(wrong is None, "before the fault: %s" % wrong)

    def settle(self):
        """The end of every scenario: no traffic, rest, and everything that must hold at rest."""
        c = self.cluster
        for t in self.all_traffic:
            t.stop()
        c.quiesce()
        self.say("at rest at %d" % c.last_seq())
        pools, history = c.pools(), c.observer.records()
        self.check(validate.IndexDigestConverges(pools))
        self.check(validate.LoadAccountingReturnsToZero(c))
        self.check(validate.ReadyOnlyWhenCaughtUp(c))
        self.check(validate.Ordered(history))
        self.check(validate.Unique(history))
        self.check(validate.NothingForgotten(history))
        self.check(validate.SnapshotsOnlyGrow(history))
        c.follower.await_seq(max(p["applied_seq"] for p in pools.values()))
        log = list(c.follower.log)
        self.check(validate.NoGap(log))
        if c.follower.whole:
            self.check(validate.AgreesWithWitness(log, pools))
            self.say("%d messages of the log were read apart; they leave blocks %s" % (
                len(log), validate.Witness(log).blocks()))
        else:
            self.say("part of the log was purged before it could be read: the replicas' block counts are not compared with it")
        self.probe()
        c.quiesce()
        return c.pools()

    def probe(self, n=12):
        """At rest: what the index says of a prompt, the chosen worker has. Routes n prompts one by one."""
        c, t = self.cluster, self.all_traffic[0]
        f = self.rng.choice(c.frontends)
        url = "http://127.0.0.1:%d" % f.port
        bad, matched = [], 0
        for number in self.rng.sample([i for i, p in enumerate(t.prompts) if len(p) % 64], n):
            c.quiesce(rest=0.1)
            before = metric(url, "jetrouter_predicted_cached_tokens_total")
            r = Request(0, number, False)
            t.one(r, f.port, {})
            predicted = metric(url, "jetrouter_predicted_cached_tokens_total") - before
            matched += predicted
            if r.outcome != "ok" or predicted > r.cached:
                bad.append("%s predicted %d cached tokens, the worker had %d (%s)" % (f.name, predicted, r.cached, r.outcome))
        self.check(["NeverOverMatches: %s" % b for b in bad])
        self.say("%d prompts one by one through %s: %d tokens predicted to be cached" % (n, f.name, matched))

    def cold_start(self, frontends, before):
        """These start again from snapshot and log: to the same position and the same digest."""
        c = self.cluster
        for f in frontends:
            f.kill()
        for f in frontends:
            f.start()
        for f in frontends:
            f.await_ready()
        c.quiesce()
        after = c.pools()
        self.check(validate.IndexDigestConverges(after))
        self.check(validate.ReadyOnlyWhenCaughtUp(c))
        for f in frontends:
            p, was = after[f.name], before[f.name]
            self.say("%s started cold to %d, %d of them from a snapshot" % (f.name, p["applied_seq"], restored(p)))
            if p["applied_seq"] == was["applied_seq"]:
                self.require(p["digest"] == was["digest"], "Resumable: %s came back with digest %s instead of %s at %d" % (
                    f.name, p["digest"], was["digest"], p["applied_seq"]))
            else:
                c.follower.await_seq(p["applied_seq"])
                self.say("the log went on meanwhile: %s" % ["%d %s" % m for m in c.follower.log if m[0] > was["applied_seq"]][:5])
            if p["stream_first_seq"] > 1:
                self.require(restored(p) > 0, "Resumable: %s used no snapshot, though messages were purged" % f.name)

    def requests(self):
        return [r for t in self.all_traffic for r in t.results()]

    def save(self):
        with open(os.path.join(self.dir, "states.json"), "w") as f:
            json.dump({x.name: x.state() for x in self.cluster.frontends}, f, indent=1)
        with open(os.path.join(self.dir, "requests.jsonl"), "w") as f:
            f.writelines(json.dumps(r.line()) + "\n" for r in self.requests())

    def save_violations(self):
        with open(os.path.join(self.dir, "violations.txt"), "w") as f:
            f.writelines(v + "\n" for v in self.violations)


def run_one(name, seed, args):
    module = importlib.import_module("scenarios." + name)
    directory = os.path.join(args.out, "%s-%d" % (name, seed))
    shutil.rmtree(directory, ignore_errors=True)
    run = Run(name, seed, args.short, os.path.abspath(args.jetrouter), directory)
    print("%s, seed %d%s" % (name, seed, ", short" if args.short else ""), flush=True)
    try:
        module.run(run)
    except Failed as e:
        run.check(["Terminates: %s" % e])
    except (OSError, NatsError, KeyError, TypeError, AssertionError) as e:
        traceback.print_exc()
        run.check(["the scenario broke off: %s: %s" % (type(e).__name__, e)])
    finally:
        if run.cluster:
            for p in run.cluster.frontends + run.cluster.workers:
                p.resume()
            for t in run.all_traffic:
                t.stopping.set()
            run.save()
            run.check(run.cluster.close())
            run.save_violations()
    return finish(run, args)


def finish(run, args):
    asked = len(run.requests())
    failed = sum(1 for r in run.requests() if r.outcome != "ok")
    words = "%s, seed %d: %s (%d requests, %d not answered, %.0f s)" % (
        run.name, run.seed, "FAILED" if run.violations else "passed", asked, failed, time.monotonic() - run.began)
    print(words)
    if run.violations:
        print("  evidence: %s" % run.dir)
        print("  again: ./dev chaos %s --seed %d%s" % (run.name, run.seed, " --short" if run.short else ""), flush=True)
    elif not args.keep:
        shutil.rmtree(run.dir, ignore_errors=True)
    return not run.violations


def commit():
    got = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return got.stdout.strip() or "?"


def scenario_names():
    here = os.path.join(ROOT, "chaos", "scenarios")
    return sorted(f[:-3] for f in os.listdir(here) if f.endswith(".py") and not f.startswith("_"))


def main():
    ap = argparse.ArgumentParser(description="faults against real processes; exit code 1 on a violation")
    ap.add_argument("scenario", nargs="*", help="default: all")
    ap.add_argument("--short", action="store_true", help="fewer faults: all scenarios in under three minutes")
    ap.add_argument("--seed", type=int, help="of the random choices; default: the time")
    ap.add_argument("--list", action="store_true", help="names and promises of the scenarios")
    ap.add_argument("--keep", action="store_true", help="keep the evidence of runs that passed too")
    ap.add_argument("--jetrouter", default=os.path.join(ROOT, "build", "dev", "jetrouter"),
                    help="a build with failpoints (default: build/dev/jetrouter)")
    ap.add_argument("--out", default=os.path.join(ROOT, "build", "chaos"), help="where evidence goes")
    args = ap.parse_args()
    names = scenario_names()
    if args.list:
        for name in names:
            print("%-24s %s" % (name, importlib.import_module("scenarios." + name).PROMISES))
        return 0
    for name in args.scenario:
        if name not in names:
            ap.error("no scenario '%s'; there are: %s" % (name, " ".join(names)))
    seed = args.seed if args.seed is not None else int(time.time()) % 1000000
    failed = []
    for name in args.scenario or names:
        if not run_one(name, seed, args):
            failed.append(name)
    print("chaos at %s: %s" % (commit(), "FAILED: " + " ".join(failed) if failed else "all promises held"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
