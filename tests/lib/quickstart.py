#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The whole path on this machine, as `./dev quickstart` shows it.

nats-server, four mock workers with bridges, two frontends behind haproxy. 500 requests of a real
conversation trace go through them twice, first with round-robin and then with kv routing, and both
are compared. Then one frontend is killed and started again, and must come back with the same state.
Ends with 0 when all of it held."""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

import jr_procs as jr

TRACE = os.path.join(jr.FIXTURES, "traces", "conversation-excerpt.jsonl")
WORKERS = 4
KEPT_PORT = 8000  # of what --keep leaves running, where nobody else has it

BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


def say(text):
    print("%s==> %s%s" % (BOLD, text, PLAIN), flush=True)


def tell(text):
    print("    " + text, flush=True)


class Quickstart:
    def __init__(self, args, procs):
        self.args, self.procs = args, procs
        self.ports = None  # of the frontends, behind haproxy
        self.haproxy = None

    # ------------------------------------------------------------ the fleet

    def start_nats(self):
        self.nats = self.procs.nats()
        say("nats-server with JetStream at %s" % self.nats.url)

    def start_fleet(self, mode):
        """Fresh workers, so with empty caches, and two replicas, in a namespace of the mode's."""
        namespace = "quickstart-" + mode
        started = time.monotonic()
        self.mocker = self.procs.mocker(
            mode + "-workers", n=WORKERS, bridge=True, nats=self.nats.url, namespace=namespace,
            speedup_ratio=self.args.speed)
        if self.ports is None:
            first = jr.free_port(2)
            self.ports = [first, first + 1]
        self.replicas = [
            self.procs.frontend("%s-%s" % (mode, letter), nats=self.nats.url, port=port,
                                namespace=namespace, router_mode=mode, drain_delay_secs=0,
                                router_snapshot_threshold=self.args.snapshot_threshold)
            for letter, port in zip("ab", self.ports)]
        if self.haproxy is None:
            well_known = self.args.keep and jr.take_port(KEPT_PORT)
            self.haproxy = self.procs.haproxy(self.ports, port=KEPT_PORT if well_known else None)
        for replica in self.replicas:
            self.procs.wait_ready(replica, timeout=60)
            self.wait_workers(replica)
        jr.wait_http(self.haproxy.url + "/v1/models",
                     lambda status, text: status == 200 and json.loads(text)["data"],
                     proc=self.haproxy)
        say("%d mock workers with bridges, 2 frontends (--router-mode %s) behind haproxy at %s"
            % (WORKERS, mode, self.haproxy.url))
        tell("up after %.1f s" % (time.monotonic() - started))

    @staticmethod
    def wait_workers(replica):
        def all_live():
            if not replica.running():
                raise jr.Failed("%s has ended\n%s" % (replica.name, replica.tail()))
            workers = jr.pool(replica.url)["workers"]
            return len([w for w in workers if w["state"] == "live"]) == WORKERS
        jr.wait_for(all_live, "%d live workers at %s/state" % (WORKERS, replica.url))

    def stop_fleet(self):
        for proc in self.replicas + [self.mocker]:
            self.procs.stop(proc)

    # ------------------------------------------------------------ the comparison

    def replay(self, mode):
        path = os.path.join(self.procs.folder, mode + ".json")
        say("replaying %d requests of a conversation trace at %g times their speed: %s"
            % (self.args.requests, self.args.speed, mode))
        argv = [self.procs.jetrouter, "replay", "--trace", TRACE, "--url", self.haproxy.url,
                "--limit", str(self.args.requests), "--speed", str(self.args.speed),
                "--label", mode, "--json"]
        with open(path, "w") as out:
            code = subprocess.run(argv, stdout=out, preexec_fn=jr.die_with_parent).returncode
        if code not in (0, 1):
            raise jr.Failed("jetrouter replay ended with %d" % code)
        with open(path) as f:
            report = json.load(f)
        if report["errors"]:
            why = "; ".join("%d x %s" % (r["requests"], r["reason"])
                            for r in report["error_reasons"])
            raise jr.Failed("%d of %d requests failed: %s"
                            % (report["errors"], report["requests"], why))
        tell("%d requests, no errors, %.1f s" % (report["requests"], report["duration_s"]))
        return path, report

    def compare(self):
        self.start_fleet("round-robin")
        a_path, a = self.replay("round-robin")
        self.stop_fleet()
        self.start_fleet("kv")
        b_path, b = self.replay("kv")
        print(flush=True)
        subprocess.run([self.procs.jetrouter, "replay", "--compare", a_path, "--compare", b_path],
                       check=True)
        print(flush=True)
        if b["cached_share"] < self.args.gain * a["cached_share"]:
            raise jr.Failed("kv took %.1f %% of the prompts from caches, round-robin %.1f %%: not "
                            "%g times as much" % (b["cached_share"] * 100, a["cached_share"] * 100,
                                                  self.args.gain))

    # ------------------------------------------------------------ the crash

    def newest_snapshot(self):
        """Both are asked: only the one that leads takes them."""
        found = [jr.pool(r.url)["snapshot"] for r in self.replicas]
        return max((s for s in found if s), key=lambda s: s["seq"], default=None)

    def crash(self):
        stays, dies = self.replicas
        stream = jr.pool(stays.url)["stream"]
        snapshot = jr.wait_for(self.newest_snapshot, "a snapshot of one of the replicas")
        tell("snapshot %s at sequence %d, %d bytes"
             % (snapshot["object"], snapshot["seq"], snapshot["bytes"]))
        say("killing %s with SIGKILL and starting it again" % dies.name)
        dies.kill()
        held = jr.stream_last_seq(self.nats, stream)
        started = time.monotonic()
        back = self.replicas[1] = self.procs.restart(dies)
        ready = self.procs.wait_ready(back, timeout=60)
        took = time.monotonic() - started
        applied = ready["pools"][0]["applied_seq"]
        state = jr.pool(back.url)
        tell("first 200 on /ready after %.1f s, applied sequence %d (at ready: %d); "
             "the stream's last at its start: %d"
             % (took, applied, state["applied_seq_at_ready"], held))
        if min(applied, state["applied_seq_at_ready"]) < held:
            raise jr.Failed("%s was ready before it had caught up" % back.name)
        self.same_state(stays, back, stream)

    def same_state(self, a, b, stream):
        """Equal sequences must have equal digests; traffic is quiet, so they get there."""
        def settled():
            last = jr.stream_last_seq(self.nats, stream)
            found = [jr.pool(r.url) for r in (a, b)]
            return found if all(p["applied_seq"] == last for p in found) else None
        found = jr.wait_for(settled, "both replicas at the stream's last sequence", timeout=60)
        width = max(len(a.name), len(b.name))
        tell("%-*s  %-16s  %s" % (width, "replica", "digest", "applied sequence"))
        for replica, p in zip((a, b), found):
            tell("%-*s  %s  %d" % (width, replica.name, p["digest"], p["applied_seq"]))
        if found[0]["digest"] != found[1]["digest"]:
            raise jr.Failed("the replicas differ at the same sequence")
        tell("equal")

    # ------------------------------------------------------------ the whole

    def urls(self):
        say("running")
        tell("OpenAI API    %s   (haproxy over both frontends)" % self.haproxy.url)
        for r in self.replicas:
            tell("frontend      %s   /state /ready /metrics   (%s)" % (r.url, r.name))
        tell("mock workers  %s" % " ".join(self.mocker.urls))
        tell("NATS          %s" % self.nats.url)
        tell("logs          %s" % self.procs.folder)
        print("\nTry:\n  curl %s/v1/completions -H 'Content-Type: application/json' \\\n"
              "    -d '{\"model\": \"mock-model\", \"prompt\": \"Hello\", \"max_tokens\": 8}'\n"
              "  %s ctl --url %s workers\n" % (self.haproxy.url, self.args.jetrouter, self.haproxy.url),
              flush=True)

    def keep(self):
        self.urls()
        say("Ctrl-C stops all")
        gone = jr.wait_for(lambda: [p for p in self.procs.all if not p.running()],
                           "the end", timeout=float("inf"), every=0.5)
        raise jr.Failed("%s has ended with %s\n%s" % (gone[0].name, gone[0].code(), gone[0].tail()))

    def run(self):
        started = time.monotonic()
        self.start_nats()
        self.compare()
        self.crash()
        say("all of it held, in %.0f s" % (time.monotonic() - started))
        if self.args.keep:
            self.keep()


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--jetrouter", default=jr.JETROUTER, help="the program")
    p.add_argument("--keep", action="store_true", help="leave all running until Ctrl-C")
    p.add_argument("--requests", type=int, default=500)
    p.add_argument("--speed", type=float, default=10, help="of the trace and of the mock workers")
    p.add_argument("--gain", type=float, default=1.5, help="kv's cached-token share against round-robin's, at least")
    p.add_argument("--snapshot-threshold", type=int, default=200, metavar="MESSAGES")
    return p.parse_args()


def last_lines(procs):
    for proc in procs.all:
        print(proc.tail(lines=8), file=sys.stderr)
    print("the logs are in %s" % procs.folder, file=sys.stderr)


def main():
    args = arguments()
    # SIGTERM and a closed terminal end as Ctrl-C does: with everything stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    procs = jr.Procs(args.jetrouter)
    failed = False
    try:
        Quickstart(args, procs).run()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 0 if args.keep else 130
    except (jr.Failed, OSError, KeyError, ValueError, subprocess.SubprocessError) as e:
        failed = True
        last_lines(procs)
        print("quickstart: %s" % (e if isinstance(e, jr.Failed) else repr(e)), file=sys.stderr)
        return 1
    finally:
        procs.close(keep_logs=failed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
