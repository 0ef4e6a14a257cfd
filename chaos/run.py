#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs chaos scenarios: faults against real processes, then what was promised is checked.

    run.py smoke|all|SCENARIO... [--seed N] [--jobs N] [--list] [--keep] [--jetrouter PATH] [--out DIR]
    run.py check FOLDER...      the validators again, on what runs have left

Exit code: 0 when every promise held, 1 on a violation; the evidence (chaos/lib/record.py says what)
stays in the folder that is named.
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

from jr_procs import Failed, die_with_parent, metric  # noqa: E402
from lib import figures, validate  # noqa: E402
from lib.cluster import Cluster  # noqa: E402
from lib.nats import NatsError  # noqa: E402
from lib.process import restored, wait_for  # noqa: E402
from lib.record import Record  # noqa: E402
from lib.traffic import Request, Traffic  # noqa: E402

LEVELS = ("smoke", "all", "soak")


class Run:
    """What a scenario has in hand: a cluster, traffic, a random source, a timeline."""

    def __init__(self, name, args):
        self.name, self.args, self.seed, self.level = name, args, args.seed, args.level
        self.jetrouter = os.path.abspath(args.jetrouter)
        self.older = os.path.abspath(args.upgrade_from) if args.upgrade_from else None
        self.dir = os.path.join(args.out, "%s-%d" % (name, args.seed))
        self.rng = random.Random(args.seed)
        self.cluster = None
        self.all_traffic = []
        self.began = time.monotonic()
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)

    def say(self, text):
        print("  %6.1f s  %s" % (time.monotonic() - self.began, text), flush=True)

    def rounds(self, smoke, all_, soak):
        """How often a fault comes, by level."""
        return (smoke, all_, soak)[LEVELS.index(self.level)]

    def start(self, **kw):
        c = self.cluster = Cluster(self.jetrouter, self.dir, **kw)
        with open(c.path("run.json"), "w") as f:
            json.dump({"scenario": self.name, "seed": self.seed, "level": self.level, "ttl": c.ttl, "commit": commit()}, f)
        c.start()
        self.say("%d replicas, %d workers%s%s" % (len(c.frontends), len(c.workers), ", haproxy" if c.haproxy else "",
                                                  ", 3 nats-servers" if len(c.servers) > 1 else ""))
        return c

    def traffic(self, ports=None, **kw):
        c = self.cluster
        ports = ports or ([c.front_port] if c.haproxy else [f.port for f in c.frontends])
        t = Traffic(ports, self.seed * 10 + len(self.all_traffic), **kw).start()
        self.all_traffic.append(t)
        return t

    def answers(self, traffic, n, timeout=60):
        """Waits for n more answers."""
        asked = traffic.count()
        wait_for(lambda: traffic.count() >= asked + n, lambda: "%d answers, there are %d" % (n, traffic.count() - asked), timeout)

    def violation(self, words):
        self.say("VIOLATION " + words)
        if self.cluster:
            self.cluster.timeline.note("violation", words=words)

    def kill_under_load(self, f):
        """SIGKILL of a replica that has requests, and how long its peers count them after that."""
        c = self.cluster

        def counted():
            return sum(q["active_requests"] for n, p in c.pools().items() if n != f.name
                       for q in p["peers"] if q["id"] == f.name and q["listed"])
        wait_for(counted, "peers that count requests of %s" % f.name)
        at = time.monotonic()
        f.kill()
        had = counted()
        wait_for(lambda: not counted(), "its peers count nothing of %s" % f.name, 60, 0.02)
        if had:
            c.timeline.note("load_gone", f.name, had=had, after=time.monotonic() - at)

    def require(self, condition, what):
        """A promise that holds or not, here and now."""
        if not condition:
            self.violation(what)

    def healthy(self):
        wrong = self.cluster.healthy()
        self.require(wrong is None, "before the fault: %s" % wrong)

    def outlives(self, since):
        """From then until now every replica that runs must have been ready all the time."""
        self.cluster.timeline.note("outlives", since=since, until=time.monotonic())

    def rest(self, started=()):
        """Waits for rest and writes down where everybody is. started: who was started again since the last."""
        c = self.cluster
        seq, states = c.quiesce()
        if c.follower:
            c.follower.await_seq(seq)
        line = {"t": time.monotonic(), "last_seq": seq, "part": c.follower.part if c.follower else 0,
                "states": states, "started": [f.name for f in started]}
        with open(c.path("rests.jsonl"), "a") as f:
            f.write(json.dumps(line) + "\n")
        self.say("at rest at %d: %s" % (seq, " ".join("%s %s" % (n, s["pools"][0]["digest"][:8]) for n, s in states.items())))

    def settle(self, cold=()):
        """The end of every scenario: no traffic, rest, prompts one by one, and these replicas start
        again from snapshot and log."""
        for t in self.all_traffic:
            t.stop()
        self.rest()
        if self.all_traffic:
            self.probe()
            self.rest()
        self.cold_start(cold)

    def probe(self, n=8):
        """At rest: what the index says of a prompt, the chosen worker has."""
        c, t = self.cluster, self.all_traffic[0]
        f = self.rng.choice(c.frontends)
        url = "http://127.0.0.1:%d" % f.port
        for i, number in enumerate(self.rng.sample([i for i, p in enumerate(t.prompts) if len(p) % t.block], n)):
            c.quiesce(rest=0.1)
            c.await_told()
            before = metric(url, "jetrouter_predicted_cached_tokens_total")
            r = Request("probe-%d" % i, number, False)
            t.one(r, f.port, {})
            c.timeline.note("probe", f.name, prompt=number, outcome=r.outcome, cached=r.cached,
                            predicted=metric(url, "jetrouter_predicted_cached_tokens_total") - before)

    def cold_start(self, frontends):
        if not frontends:
            return
        for f in frontends:
            f.kill()
        for f in frontends:
            f.start()
        for f in frontends:
            p = f.await_ready()
            self.say("%s started cold to %d, %d of them from a snapshot" % (f.name, p["applied_seq"], restored(p)))
        self.rest(started=frontends)

    def save(self):
        with open(os.path.join(self.dir, "requests.jsonl"), "w") as f:
            for t in self.all_traffic:
                f.writelines(json.dumps(r.line()) + "\n" for r in t.results())

    def end(self):
        """Whatever happened: everything ends, and what is known is on disk."""
        c = self.cluster
        for link in c.links.values():
            link.heal()
        for p in c.processes():
            p.resume()
        for t in self.all_traffic:
            t.stopping.set()
        self.save()
        for words in c.close():
            self.say("VIOLATION " + words)
            yield words


