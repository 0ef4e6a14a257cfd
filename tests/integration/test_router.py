# SPDX-License-Identifier: Apache-2.0
"""The standalone router: command lines, where a prompt would go, bookings of external data planes."""
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
        jr.wait_for(lambda: [w["active_requests"] for w in jr.pool(r.url)["workers"]] == [0, 0],
                    "no load on either worker")

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


class Bookings(Case):
    """What an external data plane books and tells, whichever replica it reaches."""

    def pair(self, **kw):
        kw = {"router_queue_threshold": "None", **kw}
        replicas = [self.router(name, **kw) for name in ("a", "b")]
        for r in replicas:
            jr.wait_for(lambda: [p["listed"] for p in jr.pool(r.url)["peers"]] == [True], "the peer", 60)
        return replicas

    def load(self, r):
        """Live requests and prompt tokens that are not computed yet, of all workers."""
        workers = jr.pool(r.url)["workers"]
        return tuple(sum(w[key] for w in workers) for key in ("active_requests", "active_prefill_tokens"))

    def wait_load(self, r, cond, what):
        jr.wait_for(lambda: cond(self.load(r)), lambda: "%s at %s; last %s" % (what, r.name, self.load(r)), 60)

    def both(self, replicas, requests, prefilled):
        for r in replicas:
            self.wait_load(r, lambda l: l[0] == requests and (l[1] == 0) == prefilled,
                           "%d requests, prefilled: %s" % (requests, prefilled))

    def test_any_replica(self):
        a, b = self.pair()
        ids = prompt(10, 6)
        for teller, ender in ((a, a), (b, b), (a, b), (b, a)):
            name = "request %s%s" % (teller.name, ender.name)
            said = self.ask(a, "/select", {"token_ids": ids, "request_id": name})
            self.assertEqual(said["request_id"], name)
            self.assertEqual(said["booking"]["replica"], "a")
            self.assertFalse(said["booking"]["repeated"])
            self.assertIn(said["url"], self.mocker.urls)
            self.assertEqual(said["model"], "tiny")
            self.assertEqual((said["dp_rank"], said["prompt_blocks"]), (0, 6))
            self.both((a, b), 1, False)
            self.assertEqual(self.ask(teller, "/prefill_done", {"request_id": name}),
                             {"request_id": name, "known": True, "replica": "a"})
            self.both((a, b), 1, True)
            self.assertTrue(self.ask(ender, "/free", {"request_id": name})["known"])
            self.both((a, b), 0, True)
            for r in (a, b):  # told again
                self.assertFalse(self.ask(r, "/free", {"request_id": name})["known"])
                self.assertFalse(self.ask(r, "/prefill_done", {"request_id": name})["known"])

    def test_sessions(self):
        """What is booked in a session goes where it is bound, at either replica; a question is told where."""
        a, b = self.pair(router_session_affinity_ttl_secs=300)
        named = {"X-Dynamo-Session-ID": "s"}

        def ask(r, path, i):
            body = {"token_ids": prompt(40 + i, 6)}
            status, _, text = jr.call("POST", r.url + path, body, named, timeout=60)
            self.assertEqual(status, 200, text)
            return json.loads(text)["worker_id"]
        ask(a, "/best_worker_id", 0)
        self.assertEqual(jr.pool(a.url)["sessions"]["bound"], 0)
        worker = ask(a, "/select", 1)
        jr.wait_for(lambda: jr.pool(b.url)["sessions"]["bound"] == 1, "the session at the other", 60)
        for i, r in enumerate((b, a, b, a, b, a)):
            self.assertEqual(ask(r, ("/select", "/best_worker_id")[i % 2], 2 + i), worker)

    def test_the_same_twice(self):
        a, b = self.pair()
        body = {"token_ids": prompt(11, 6), "request_id": "twice"}
        first = self.ask(a, "/select", body)
        self.both((a, b), 1, False)
        for r in (a, b, a, b):
            again = self.ask(r, "/select", body)
            self.assertTrue(again["booking"]["repeated"])
            self.assertEqual([again[k] for k in ("worker_id", "dp_rank", "url")],
                             [first[k] for k in ("worker_id", "dp_rank", "url")])
            self.assertEqual(again["booking"]["replica"], "a")
        self.both((a, b), 1, False)
        self.ask(b, "/free", {"request_id": "twice"})
        self.both((a, b), 0, True)
        self.assertFalse(self.ask(b, "/select", body)["booking"]["repeated"])  # it is over: a new one
        self.both((a, b), 1, False)
        self.ask(a, "/free", {"request_id": "twice"})
        self.both((a, b), 0, True)

    def test_names(self):
        """Without a name it gets one; what names nothing is refused."""
        a = self.router("a")
        names = {self.ask(a, "/select", {"token_ids": [1, 2, 3]})["request_id"] for _ in range(3)}
        self.assertEqual(len(names), 3)
        for name in names:
            self.assertTrue(self.ask(a, "/free", {"request_id": name})["known"])
        self.assertEqual(self.load(a)[0], 0)
        for path in ("/free", "/prefill_done"):
            self.refused(a, path, {}, 400, "request_id", "request_id")
            self.refused(a, path, {"request_id": "x" * 300}, 400, "text", "request_id")
            self.refused(a, path, b"[", 400, "")
        self.refused(a, "/select", {"token_ids": [1], "router_config_override":
                                    {"router_temperature": -1}}, 400, "override")

    def owner_ends(self, end):
        a, b = self.pair()
        names = ["of a dead owner %d" % i for i in range(20)]
        for i, name in enumerate(names):
            self.ask(a, "/select", {"token_ids": prompt(20 + i, 4), "request_id": name})
        self.both((a, b), 20, False)
        end(a)
        self.routers.remove(a)
        self.procs.all.remove(a)
        jr.wait_for(lambda: jr.metric(b.url, "jetrouter_bookings_adopted_total") == 20, "they are adopted", 60)
        self.both((b,), 20, False)
        again = self.ask(b, "/select", {"token_ids": prompt(20, 4), "request_id": names[0]})
        self.assertTrue(again["booking"]["repeated"])
        self.assertEqual(again["booking"]["replica"], "b")
        for name in names:
            self.ask(b, "/prefill_done", {"request_id": name})
        self.both((b,), 20, True)
        for name in names:
            self.assertTrue(self.ask(b, "/free", {"request_id": name})["known"])
        self.both((b,), 0, True)

    def test_owner_is_killed(self):
        self.owner_ends(lambda r: r.kill())

    def test_owner_is_drained(self):
        self.owner_ends(lambda r: self.assertEqual(r.stop(), 0))

    def test_freed_before_it_is_adopted(self):
        """Told while the dead owner's lease is still listed: those that were freed are not adopted, and
        the others are as they were told to be."""
        a, b = self.pair(lease_ttl_secs=8)
        for i in range(10):
            self.ask(a, "/select", {"token_ids": prompt(60 + i, 4), "request_id": "early %d" % i})
        self.both((a, b), 10, False)
        a.kill()
        self.routers.remove(a)
        self.procs.all.remove(a)
        for i in range(9):
            self.assertTrue(self.ask(b, "/free", {"request_id": "early %d" % i})["known"])
        self.ask(b, "/prefill_done", {"request_id": "early 9"})
        jr.wait_for(lambda: jr.metric(b.url, "jetrouter_bookings_adopted_total") == 1, "one is adopted", 60)
        self.both((b,), 1, True)
        self.assertEqual(jr.metric(b.url, "jetrouter_bookings_adopted_total"), 1)
        self.ask(b, "/free", {"request_id": "early 9"})
        self.both((b,), 0, True)

    def test_forgotten_ones_expire(self):
        a, b = self.pair(active_request_expiry_secs=3)
        self.ask(a, "/select", {"token_ids": prompt(70, 4), "request_id": "forgotten"})
        self.both((a, b), 0, True)
        self.assertGreaterEqual(jr.metric(a.url, "jetrouter_bookings_expired_total"), 1)

    def test_behind_a_load_balancer(self):
        """Each call goes to whichever replica is next, and one dies half-way; nothing is left over. A
        client repeats what was not answered, under the same name."""
        a, b = self.pair()
        proxy = self.procs.haproxy([a.port, b.port])

        def tell(path, body):
            def answered():
                try:
                    status, _, text = jr.call("POST", proxy.url + path, body)
                except OSError:
                    return None
                return (status, text) if status < 502 else None
            status, text = jr.wait_for(answered, path, 60)
            self.assertEqual(status, 200, text)
            return json.loads(text)
        jr.wait_http(proxy.url + "/ready", timeout=60)
        used = set()

        def whole(i):
            name = "balanced %d" % i
            used.add(tell("/select", {"token_ids": prompt(100 + i, 4), "request_id": name})["booking"]["replica"])
            tell("/prefill_done", {"request_id": name})
            tell("/free", {"request_id": name})
        for i in range(40):
            whole(i)
        self.both((a, b), 0, True)
        self.assertEqual(used, {"a", "b"})
        held = ["held %d" % i for i in range(10)]
        for i, name in enumerate(held):
            tell("/select", {"token_ids": prompt(200 + i, 4), "request_id": name})
        self.both((a, b), 10, False)
        a.kill()
        self.routers.remove(a)
        self.procs.all.remove(a)
        for i in range(40, 60):
            whole(i)
        for name in held:
            tell("/free", {"request_id": name})
        self.both((b,), 0, True)


if __name__ == "__main__":
    unittest.main()
