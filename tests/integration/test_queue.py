# SPDX-License-Identifier: Apache-2.0
"""Requests that wait in the router, and workers that are too busy: the frontend as a process, with
one worker that this test plays."""
import json
import tempfile
import textwrap
import threading
import unittest

import jr_procs as jr
import jr_worker as play

FAST = {"drain_delay_secs": 0, "router_mode": "kv"}


def body_of(n, **kw):
    return {"model": "tiny", "prompt": [n] * 40, "max_tokens": 4, **kw}


class Queue(unittest.TestCase):
    def setUp(self):
        self.procs = jr.procs_of(self)
        self.order, self.holds, self.threads = [], {}, []
        self.worker = play.Worker(self.answer)
        self.addCleanup(self.worker.close)
        self.addCleanup(self.let_all_go)

    def tearDown(self):
        self.let_all_go()
        for t in self.threads:
            t.join(30)
        code = self.front.stop() if self.front.running() else self.front.code()
        self.assertEqual(code, 0, self.front.tail(60))

    def answer(self, request):
        n = json.loads(request.body)["prompt"][0]
        self.order.append(n)
        self.hold(n).wait(120)
        play.plain(request)

    def hold(self, n):
        return self.holds.setdefault(n, threading.Event())

    def let_all_go(self):
        for n in range(100):
            self.hold(n).set()

    def start(self, **kw):
        self.front = self.procs.frontend("front", worker=[self.worker.url], **{**FAST, **kw})
        self.procs.wait_ready(self.front)
        jr.wait_for(lambda: all(w["model"] for w in jr.pool(self.front.url)["workers"]), "models")

    def send(self, n, headers=None, **kw):
        """In the background; the result is [status, body] when it is there."""
        result = []

        def run():
            status, _, text = jr.call("POST", self.front.url + "/v1/completions", body_of(n, **kw),
                                      headers, timeout=120)
            result.extend([status, json.loads(text)])
        t = threading.Thread(target=run, daemon=True)
        t.start()
        self.threads.append(t)
        return result

    def queue(self):
        return jr.pool(self.front.url)["queue"]

    def wait_waiting(self, n):
        jr.wait_for(lambda: self.queue()["waiting"] == n, "%d waiting" % n)

    def test_priorities_and_gone_clients(self):
        self.start(router_queue_threshold="0")
        results = [self.send(1)]
        jr.wait_for(lambda: self.order == [1], "the first at the worker")
        results.append(self.send(2))
        self.wait_waiting(1)
        gone = play.Stream(self.front.url + "/v1/completions", body_of(3))
        self.wait_waiting(2)
        results.append(self.send(4, nvext={"agent_hints": {"priority": 60}}))
        self.wait_waiting(3)
        results.append(self.send(5, {"x-dynamo-request-strict-priority": "1"}))
        self.wait_waiting(4)
        self.assertEqual(jr.metric(self.front.url, "jetrouter_queue_requests"), 4)
        self.assertEqual(
            jr.metric(self.front.url, "dynamo_frontend_router_queue_pending_requests"), 4)
        gone.conn.close()
        self.wait_waiting(3)
        for i, n in enumerate([1, 5, 4, 2]):
            jr.wait_for(lambda: len(self.order) > i, "request %d at the worker" % n)
            self.hold(n).set()
        jr.wait_for(lambda: all(results), "all answers")
        self.assertEqual(self.order, [1, 5, 4, 2])
        self.assertEqual([r[0] for r in results], [200] * 4)
        self.assertEqual(self.queue()["waiting"], 0)
        jr.wait_booked_out(self.front.url)
        self.assertEqual(jr.metric(self.front.url, "jetrouter_queue_wait_seconds_count"), 3)

    def test_policies(self):
        for policy, expected in (("fcfs", [2, 3]), ("wspt", [3, 2]), ("lcfs", [3, 2])):
            with self.subTest(policy):
                self.order, self.holds = [], {}
                self.start(router_queue_threshold="0", router_queue_policy=policy)
                results = [self.send(1)]
                jr.wait_for(lambda: self.order == [1], "the first at the worker")
                for n, tokens in ((2, 400), (3, 40)):
                    results.append(self.send(n, prompt=[n] * tokens))
                    self.wait_waiting(n - 1)
                self.let_all_go()
                jr.wait_for(lambda: all(results), "all answers", 60)
                self.assertEqual(self.order, [1] + expected)
                self.assertEqual(self.front.stop(), 0, self.front.tail(60))

    def test_the_time_limit_holds_while_waiting(self):
        self.start(router_queue_threshold="0", request_timeout_secs=1)
        first, second = self.send(1), self.send(2)
        jr.wait_for(lambda: first and second, "answers")
        self.assertEqual([first[0], second[0]], [504, 504])
        self.assertEqual(self.queue()["waiting"], 0)
        jr.wait_booked_out(self.front.url)

    def test_drain_lets_the_waiting_through(self):
        self.start(router_queue_threshold="0")
        first, second = self.send(1), None
        jr.wait_for(lambda: self.order == [1], "the first at the worker")
        second = self.send(2)
        self.wait_waiting(1)
        status, _, _ = jr.call("POST", self.front.url + "/admin/drain", b"")
        self.assertEqual(status, 202)
        self.let_all_go()
        jr.wait_for(lambda: first and second, "answers")
        self.assertEqual([first[0], second[0]], [200, 200])
        jr.wait_for(lambda: not self.front.running(), "the end")

    POLICY = """
        default_policy_family: free
        uncached_isl_buckets: [{min_tokens: 0, bucket: short}, {min_tokens: 100, bucket: long}]
        policy_classes:
        - {name: free-short, policy_family: free, cache_bucket: short, queue_policy: fcfs,
           quantum: 40, prefill_busy_threshold: 0, request_queue_limit_per_worker: %d}
        - {name: free-long, policy_family: free, cache_bucket: long, queue_policy: wspt,
           quantum: 1, prefill_busy_threshold: 0, raw_isl_token_queue_limit_per_worker: 250}
        - {name: gold, queue_policy: fcfs, quantum: 120, prefill_busy_threshold_frac: 0}
        - {name: now, queue_policy: fcfs, quantum: 1}
        """

    def start_with_policy(self, limit, **kw):
        self.policy = tempfile.NamedTemporaryFile("w", suffix=".yaml")
        self.addCleanup(self.policy.close)
        self.policy.write(textwrap.dedent(self.POLICY % limit))
        self.policy.flush()
        self.start(router_policy_config=self.policy.name, **kw)

    def classes(self):
        return {c["policy_class"]: c["waiting"] for c in self.queue()["classes"]}

    def test_classes_have_their_shares(self):
        self.start_with_policy(100)
        results = [self.send(1)]
        jr.wait_for(lambda: self.order == [1], "the first at the worker")
        free, gold = range(10, 22), range(30, 42)
        for i, (a, b) in enumerate(zip(free, gold)):
            results += [self.send(a), self.send(b, {"x-dynamo-meta-policy-class": "gold"})]
            self.wait_waiting(2 * i + 2)
        self.assertEqual(self.classes(), {"free-short": 12, "free-long": 0, "gold": 12, "now": 0})
        text = jr.get(self.front.url + "/metrics")[1].decode()
        self.assertIn('dynamo_frontend_router_queue_pending_isl_tokens'
                      '{worker_type="decode",model="tiny",policy_class="gold"} 480\n', text)
        # One goes past: its class never waits.
        results.append(self.send(50, {"x-dynamo-meta-policy-class": "now"}))
        jr.wait_for(lambda: self.order == [1, 50], "the one that does not wait")
        self.hold(50).set()
        jr.wait_for(lambda: results[-1], "its answer")
        self.hold(1).set()
        for i in range(2, 18):
            jr.wait_for(lambda: len(self.order) > i, "request %d at the worker" % i)
            self.hold(self.order[i]).set()
        served = self.order[2:18]
        self.assertEqual([n for n in served if n >= 30], list(gold))
        self.assertEqual([n for n in served if n < 30], list(free)[:4], "a share of 40 in 160")
        self.let_all_go()
        jr.wait_for(lambda: all(results), "all answers", 60)
        self.assertEqual({r[0] for r in results}, {200})
        self.assertEqual(set(self.classes().values()), {0})

    def test_limits_of_a_class(self):
        self.start_with_policy(2)
        results = [self.send(1)]
        jr.wait_for(lambda: self.order == [1], "the first at the worker")
        results += [self.send(2), self.send(3)]
        self.wait_waiting(2)
        status, head, text = jr.call("POST", self.front.url + "/v1/completions", body_of(4))
        body = json.loads(text)
        self.assertEqual((status, body["code"], body["type"]), (529, 529, "Overloaded"), text)
        details = {"policy_class": "free-short", "limit_kind": "requests", "current": 2, "limit": 2}
        self.assertEqual(body["details"], details)
        self.assertEqual(body["error"]["details"], details)
        self.assertEqual(body["error"]["code"], "queue_limit")
        self.assertEqual(head["retry-after"], "1")
        # Another class has its own; the limit is looked at before the request is added to it.
        results += [self.send(5, prompt=[5] * 200), self.send(6, prompt=[6] * 200)]
        self.wait_waiting(4)
        status, _, text = jr.call("POST", self.front.url + "/v1/completions",
                                  body_of(7, prompt=[7] * 200))
        self.assertEqual(json.loads(text)["details"], {
            "policy_class": "free-long", "limit_kind": "raw_isl_tokens", "current": 400, "limit": 250})
        self.assertEqual(jr.metric(
            self.front.url, "dynamo_frontend_router_queue_backpressure_total"), 2)
        self.let_all_go()
        jr.wait_for(lambda: all(results), "all answers", 60)
        self.assertEqual([r[0] for r in results], [200] * 5)

    def test_the_status_of_limits_can_be_another(self):
        self.start_with_policy(0, overload_status=503)
        first = self.send(1)
        jr.wait_for(lambda: self.order == [1], "the first at the worker")
        status, _, text = jr.call("POST", self.front.url + "/v1/completions", body_of(2))
        self.assertEqual((status, json.loads(text)["details"]["limit"]), (503, 0))
        self.hold(1).set()
        jr.wait_for(lambda: first, "answer")

    def threshold(self, expect, **kw):
        status, _, text = jr.call("POST", self.front.url + "/busy_threshold", kw)
        self.assertEqual(status, expect, text)
        return json.loads(text)

    def test_busy_threshold(self):
        self.start(active_decode_blocks_threshold="0.9", active_prefill_tokens_threshold="1000")
        row = {"model": "tiny", "active_decode_blocks_threshold": 0.9,
               "active_prefill_tokens_threshold": 1000,
               "active_prefill_tokens_threshold_frac": None}
        _, _, text = jr.call("GET", self.front.url + "/busy_threshold")
        self.assertEqual(json.loads(text), {"thresholds": [row]})
        self.assertEqual(self.threshold(200, model="tiny"), row)
        for status, given in ((400, {"active_decode_blocks_threshold": 1.5}),
                              (422, {"active_prefill_tokens_threshold": -1.0}),
                              (422, {"active_prefill_tokens_threshold": "many"}),
                              (400, {"active_prefill_tokens_threshold_frac": -0.5})):
            self.assertIn("error", self.threshold(status, model="tiny", **given))
        self.threshold(422, active_prefill_tokens_threshold=1)
        self.assertIn("not found", self.threshold(
            404, model="other", active_prefill_tokens_threshold=1)["error"])
        self.assertIsNone(self.threshold(200, model="other")["active_prefill_tokens_threshold"])
        row["active_prefill_tokens_threshold_frac"] = 0.8
        self.assertEqual(self.threshold(200, model="tiny",
                                        active_prefill_tokens_threshold_frac=0.8), row)
        self.threshold(200, model="tiny", active_prefill_tokens_threshold=0)
        first = self.send(1)
        jr.wait_for(lambda: self.order == [1], "the first at the worker")
        status, head, text = jr.call("POST", self.front.url + "/v1/completions", body_of(2))
        self.assertEqual(status, 503)
        self.assertIn("All workers are busy", text if isinstance(text, str) else text.decode())
        (pool,) = jr.get_json(self.front.url + "/workers")["pools"]
        (worker,) = pool["workers"]
        (rank,) = worker.pop("ranks")
        of_state = jr.pool(self.front.url)["workers"][0]
        self.assertEqual(worker, {"worker_id": of_state["worker_id"], "model": "tiny",
                                  "address": self.worker.url, "device": "gpu", "state": "live",
                                  "aside": False})
        self.assertEqual(rank.items() - of_state.items(), set())
        self.assertEqual((rank["active_requests"], rank["active_prefill_tokens"]), (1, 40))
        self.let_all_go()
        jr.wait_for(lambda: first, "answer")
        self.assertEqual(first[0], 200)


if __name__ == "__main__":
    unittest.main()