def run_one(name, args):
    run = Run(name, args)
    print("%s, seed %d, %s" % (name, args.seed, args.level), flush=True)
    try:
        importlib.import_module("scenarios." + name).run(run)
    except Failed as e:
        run.violation("Terminates: %s" % e)
    except (OSError, NatsError, KeyError, TypeError, AssertionError, IndexError) as e:
        traceback.print_exc()
        run.violation("the scenario broke off: %s: %s" % (type(e).__name__, e))
    ended_badly = list(run.end()) if run.cluster else ["no cluster"]
    violations = ended_badly + judge(run.dir)
    figure_file = os.path.join(args.out, "%s-%d.json" % (name, args.seed))
    with open(figure_file, "w") as f:
        json.dump(figures.of(Record(run.dir)), f)
    print("%s, seed %d: %s (%.0f s)" % (name, args.seed, "FAILED" if violations else "passed", time.monotonic() - run.began))
    if violations:
        print("  evidence: %s" % run.dir)
        print("  again: ./dev chaos %s --level %s --seed %d" % (name, args.level, args.seed), flush=True)
    elif not args.keep:
        shutil.rmtree(run.dir, ignore_errors=True)
    return not violations


def judge(folder):
    """The validators on what a run left; their violations, which are written and printed."""
    record = Record(folder)
    violations = validate.check(record)
    with open(os.path.join(folder, "violations.txt"), "w") as f:
        f.writelines(v + "\n" for v in violations)
    for v in violations:
        print("  VIOLATION " + v)
    if record.log is None:
        print("  nobody followed the log: block counts are not compared with it")
    elif not record.log.whole:
        print("  part of the log was gone before it was read: block counts are not compared with it")
    for text in figures.lines(figures.of(record)):
        print("  " + text, flush=True)
    return violations


def check(folders):
    """Offline: what runs have left."""
    bad = 0
    for folder in folders:
        print(folder)
        violations = judge(folder)
        bad += len(violations)
        print("%s: %s" % (folder, "%d violations" % len(violations) if violations else "all promises held"))
    return 1 if bad else 0


def commit():
    got = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return got.stdout.strip() or "?"


# ---------------------------------------------------------------- several

def scenario_names():
    here = os.path.join(ROOT, "chaos", "scenarios")
    return sorted(f[:-3] for f in os.listdir(here) if f.endswith(".py") and not f.startswith("_"))


def is_alone(name):
    """Wants the machine for itself: its traffic has a rate."""
    return getattr(importlib.import_module("scenarios." + name), "ALONE", False)


def in_smoke(name):
    return getattr(importlib.import_module("scenarios." + name), "SMOKE", True)


