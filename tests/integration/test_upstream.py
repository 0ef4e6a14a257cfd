#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Dynamo's own end-to-end tests of its router ask for, asked of ours with the numbers they state (its
tests/router/test_router_e2e_with_mockers.py, 1.0): concurrent chats, decisions over data-parallel ranks, query only,
busy thresholds, overload."""
import concurrent.futures
import json
import random
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import Case

EVENTS = {"stream": True, "max_tokens": 10}


class Fleet(Case):
    def fleet(self, n=2, block=16, front=None, **mocker):
        nats = self.procs.nats()
        options = dict(block_size=block, speedup_ratio=10, model_name="tiny", **mocker)
        self.mockers = [self.procs.mocker("m%d" % i, bridge=True, nats=nats.url, **options) for i in range(n)]
        f = self.frontend(ready=False, nats=nats.url, router_mode="kv", kv_cache_block_size=block, **(front or {}))
        self.procs.wait_ready(f)
        ranks = n * mocker.get("data_parallel_size", 1)
        jr.wait_for(lambda: sum(w["state"] == "live" for w in self.rows(f)) == ranks, "%d ranks" % ranks, 60)
        return f

    def rows(self, f):
        return jr.pool(f.url)["workers"]


class ConcurrentChats(Fleet):
    def test_a_hundred_streams(self):
        """T1: each answers 200 and is read to its end."""
        f = self.fleet()

        def chat(i):
            body = {"model": "tiny", "messages": [{"role": "user", "content": "chat %d" % i}], **EVENTS}
            with play.Stream(f.url + "/v1/chat/completions", body, timeout=120) as s:
                return s.head(), *s.rest()
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            for status, text, whole in pool.map(chat, range(100)):
                self.assertEqual((status, whole), (200, True), text)
                self.assertTrue(text.rstrip().endswith(b"data: [DONE]"), text[-200:])
        jr.wait_for(lambda: all(w["active_requests"] == 0 for w in self.rows(f)), "nothing is booked", 60)


class Decisions(Fleet):
    BLOCK, RANKS = 8, 4

    def send(self, f, blocks, pin=None):
        headers = {"x-worker-instance-id": pin[0], "x-dynamo-dp-rank": str(pin[1])} if pin else {}
        prompt = [t for name in blocks for t in self.tokens[name]]
        status, _, text = jr.call("POST", f.url + "/v1/completions", {
            "model": "tiny", "prompt": prompt, "max_tokens": 2, "nvext": {"extra_fields": ["worker_id"]}}, headers)
        self.assertEqual(status, 200, text)
        at = json.loads(text)["nvext"]["worker_id"]
        return str(at["decode_worker_id"]), at["decode_dp_rank"]

    def blocks_of(self, f, at):
        return next(w["blocks"] for w in self.rows(f) if (str(w["worker_id"]), w["dp_rank"]) == at)

    def test_over_ranks(self):
        """T4: four requests build two trees; the longer overlap decides, then between equals the smaller tree."""
        rng = random.Random(4)
        self.tokens = {name: [rng.randrange(10, 30000) for _ in range(self.BLOCK)] for name in "ABCDEFG"}
        f = self.fleet(block=self.BLOCK, data_parallel_size=self.RANKS,
                       front=dict(router_tie_break="tree-size", router_cost_model="dynamo"))
        ids = sorted({str(w["worker_id"]) for w in self.rows(f)})
        a, b = (ids[0], 0), (ids[1], 1)

        def known(at, n):
            jr.wait_for(lambda: self.blocks_of(f, at) == n and
                        all(w["active_requests"] == 0 for w in self.rows(f)), "%d blocks at %s" % (n, at), 60)
        self.assertEqual(self.send(f, "AB", a), a)
        known(a, 2)
        self.assertEqual(self.send(f, "ACD", a), a)
        known(a, 4)
        self.assertEqual(self.send(f, "ACE", b), b)
        known(b, 3)
        self.assertEqual(self.send(f, "ACDF"), a)  # three blocks against two
        known(a, 5)
        self.assertEqual(self.send(f, "ACG"), b)  # two against two: three blocks in all against five
        known(b, 4)
        known(a, 5)


class QueryOnly(Fleet):
    def test_worker_and_tokens(self):
        """T6: 200, both ids alike, the prompt's tokens, nothing booked."""
        f = self.fleet()
        body = {"model": "tiny", "messages": [{"role": "user", "content": "where to?"}],
                "nvext": {"annotations": ["query_instance_id:"]}}
        status, _, text = jr.call("POST", f.url + "/v1/chat/completions", body)
        self.assertEqual(status, 200, text)
        said = json.loads(text)["nvext"]
        self.assertEqual(said["worker_id"]["prefill_worker_id"], said["worker_id"]["decode_worker_id"])
        self.assertIn(str(said["worker_id"]["decode_worker_id"]), {str(w["worker_id"]) for w in self.rows(f)})
        self.assertTrue(said["token_ids"] and all(isinstance(t, int) for t in said["token_ids"]))
        jr.wait_for(lambda: [w["active_requests"] for w in self.rows(f)] == [0, 0], "no load on either worker")


