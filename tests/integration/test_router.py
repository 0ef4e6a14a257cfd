# SPDX-License-Identifier: Apache-2.0
"""The standalone router: command lines, where a prompt would go."""
import json
import random
import subprocess
import unittest

import jr_procs as jr

BLOCK = 16
TTL = 2


def prompt(seed, blocks):
    rng = random.Random(seed)
    return [rng.randrange(1000) for _ in range(blocks * BLOCK)]


class Case(unittest.TestCase):
    """Two mockers of one pool; routers of this test end in order."""

    mocker_options = {}

    @classmethod
    def setUpClass(cls):
        cls.procs = jr.Procs()
        cls.addClassCleanup(cls.procs.close)
        cls.nats = cls.procs.nats()
        cls.mocker = cls.procs.mocker("workers", n=2, bridge=True, nats=cls.nats.url, namespace="test",
                                      component="prefill", model_name="tiny", block_size=BLOCK,
                                      lease_ttl_secs=TTL, speedup_ratio=20, **cls.mocker_options)

    def setUp(self):
        self.routers = []

    def tearDown(self):
        for r in self.routers:
            code = r.stop() if r.running() else r.code()
            self.assertEqual(code, 0, r.tail(60))
            self.procs.all.remove(r)

    def router(self, name="router", workers=2, **kw):
        kw = {"router_block_size": BLOCK, "lease_ttl_secs": TTL, "drain_delay_secs": 0, **kw}
        r = self.procs.router(name, self.nats.url, "test.prefill.generate", **kw)
        self.routers.append(r)
        self.procs.wait_ready(r, 60)
        jr.wait_for(lambda: [w["state"] for w in jr.pool(r.url)["workers"]] == ["live"] * workers,
                    "the workers", 60)
        return r

    def ask(self, r, path, body, want=200):
        status, _, text = jr.call("POST", r.url + path, body, timeout=60)
        self.assertEqual(status, want, text)
        return json.loads(text)

    def refused(self, r, path, body, status, word, param=None):
        """Both shapes of an error."""
        said = self.ask(r, path, body, status)
        self.assertEqual(said["code"], status)
        self.assertIn(word, said["message"])
        self.assertEqual(said["error"]["message"], said["message"])
        if param:
            self.assertEqual(said["error"]["param"], param)

    def cache(self, r, ids):
        """A worker has the ids afterwards, and the router knows; its id."""
        url = self.mocker.urls[0]
        status, _ = jr.post(url + "/v1/completions",
                            {"model": "tiny", "prompt": ids, "max_tokens": 1}, timeout=60)
        self.assertEqual(status, 200)
        blocks = len(ids) // BLOCK

        def known():
            best = self.ask(r, "/best_worker_id", {"token_ids": ids})
            return best if best["overlap_blocks"] >= blocks - 1 else None
        best = jr.wait_for(known, "the blocks in the index", 60)
        at = [w for w in jr.pool(r.url)["workers"] if w["url"] == url]
        self.assertEqual(str(best["worker_id"]), str(at[0]["worker_id"]))
        return best["worker_id"]


