# SPDX-License-Identifier: Apache-2.0
"""Streams at a fixed rate, sent and checked by `jetrouter replay`: a program in C, so that hundreds a
second leave the machine to those under test."""
import collections
import json
import os
import random
import subprocess
import threading
import time

from jr_procs import Failed, die_with_parent

BLOCK = 512  # tokens that one hash id of a trace stands for


def share(reports):
    """Of the prompt tokens, what the workers found in their caches, in per cent."""
    return 100 * sum(x["cached_tokens"] for x in reports) / max(1, sum(x["prompt_tokens"] for x in reports))


def rate(reports):
    return sum(x["requests"] for x in reports) / sum(x["duration_s"] for x in reports)


class Replay:
    """Traces of conversations: a prompt is the head of a family and tails of its own, most go on with one
    that was sent a moment ago. So what is found in caches depends on where requests are sent. All runs of
    one length have the same shape, with tails of their own: they may be compared."""

    def __init__(self, cluster, seed, rate=200, families=24, recent=300, longest=5, output=24):
        self.cluster, self.seed, self.rate, self.output = cluster, seed, rate, output
        self.heads, self.next_id = [[f] for f in range(families)], families
        self.recent, self.longest = collections.deque(maxlen=recent), longest
        self.runs = 0

    def _prompt(self):
        """Goes on with one of the older half of the recent ones: its answer is there."""
        ids = []
        if len(self.recent) == self.recent.maxlen and self.rng.random() < 0.75:
            ids = self.recent[self.rng.randrange(len(self.recent) // 2)]
        if len(ids) in (0, self.longest):
            ids = self.rng.choice(self.heads)
        self.next_id += 1
        self.recent.append([*ids, self.next_id])
        return self.recent[-1]

    def _trace(self, n):
        self.rng = random.Random(self.seed)
        path = self.cluster.path("trace%d.jsonl" % self.runs)
        with open(path, "w") as f:
            for i in range(n):
                ids = self._prompt()
                row = {"timestamp": i * 1000 // self.rate, "output_length": self.output, "hash_ids": ids,
                       "input_length": BLOCK * len(ids)}
                f.write(json.dumps(row) + "\n")
        return path

    def run(self, seconds, label, port=None):
        """One run, through the load balancer or to one replica's port; its report, which goes into the
        timeline too."""
        trace = self._trace(int(seconds * self.rate))
        out = self.cluster.path("replay%d.json" % self.runs)
        self.runs += 1
        began = time.monotonic()
        with open(out, "w") as f, open(self.cluster.path("replay.log"), "a") as log:
            p = subprocess.Popen([self.cluster.jetrouter, "replay", "--trace", trace, "--json", "--url",
                                  "http://127.0.0.1:%d" % (port or self.cluster.front_port)],
                                 stdout=f, stderr=log, preexec_fn=die_with_parent)
            try:
                p.wait(seconds * 10 + 60)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                raise Failed("the replay did not end") from None
        try:
            with open(out) as f:
                report = json.load(f)
        except ValueError:
            raise Failed("the replay reports nothing: see replay.log") from None
        os.unlink(trace)
        cpu = os.times().children_user + os.times().children_system
        self.cluster.timeline.note("replay", label, since=began, until=time.monotonic(), cpu_s=cpu, **{k: report[k] for k in (
            "requests", "errors", "late", "prompt_tokens", "cached_tokens", "cached_share", "duration_s", "error_reasons")})
        return report


class Background:
    """Run after run in a thread, until it is told to stop."""

    def __init__(self, replay, seconds, label):
        self.replay, self.seconds, self.label = replay, seconds, label
        self.reports, self.error = [], None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stopping.is_set():
                self.reports.append(self.replay.run(self.seconds, self.label))
        except Failed as e:
            self.error = e

    def stop(self):
        self.stopping.set()
        self.thread.join()
        if self.error:
            raise self.error
        return self.reports