class Thresholds(Fleet):
    URL = "/busy_threshold"

    def post(self, f, **fields):
        status, text = jr.post(f.url + self.URL, {"model": "tiny", **fields})
        return status, json.loads(text)

    def test_endpoint(self):
        """T7: what the options say is read, each can be set alone and both at once; 400, 422 for what is wrong."""
        f = self.fleet(front=dict(active_decode_blocks_threshold=0.9, active_prefill_tokens_threshold=1000))
        blocks, tokens, frac = ("active_decode_blocks_threshold", "active_prefill_tokens_threshold",
                                "active_prefill_tokens_threshold_frac")

        def listed():
            return next(t for t in jr.get_json(f.url + self.URL)["thresholds"] if t["model"] == "tiny")
        self.assertEqual((listed()[blocks], listed()[tokens]), (0.9, 1000))
        status, said = self.post(f)
        self.assertEqual((status, said[blocks], said[tokens]), (200, 0.9, 1000))
        self.assertEqual(self.post(f, **{blocks: 0.75})[1][blocks], 0.75)
        self.assertEqual(self.post(f, **{tokens: 2000})[1][tokens], 2000)
        status, said = self.post(f, **{blocks: 0.8, tokens: 3000})
        self.assertEqual((status, said[blocks], said[tokens]), (200, 0.8, 3000))
        self.assertEqual((listed()[blocks], listed()[tokens]), (0.8, 3000))
        self.assertEqual(self.post(f, **{blocks: 1.5})[0], 400)
        self.assertEqual(self.post(f, **{tokens: 5000})[0], 200)
        self.assertEqual(self.post(f, **{tokens: -1.0})[0], 422)
        self.assertEqual(self.post(f, **{frac: 0.8})[0], 200)
        self.assertEqual((listed()[blocks], listed()[tokens], listed()[frac]), (0.8, 5000, 0.8))


class Overload(Fleet):
    LONG = {"model": "tiny", "max_tokens": 2000, "stream": True, "ignore_eos": True}

    def test_all_busy(self):
        """T8: one small worker, fifty long requests held open; the next is refused."""
        f = self.fleet(1, 4, dict(active_decode_blocks_threshold=0.2, router_queue_threshold="None"),
                       num_gpu_blocks_override=64)
        rng, streams = random.Random(8), []
        try:
            for _ in range(50):
                prompt = [rng.randrange(10, 30000) for _ in range(40)]
                streams.append(play.Stream(f.url + "/v1/completions", {**self.LONG, "prompt": prompt}, timeout=120))

            def refused():
                status, _, text = jr.call("POST", f.url + "/v1/completions", {
                    "model": "tiny", "prompt": [1, 2, 3], "max_tokens": 1})
                return status == 503 and "busy" in json.loads(text)["message"]
            jr.wait_for(refused, "a refusal that says so", 60)
        finally:
            for s in streams:
                s.close()
        # And when they are gone, it is served.
        jr.wait_for(lambda: jr.post(f.url + "/v1/completions", {
            "model": "tiny", "prompt": [1, 2, 3], "max_tokens": 1})[0] == 200, "an answer again", 60)


if __name__ == "__main__":
    unittest.main()
