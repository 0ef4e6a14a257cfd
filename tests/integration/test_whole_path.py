# SPDX-License-Identifier: Apache-2.0
"""The whole path: KV events of engines through JetStream into two replicas, requests routed by
them, snapshots, a crash, the administration and the end of a replica."""
import http.client
import json
import signal
import subprocess
import threading
import time
import unittest

import jr_procs as jr

NAMESPACE = "whole-path"
BLOCK = 16
THRESHOLD = 20  # messages between snapshots


def prompt(n, tokens=8 * BLOCK + 1):
    """The n-th prompt: shares no block with another."""
    return [n + 1] + [(n * 7919 + i * 31) % 30000 for i in range(tokens - 1)]


class Reply:
    def __init__(self, url, ids, max_tokens=4):
        status, headers, text = jr.call("POST", url + "/v1/completions", {
            "model": "mock-model", "prompt": ids, "max_tokens": max_tokens}, jr.EXPLAIN)
        if status != 200:
            raise AssertionError("%d %r" % (status, text))
        usage = json.loads(text)["usage"]
        self.worker = headers["x-jetrouter-worker"]
        self.cached = usage["prompt_tokens_details"]["cached_tokens"]


class WholePath(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.procs = jr.Procs()
        try:
            cls.nats = cls.procs.nats()
            cls.mocker = cls.procs.mocker("workers", n=2, bridge=True, nats=cls.nats.url,
                                          namespace=NAMESPACE, block_size=BLOCK, speedup_ratio=1)
            cls.a, cls.b = cls.start("a"), cls.start("b")
            for r in (cls.a, cls.b):
                cls.wait_up(r)
            cls.stream = jr.pool(cls.a.url)["stream"]
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        for p in cls.procs.all:
            print(p.tail())  # ctest shows it when a test failed
        cls.procs.close()

    @classmethod
    def start(cls, name):
        return cls.procs.frontend(name, nats=cls.nats.url, namespace=NAMESPACE, router_mode="kv",
                                  router_snapshot_threshold=THRESHOLD, lease_ttl_secs=2,
                                  drain_delay_secs=0.2)

    @classmethod
    def wait_up(cls, replica):
        ready = cls.procs.wait_ready(replica)
        jr.wait_for(lambda: [w["state"] for w in jr.pool(replica.url)["workers"]] == ["live"] * 2,
                    "two live workers at " + replica.url)
        return ready

    def settled(self):
        """Both replicas at the stream's last sequence, with the workers quiet: their states."""
        def look():
            last = jr.stream_last_seq(self.nats, self.stream)
            found = [jr.pool(r.url) for r in (self.a, self.b)]
            return found if all(p["applied_seq"] == last for p in found) else None
        return jr.wait_for(look, "both replicas at the stream's last sequence")

    def assert_same(self):
        a, b = self.settled()
        self.assertEqual(a["digest"], b["digest"])
        self.assertEqual((a["blocks"], a["entries"]), (b["blocks"], b["entries"]))
        return a

    def teach(self, n):
        """Sends the n-th prompt; returns its worker, once both replicas know its blocks."""
        before = jr.stream_last_seq(self.nats, self.stream)
        worker = Reply(self.a.url, prompt(n)).worker
        jr.wait_for(lambda: jr.stream_last_seq(self.nats, self.stream) > before, "its events")
        self.settled()
        return worker

    # ------------------------------------------------------------ routing

    def test_repeated_prompts_go_where_they_are_cached(self):
        workers = [self.teach(n) for n in range(6)]
        self.assertEqual(len(set(workers)), 2)  # the load was spread
        for n, worker in enumerate(workers):
            for replica in (self.b, self.a):
                r = Reply(replica.url, prompt(n))
                self.assertEqual(r.worker, worker)
                self.assertEqual(r.cached, 8 * BLOCK)
        # A longer prompt that begins the same goes there too.
        r = Reply(self.b.url, prompt(3) + [9] * 40)
        self.assertEqual((r.worker, r.cached), (workers[3], 8 * BLOCK))
        self.assert_same()

    # ------------------------------------------------------------ a crash

    def test_killed_replica_comes_back_from_the_snapshot(self):
        first = self.teach(1000)
        told = jr.stream_last_seq(self.nats, self.stream)
        # Two snapshots later the stream no longer has the messages that told of the first prompt.
        n, end = 1000, time.monotonic() + 90
        while jr.stream_state(self.nats, self.stream)["first_seq"] <= told:
            n += 1
            self.assertLess(time.monotonic(), end, "no purge")
            self.teach(n)
        self.b.kill()
        before = jr.stream_last_seq(self.nats, self.stream)
        last_worker = Reply(self.a.url, prompt(5000)).worker
        jr.wait_for(lambda: jr.stream_last_seq(self.nats, self.stream) > before, "its events")
        jr.wait_for(lambda: jr.pool(self.a.url)["applied_seq"]
                    == jr.stream_last_seq(self.nats, self.stream), "a at the end")
        held = jr.stream_last_seq(self.nats, self.stream)
        type(self).b = self.procs.restart(self.b)
        ready = self.wait_up(self.b)
        self.assertGreaterEqual(ready["pools"][0]["applied_seq"], held)
        state = jr.pool(self.b.url)
        self.assertGreaterEqual(state["applied_seq_at_ready"], held)
        self.assertGreaterEqual(state["stream_last_seq_at_start"], held)
        self.assert_same()
        # From the snapshot, and from what came after it.
        for ids, worker in ((prompt(1000), first), (prompt(5000), last_worker)):
            r = Reply(self.b.url, ids)
            self.assertEqual((r.worker, r.cached), (worker, 8 * BLOCK))

    # ------------------------------------------------------------ administration

    def ctl(self, action, *args):
        p = self.procs.ctl(self.a.url, action, *args)
        self.assertEqual(p.returncode, 0, p.stderr)
        return p.stdout

    def test_ctl_shows(self):
        state = json.loads(self.ctl("state", "--json"))
        self.assertEqual(state["replica"]["id"], "a")
        self.assertTrue(state["nats"]["connected"])
        self.assertEqual(state["pools"][0]["namespace"], NAMESPACE)
        for url in self.mocker.urls:
            self.assertIn(url, self.ctl("workers"))
        self.assertIn(self.settled()[0]["digest"], self.ctl("digest"))
        jr.wait_for(lambda: [p["id"] for p in jr.pool(self.a.url)["peers"] if p["ready"]] == ["b"],
                    "b among a's peers")
        self.assertRegex(self.ctl("replicas"), r"(?m)^backend +b +yes ")
        self.assertRegex(self.ctl("state"), r"(?m)^a +\S+ +yes .* connected ")

    def test_ctl_snapshot(self):
        self.teach(2000)
        seq = self.settled()[0]["applied_seq"]
        # The one that leads writes, and ctl returns when it is verified; the other one says so.
        leader = jr.wait_for(lambda: next((r for r in (self.a, self.b) if jr.pool(r.url)["leader"]), None), "a leader")
        p = self.procs.ctl(leader.url, "snapshot")
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertRegex(p.stdout, r"(?m)^backend: verified: snapshot-[ab] at \d+, \d+ bytes$")
        self.assertGreaterEqual(jr.pool(leader.url)["snapshot"]["seq"], seq)
        p = self.procs.ctl(leader.url, "snapshot", "--json")  # nothing came since
        self.assertGreaterEqual(json.loads(p.stdout)[0]["snapshot"]["seq"], seq)
        p = self.procs.ctl((self.b if leader is self.a else self.a).url, "snapshot")
        self.assertEqual((p.returncode, p.stdout), (75, ""))
        self.assertIn("leads no pool", p.stderr)

    def test_ctl_tail(self):
        p = subprocess.Popen([self.procs.jetrouter, "ctl", "--url", self.a.url, "tail", "--json"],
                             stdout=subprocess.PIPE, text=True, preexec_fn=jr.die_with_parent)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(p.stdout.readline, "")))
        reader.start()
        try:
            n = 3000
            while not lines:  # it shows what comes once it listens
                n += 1
                self.assertLess(n, 3100)
                self.teach(n)
        finally:
            p.send_signal(signal.SIGINT)
            p.wait(timeout=20)
            reader.join()
            p.stdout.close()
        self.assertGreater(json.loads(lines[0])["seq"], 0)

    # ------------------------------------------------------------ the end

    def stream_through(self, url, ids, max_tokens):
        parts = url.split("//")[1]
        conn = http.client.HTTPConnection(parts, timeout=60)
        conn.request("POST", "/v1/completions", json.dumps({
            "model": "mock-model", "prompt": ids, "max_tokens": max_tokens, "stream": True,
            "stream_options": {"include_usage": True}}), {"Content-Type": "application/json"})
        reply = conn.getresponse()
        self.assertEqual(reply.status, 200)
        return conn, reply

    def test_sigterm_lets_a_stream_end(self):
        c = self.start("c")
        self.wait_up(c)
        conn, reply = self.stream_through(c.url, prompt(4000), 150)
        first = reply.readline()
        self.assertTrue(first.startswith(b"data: {"), first)
        c.send(signal.SIGTERM)
        jr.wait_for(lambda: jr.try_get(c.url + "/ready")[0] in (503, 0), "not ready")
        rest = reply.read()
        conn.close()
        self.assertTrue(rest.endswith(b"data: [DONE]\n\n"), rest[-200:])
        self.assertIn(b'"completion_tokens":150', rest)
        self.assertEqual(self.procs.stop(c), 0)
        jr.wait_for(lambda: all(p["id"] != "c" or not p["listed"]
                                for p in jr.pool(self.a.url)["peers"]), "a forgets c")

    def slow(self, factor):
        for url in self.mocker.urls:
            self.assertEqual(jr.post(url + "/mock/faults?slow=%d" % factor)[0], 200)

    def test_load_returns_to_zero(self):
        self.slow(50)  # until they were seen
        self.addCleanup(self.slow, 1)
        conns = [self.stream_through(self.a.url, prompt(6000 + i), 100) for i in range(4)]
        jr.wait_for(lambda: sum(w["active_requests"] for w in jr.pool(self.b.url)["workers"]) == 4,
                    "b counts the requests of a")
        self.slow(1)
        for conn, reply in conns[:2]:
            self.assertTrue(reply.read().endswith(b"data: [DONE]\n\n"))
        for conn, _ in conns:  # two clients go away in the middle
            conn.close()
        for r in (self.a, self.b):
            jr.wait_for(lambda: all(w["active_requests"] == 0 and w["active_blocks"] == 0
                                    for w in jr.pool(r.url)["workers"]), "no load at " + r.url)
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
