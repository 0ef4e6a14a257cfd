# SPDX-License-Identifier: Apache-2.0
"""Constant load for an hour (--secs): clients that read every answer, clients that leave in the middle, and a
worker that ends or is killed and comes back every few seconds. Two replicas. Nothing may be left of it: no booking,
no descriptor, and memory that stays where it is."""
import http.client
import json
import os
import statistics
import time

from lib.process import wait_for
from lib.traffic import Clients

PROMISES = "TerminatesOnce LoadReturnsToZero IndexDigestConverges (no descriptor, booking or memory is left)"
OWN_LENGTH = True  # only by name
WARM = 0.25        # of the time: what is bounded fills up (digests of the last 32,768 messages, pooled connections)
GROWTH = 2.0       # per cent, of the second half of what follows to the first
JUDGED = 900       # seconds; in a shorter run that is not over in a quarter of the time, and growth is only told
SLACK = 2          # descriptors: somebody asks for /state just then
LEAVERS = 3


class Leavers(Clients):
    """Clients that close their stream after a few events, or before the first."""

    def __init__(self, ports, seed, prompts):
        super().__init__(LEAVERS, seed + 1)
        self.ports, self.prompts = ports, prompts
        self.left, self.failed = 0, 0

    def client(self, _, rng):
        while not self.stopping.wait(rng.random() * 0.06):
            conn = http.client.HTTPConnection("127.0.0.1", rng.choice(self.ports), timeout=self.timeout)
            try:
                conn.request("POST", "/v1/completions", json.dumps({
                    "model": "mock-model", "prompt": rng.choice(self.prompts), "max_tokens": 2000, "stream": True}),
                    {"Content-Type": "application/json"})
                lines = rng.randrange(8)
                reply = conn.getresponse() if lines else None
                for _ in range(lines):
                    reply.readline()
                ended = (1, 0) if not reply or reply.status == 200 else (0, 1)
            except (OSError, http.client.HTTPException):
                ended = 0, 1
            finally:
                conn.close()
            with self.lock:
                self.left, self.failed = self.left + ended[0], self.failed + ended[1]


def rss_kb(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def descriptors(f):
    return len(os.listdir("/proc/%d/fd" % f.popen.pid))


class Memory:
    """The resident memory of every replica, each second: {name: [(seconds, KiB)]}."""

    def __init__(self, cluster):
        self.cluster, self.began = cluster, time.monotonic()
        self.seen = {f.name: [] for f in cluster.frontends}

    def look(self):
        for f in self.cluster.frontends:
            self.seen[f.name].append((time.monotonic() - self.began, rss_kb(f.popen.pid)))

    def halves(self, name, begin, end):
        """The median of each half of [begin, end), in KiB."""
        middle = (begin + end) / 2
        return [statistics.median(kb for t, kb in self.seen[name] if a <= t < b)
                for a, b in ((begin, middle), (middle, end))]

    def curve(self, name, points=12):
        values = [kb for _, kb in self.seen[name]]
        return " ".join("%.1f" % (values[i * (len(values) - 1) // (points - 1)] / 1024) for i in range(points))


def restart(r, w, number):
    """In order, or not: the engine cuts what it is answering in either case."""
    if number % 2:
        w.kill()
    else:
        since = time.monotonic()
        w.stop()
        w.died(since)
    w.start()
    wait_for(lambda: r.cluster.healthy() is None, "a healthy cluster", 60)
    r.cluster.await_workers(60)


def load(r, memory, seconds, every):
    """Until the time is over; how often a worker was started again."""
    restarts, next_restart = 0, time.monotonic() + every
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        memory.look()
        if time.monotonic() >= next_restart:
            restart(r, r.rng.choice(r.cluster.workers), restarts)
            restarts += 1
            next_restart = time.monotonic() + every
        time.sleep(1)
    return restarts


def run(r):
    seconds = r.args.secs
    c = r.start(replicas=2, workers=3, follow=False, worker_args=("--speedup-ratio", "60"))
    c.observer.every = max(0.25, seconds / 3600)
    before = {f.name: descriptors(f) for f in c.frontends}
    traffic = r.traffic(clients=4, think=0.02)
    leavers = Leavers([f.port for f in c.frontends], r.seed, traffic.prompts).start()
    memory = Memory(c)
    restarts = load(r, memory, seconds, max(4, seconds / 120))
    leavers.stop()
    r.settle()
    r.say("%d s: %d answers, %d left in the middle (%d of them refused or cut), %d restarts of workers" % (
        seconds, traffic.count(), leavers.left + leavers.failed, leavers.failed, restarts))
    r.require(leavers.left > seconds, "only %d clients left in the middle" % leavers.left)
    for f in c.frontends:
        first, second = memory.halves(f.name, WARM * seconds, seconds)
        growth = 100 * (second - first) / first
        r.say("%s: resident %.1f MiB, then %.1f MiB (%+.2f %%); over time %s" % (
            f.name, first / 1024, second / 1024, growth, memory.curve(f.name)))
        r.require(growth <= GROWTH or seconds < JUDGED, "the resident memory of %s grew by %.2f %%" % (f.name, growth))
        wait_for(lambda f=f: descriptors(f) <= before[f.name] + SLACK,
                 lambda f=f: "descriptors of %s as at the start, %d; they are %d" % (f.name, before[f.name], descriptors(f)), 180)
        r.say("%s: descriptors %d at the start, %d at the end; bookings %d" % (
            f.name, before[f.name], descriptors(f), f.pool()["bookings"]))