class BestWorker(Case):
    def test_both_forms(self):
        """The wire's body for a bare list; an object is told everything. Nothing changes by asking."""
        r = self.router()
        ids = prompt(1, 8)
        worker = self.cache(r, ids)
        for _ in range(3):
            said = self.ask(r, "/best_worker_id", ids)
            self.assertEqual(said, {"data": {"data": worker}, "complete_final": False})
            best = self.ask(r, "/best_worker_id", {"token_ids": ids})
            self.assertEqual((best["worker_id"], best["dp_rank"]), (worker, 0))
            self.assertEqual((best["prompt_blocks"], best["block_size"]), (8, BLOCK))
            self.assertEqual(len(best["candidates"]), 2)
            for c in best["candidates"]:
                self.assertEqual(c["active_requests"], 0)
                self.assertEqual(c["prefill_tokens"], 0)
                self.assertGreater(c["potential_prefill_tokens"], 0)
                if c["worker_id"] != worker:
                    self.assertEqual(c["overlap_blocks"], 0)
                    self.assertEqual(c["potential_prefill_tokens"], len(ids))
        self.assertEqual([w["active_requests"] for w in jr.pool(r.url)["workers"]], [0, 0])

    def test_override(self):
        """Without credit for what is cached, both cost the same; what is no number is refused."""
        r = self.router(router_cost_model="dynamo")
        ids = prompt(2, 8)
        self.cache(r, ids)

        def costs(**override):
            said = self.ask(r, "/best_worker_id", {"token_ids": ids, "router_config_override": override})
            return sorted(c["cost"] for c in said["candidates"])
        same, other = costs(overlap_score_weight=0), costs(overlap_score_weight=2)
        self.assertEqual(same[0], same[1])
        self.assertLess(other[0], other[1])
        for key, value in (("overlap_score_weight", -1), ("router_temperature", -0.5),
                           ("overlap_score_credit", "1"), ("assume_kv_reuse", 1)):
            self.refused(r, "/best_worker_id",
                         {"token_ids": ids, "router_config_override": {key: value}}, 400,
                         "override", key)

    def test_what_is_refused(self):
        r = self.router()
        for body, word, param in (
                ([], "empty", "token_ids"), ([1, -2], "token ids", "token_ids"),
                ({}, "missing", "token_ids"), ({"token_ids": "a"}, "token ids", "token_ids"),
                (b"[1] 2", "behind", None), (b"{", "JSON", None), (b"7", "JSON", None),
                ({"token_ids": [1], "routing": 3}, "object", "routing"),
                ({"token_ids": [1], "routing": {"backend_instance_id": -3}}, "whole number",
                 "backend_instance_id"),
                (b'{"token_ids":[1],"token_ids":[2]}', "uplicate", None)):
            self.refused(r, "/best_worker_id", body, 400, word, param)
        self.refused(r, "/best_worker_id", {"token_ids": [1], "model": "nobody's"}, 404, "model")
        self.refused(r, "/best_worker_id",
                     {"token_ids": [1], "routing": {"backend_instance_id": 77}}, 400, "not available")
        self.refused(r, "/v1/completions", {"model": "tiny", "prompt": [1]}, 404, "/best_worker_id")
        self.assertEqual(jr.get(r.url + "/best_worker_id")[0], 405)

    def test_pinned(self):
        r = self.router()
        for w in jr.pool(r.url)["workers"]:
            best = self.ask(r, "/best_worker_id", {
                "token_ids": [1, 2, 3], "routing": {"backend_instance_id": int(w["worker_id"]), "dp_rank": 0}})
            self.assertEqual(str(best["worker_id"]), str(w["worker_id"]))


class CommandLines(Case):
    def test_prefill_pool(self):
        """As they stand in Dynamo's documents: a router of the prefill pool beside a frontend that
        balances the decode pool by load."""
        r = self.procs.router("prefill", self.nats.url, "test.prefill.generate",
                              router_block_size=BLOCK, router_reset_states=True,
                              router_track_active_blocks=False, drain_delay_secs=0)
        self.routers.append(r)
        self.procs.wait_ready(r, 60)
        jr.wait_for(lambda: len(jr.pool(r.url)["workers"]) == 2, "the workers", 60)
        self.ask(r, "/best_worker_id", prompt(3, 4))
        pool = jr.get_json(r.url + "/state")["pools"][0]
        self.assertEqual(pool["component"], "prefill")
        f = self.procs.frontend("decode", nats=self.nats.url, namespace="test", component="prefill",
                                router_mode="kv", kv_overlap_score_weight=0, drain_delay_secs=0)
        self.routers.append(f)
        self.procs.wait_ready(f, 60)

    def test_names(self):
        """The obsolete flag, the environment, the form with a scheme."""
        for env, kw in (({}, {"endpoint": "test.prefill.generate", "block_size": BLOCK}),
                        ({"DYN_ROUTER_ENDPOINT": "dyn://test.prefill.generate",
                          "DYN_ROUTER_BLOCK_SIZE": str(BLOCK)}, {})):
            r = self.procs.frontend("named", nats=self.nats.url, env=env, command="router",
                                    drain_delay_secs=0, **kw)
            self.routers.append(r)
            self.procs.wait_ready(r, 60)
            self.assertEqual(jr.pool(r.url)["block_size"], BLOCK)

    def test_what_is_no_endpoint(self):
        for argv, word in ((["--endpoint", "test.prefill"], "namespace.component.endpoint"),
                           (["--endpoint", "a.b.c.d"], "namespace.component.endpoint"),
                           (["--endpoint", "a..c"], "namespace.component.endpoint"),
                           ([], "--endpoint"),
                           (["--endpoint", "a.b.c", "--router-block-size", "0"], "block-size"),
                           (["--endpoint", "a.b.c", "--router-mode", "kv"], "--router-mode")):
            done = subprocess.run([self.procs.jetrouter, "router"] + argv, capture_output=True,
                                  text=True, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(word, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)


if __name__ == "__main__":
    unittest.main()