def has_own_length(name):
    """Runs only by its name."""
    return getattr(importlib.import_module("scenarios." + name), "OWN_LENGTH", False)


def child(name, args):
    argv = [sys.executable, os.path.abspath(__file__), name, "--seed", str(args.seed), "--level", args.level,
            "--jetrouter", args.jetrouter, "--out", args.out, "--outage-secs", str(args.outage_secs), "--secs", str(args.secs)]
    log = open(os.path.join(args.out, "%s-%d.out" % (name, args.seed)), "w+")
    argv += ["--upgrade-from", args.upgrade_from] if args.upgrade_from else []
    p = subprocess.Popen(argv + ["--keep"] * args.keep, stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
    return name, p, log


def finish(one):
    """Prints what a child said; whether it passed."""
    name, p, log = one
    log.seek(0)
    print(log.read(), end="", flush=True)
    log.close()
    os.unlink(log.name)
    return p.returncode == 0


def run_many(names, args):
    """Each in a process of its own; those that want the machine first and alone, then --jobs at once."""
    waiting = sorted(names, key=lambda n: not is_alone(n))
    running, failed = [], []
    while waiting or running:
        alone = any(is_alone(one[0]) for one in running)
        while waiting and not alone and (not running or not is_alone(waiting[0])) and len(running) < args.jobs:
            running.append(child(waiting.pop(0), args))
            alone = is_alone(running[-1][0])
        ended = wait_for(lambda: [one for one in running if one[1].poll() is not None], "a scenario ends", 7200, 0.1)
        for one in ended:
            running.remove(one)
            if not finish(one):
                failed.append(one[0])
    return failed


def collected(names, args):
    out = []
    for name in names:
        path = os.path.join(args.out, "%s-%d.json" % (name, args.seed))
        if os.path.exists(path):
            with open(path) as f:
                out.append(json.load(f))
            os.unlink(path)
    return figures.total(out)


def arguments():
    ap = argparse.ArgumentParser(description="faults against real processes; exit code 1 on a violation")
    ap.add_argument("what", nargs="*", help="smoke, all (default), names of scenarios (soak is one), or: check FOLDER...")
    ap.add_argument("--level", choices=LEVELS, default="all", help="of scenarios that are named: how many faults")
    ap.add_argument("--seed", type=int, default=int(time.time()) % 1000000, help="of the random choices; default: the time")
    ap.add_argument("--jobs", type=int, default=2, help="scenarios at once (2)")
    ap.add_argument("--outage-secs", type=float, default=30, help="of nats_outage (30; 600 is the long form)")
    ap.add_argument("--secs", type=float, default=3600, help="of soak: how long there is load (3600)")
    ap.add_argument("--list", action="store_true", help="names and promises of the scenarios")
    ap.add_argument("--keep", action="store_true", help="keep the evidence of runs that passed too")
    ap.add_argument("--jetrouter", default=os.path.join(ROOT, "build", "dev", "jetrouter"),
                    help="a build with failpoints (default: build/dev/jetrouter)")
    ap.add_argument("--upgrade-from", metavar="PATH",
                    help="an older build, which rolling_upgrade begins with and upgrades to the one above")
    ap.add_argument("--out", default=os.path.join(ROOT, "build", "chaos"), help="where evidence goes")
    args = ap.parse_args()
    args.out = os.path.abspath(args.out)
    return ap, args


def main():
    ap, args = arguments()
    names = scenario_names()
    if args.what[:1] == ["check"]:
        return check(args.what[1:] or ap.error("check: name the folders"))
    if args.list:
        for name in names:
            print("%-22s %s" % (name, importlib.import_module("scenarios." + name).PROMISES))
        return 0
    chosen = args.what or ["all"]
    if len(chosen) == 1 and chosen[0] in ("smoke", "all"):
        args.level = "smoke" if chosen[0] == "smoke" else args.level
        chosen = [n for n in names if not has_own_length(n) and (args.level != "smoke" or in_smoke(n))]
    for name in chosen:
        if name not in names:
            ap.error("no scenario '%s'; there are: %s" % (name, " ".join(names)))
    os.makedirs(args.out, exist_ok=True)
    if len(chosen) == 1:
        return 0 if run_one(chosen[0], args) else 1
    began = time.monotonic()
    failed = run_many(chosen, args)
    print("chaos at %s, seed %d, %d scenarios in %.0f s: %s" % (
        commit(), args.seed, len(chosen), time.monotonic() - began, "FAILED: " + " ".join(failed) if failed else "all promises held"))
    for text in figures.lines(collected(chosen, args)):
        print("  " + text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
