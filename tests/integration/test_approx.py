# SPDX-License-Identifier: Apache-2.0
"""Approximate mode as a process: a frontend whose own decisions are the index, with static workers
that this test plays. Nothing of NATS, nothing of KV events."""
import threading
import unittest

import jr_procs as jr
import jr_worker as play

REPLY = {"id": "x", "object": "text_completion", "choices": [{"index": 0, "text": "ok"}],
         "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


class Approximate(unittest.TestCase):
    def setUp(self):
        self.procs = jr.procs_of(self)
        self.go = threading.Event()
        self.go.set()
        self.cut = threading.Event()  # the next request is not answered
        self.tokenizer = False
        self.workers = []
        for _ in range(4):
            w = play.Worker(self.answer)
            self.addCleanup(w.close)
            self.workers.append(w)
        self.addCleanup(self.go.set)

    def answer(self, request):
        if request.path == "/tokenize":
            return play.send_json(request, 404, {})
        if self.cut.is_set() and request.command == "POST":
            self.cut.clear()
            return play.cut(request)
        self.go.wait(120)
        return play.send_json(request, 200, REPLY)

    def frontend(self, **kw):
        f = self.procs.frontend("front", worker=[w.url for w in self.workers], router_mode="kv",
                                router_kv_events=False, drain_delay_secs=0, **kw)
        self.procs.wait_ready(f)
        jr.wait_for(lambda: all(w["model"] for w in jr.pool(f.url)["workers"]), "models")
        return f

    def ask(self, f, prompt, headers=None):
        status, head, text = jr.call("POST", f.url + "/v1/completions",
                                     {"model": "tiny", "prompt": prompt, "max_tokens": 1},
                                     {**jr.EXPLAIN, **(headers or {})})
        self.assertEqual(status, 200, text)
        return head["x-jetrouter-worker"]

    def test_prediction_against_what_workers_report(self):
        """Both directions are counted by themselves; a prediction that holds is in neither."""
        self.cached = 0

        def answer(request):
            usage = dict(REPLY["usage"], prompt_tokens=640, prompt_tokens_details={"cached_tokens": self.cached})
            return play.send_json(request, 200, dict(REPLY, usage=usage))
        for w in self.workers:
            w.answer = answer
        f = self.frontend()
        a, b = list(range(640)), list(range(5000, 5640))
        names = ("predicted_cached", "reported_cached", "predicted_not_cached", "cached_not_predicted")
        counted = lambda: tuple(jr.metric(f.url, "jetrouter_%s_tokens_total" % n) for n in names)
        # At least the last token is computed, so 9 blocks of 64 are the most that can be cached.
        for prompt, self.cached, want in ((a, 0, (0, 0, 0, 0)), (a, 200, (576, 200, 376, 0)),
                                          (b, 128, (576, 328, 376, 128)), (b, 576, (1152, 904, 376, 128))):
            self.ask(f, prompt)
            jr.wait_for(lambda: counted() == want, "counters %s" % (want,), timeout=60)
        self.assertEqual(f.stop(), 0)

    def test_repeated_prompts_stick(self):
        f = self.frontend()
        prompts = [[1000 * k + i for i in range(640)] for k in range(8)]
        first = [self.ask(f, p) for p in prompts]
        self.assertEqual(len(set(first)), 4, "equal load is spread: %s" % first)
        for _ in range(3):
            self.assertEqual([self.ask(f, p) for p in prompts], first)
        # A longer prompt follows its beginning.
        self.assertEqual(self.ask(f, prompts[3] + list(range(64))), first[3])
        pool = jr.pool(f.url)
        self.assertEqual(pool["block_size"], 64)
        self.assertEqual(pool["believed_entries"], 8 * 10 + 1)
        self.assertEqual(f.stop(), 0)

    def test_a_long_prompt_is_known_when_it_is_retried(self):
        """Its hashes are with the booking of the worker that failed, and had back from there."""
        f = self.frontend()
        prompt = list(range(64 * 200))
        for k in range(4):
            self.ask(f, prompt, {"x-worker-instance-id": str(k + 1)})
        self.cut.set()
        status, head, text = jr.call("POST", f.url + "/v1/completions",
                                     {"model": "tiny", "prompt": prompt, "max_tokens": 1}, jr.EXPLAIN)
        self.assertEqual(status, 200, text)
        self.assertFalse(self.cut.is_set(), "nobody failed")
        self.assertEqual(jr.metric(f.url, "jetrouter_proxy_retries_total"), 1)
        self.assertEqual(int(head["x-jetrouter-predicted-tokens"]), 64 * 199)
        jr.wait_booked_out(f.url)
        self.assertEqual(f.stop(), 0)

    def test_load_spreads(self):
        f = self.frontend()
        prompt = list(range(640))
        self.ask(f, prompt)
        self.go.clear()  # from here on the workers are busy
        got, threads = [], []
        for k in range(12):
            p = [5000 * (k + 1) + i for i in range(6400)]
            t = threading.Thread(target=lambda p=p: got.append(self.ask(f, p)))
            t.start()
            threads.append(t)
            jr.wait_for(lambda k=k: jr.pool(f.url)["bookings"] == k + 1, "booked")
        self.go.set()
        for t in threads:
            t.join()
        self.assertEqual({w: got.count(w) for w in set(got)}, {w: 3 for w in "1234"})
        self.assertEqual(f.stop(), 0)

    def test_text_without_a_tokenizer(self):
        f = self.frontend()
        prompts = ["%d: " % k + "It was a dark and stormy night. " * 40 for k in range(8)]
        first = [self.ask(f, p) for p in prompts]
        self.assertEqual(len(set(first)), 4, "equal load is spread: %s" % first)
        for _ in range(3):
            self.assertEqual([self.ask(f, p + " And then?") for p in prompts], first)
        self.assertGreater(jr.pool(f.url)["believed_entries"], 0)
        self.assertEqual(f.stop(), 0)

    def test_tree_size_and_ttl(self):
        f = self.frontend(router_max_tree_size=20, router_prune_target_ratio=0.5,
                          router_ttl_secs=1, kv_cache_block_size=32)
        for k in range(6):
            self.ask(f, [1000 * k + i for i in range(320)])
        self.assertLessEqual(jr.pool(f.url)["believed_entries"], 20)
        jr.wait_for(lambda: jr.pool(f.url)["believed_entries"] == 0, "expiry")
        self.assertEqual(f.stop(), 0)

    def test_options_that_exclude_each_other(self):
        for args in ({"router_kv_events": False, "router_predicted_ttl_secs": 2},):
            f = self.procs.frontend("bad", worker=[self.workers[0].url], **args)
            jr.wait_for(lambda: not f.running(), "the end")
            self.assertNotEqual(f.code(), 0)
            self.assertIn("--router-predicted-ttl-secs", f.tail(20))


if __name__ == "__main__":
    unittest.main()
