# SPDX-License-Identifier: Apache-2.0
"""POST /generate of the standalone router: Dynamo's requests and items, over workers that speak OpenAI's
API."""
import json
import unittest

import jr_procs as jr
import jr_worker as play
from test_router import BLOCK, TTL, Case, prompt

KEYS = {"token_ids", "tokens", "text", "cum_log_probs", "log_probs", "top_logprobs", "finish_reason",
        "stop_reason", "index", "disaggregated_params", "extra_args", "completion_usage"}


def request(n=8, ids=None, **more):
    return {"model": "tiny", "token_ids": prompt(5, 3) if ids is None else ids,
            "stop_conditions": {"max_tokens": n, "ignore_eos": True}, "sampling_options": {"temperature": 0},
            "output_options": {}, "eos_token_ids": [], "annotations": [], **more}


def items_of(text):
    """The items of a stream's text; it must end as a whole one does."""
    events = text.decode().split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]", text[-300:]
    return [json.loads(e[len("data: "):]) for e in events[:-2]]


class Generate(Case):
    def items(self, r, body):
        status, head, text = jr.call("POST", r.url + "/generate", body, timeout=60)
        self.assertEqual(status, 200, text)
        self.assertIn("text/event-stream", head["content-type"])
        return [i["data"] for i in items_of(text)]

    def idle(self, r):
        jr.wait_for(lambda: [w["active_requests"] for w in jr.pool(r.url)["workers"]] == [0, 0],
                    "every booking is freed", 60)

    def test_items(self):
        r = self.router()
        for body in (request(), {k: v for k, v in request().items() if k != "model"},
                     request(model="unknown")):
            items = self.items(r, body)
            for item in items:
                self.assertEqual(set(item), KEYS)
            self.assertEqual(sum(len(i["token_ids"]) for i in items), 8)
            self.assertTrue(all(isinstance(t, int) for i in items for t in i["token_ids"]))
            self.assertTrue("".join(i["text"] for i in items))
            self.assertEqual([i["finish_reason"] for i in items], [None] * (len(items) - 1) + ["length"])
            self.assertEqual({i["index"] for i in items}, {0})
            ids = [int(w["worker_id"]) for w in jr.pool(r.url)["workers"]]
            who = items[0]["disaggregated_params"]["worker_id"]
            self.assertIn(who["decode_worker_id"], ids)
            self.assertEqual(who, {"prefill_worker_id": who["decode_worker_id"], "prefill_dp_rank": 0,
                                   "decode_worker_id": who["decode_worker_id"], "decode_dp_rank": 0})
            self.assertEqual([i["disaggregated_params"] for i in items[1:]], [None] * (len(items) - 1))
            usage = items[-1]["completion_usage"]
            self.assertEqual((usage["prompt_tokens"], usage["completion_tokens"]), (3 * BLOCK, 8))
        self.idle(r)

    def test_overrides(self):
        """All, none, some of them: exactly as many tokens as were asked for."""
        r = self.router(router_cost_model="dynamo")
        for override, n in (({"overlap_score_weight": 0.5, "router_temperature": 0.5}, 20), (None, 10),
                            ({"router_temperature": 0.5}, 5)):
            more = {} if override is None else {"router_config_override": override}
            items = self.items(r, request(n, **more))
            self.assertEqual(sum(len(i["token_ids"]) for i in items), n)
        for override in ({"overlap_score_weight": -0.5}, {"router_temperature": -1}):
            self.refused(r, "/generate", request(router_config_override=override), 400, "not negative",
                         next(iter(override)))
        self.idle(r)

    def test_pins_and_queries(self):
        r = self.router()
        for w in jr.pool(r.url)["workers"]:
            pin = {"backend_instance_id": int(w["worker_id"])}
            for _ in range(2):
                who = self.items(r, request(2, routing=pin))[0]["disaggregated_params"]["worker_id"]
                self.assertEqual(who["decode_worker_id"], pin["backend_instance_id"])
            items = self.items(r, request(2, routing=pin, annotations=["query_instance_id:"]))
            self.assertEqual(len(items), 1)
            self.assertEqual(items[0]["token_ids"], [])
            self.assertEqual(items[0]["disaggregated_params"]["worker_id"]["prefill_worker_id"],
                             pin["backend_instance_id"])
        self.refused(r, "/generate", request(routing={"backend_instance_id": 77}), 400, "not available")
        self.refused(r, "/generate", request(model="nobody's"), 404, "nobody's")
        self.idle(r)

    def test_what_is_refused(self):
        r = self.router()
        for body, word, param in (
                (request(ids=[]), "empty", "token_ids"), ({"model": "tiny"}, "missing", "token_ids"),
                (request(stop_conditions=[1]), "object", "stop_conditions"),
                (request(stop_conditions={"max_tokens": -1}), "whole number", "max_tokens"),
                (request(stop_conditions={"max_thinking_tokens": 5}), "no word", "max_thinking_tokens"),
                (request(multi_modal_data={"image_url": [{"Url": "x"}]}), "no word", "multi_modal_data"),
                (request(routing={"allowed_worker_ids": [1]}), "one worker", "allowed_worker_ids")):
            self.refused(r, "/generate", body, 400, word, param)
        self.idle(r)

    def test_choices(self):
        r = self.router()
        items = self.items(r, request(4, sampling_options={"n": 2, "temperature": 0}))
        for index in (0, 1):
            mine = [i for i in items if i["index"] == index]
            self.assertEqual(sum(len(i["token_ids"]) for i in mine), 4)
            self.assertEqual(mine[-1]["finish_reason"], "length")
        self.assertEqual(items[-1]["completion_usage"]["completion_tokens"], 8)

    def test_a_client_that_goes_away(self):
        r = self.router()
        with play.Stream(r.url + "/generate", request(100000)) as s:  # a minute
            s.head()
            s.line()
            jr.wait_for(lambda: sum(w["active_requests"] for w in jr.pool(r.url)["workers"]) == 1,
                        "it is booked", 60)
        self.idle(r)


class Death(unittest.TestCase):
    def setUp(self):
        self.procs = jr.procs_of(self)
        self.nats = self.procs.nats()

    def mocker(self, name):
        return self.procs.mocker(name, n=1, bridge=True, nats=self.nats.url, namespace="test",
                                 component="prefill", model_name="tiny", block_size=BLOCK,
                                 lease_ttl_secs=TTL, speedup_ratio=0.5)

    def router(self, **kw):
        r = self.procs.router("router", self.nats.url, "test.prefill.generate", lease_ttl_secs=TTL,
                              router_block_size=BLOCK, drain_delay_secs=0, **kw)
        self.procs.wait_ready(r, 60)
        jr.wait_for(lambda: len(jr.pool(r.url)["workers"]) == 2, "the workers", 60)
        return r

    def begin(self, r, mockers, s):
        """The first item has come; its worker is killed."""
        self.assertEqual(s.head(), 200)
        first = json.loads(s.line()[len(b"data: "):])
        who = first["data"]["disaggregated_params"]["worker_id"]["decode_worker_id"]
        url = [w["url"] for w in jr.pool(r.url)["workers"] if int(w["worker_id"]) == who][0]
        [m for m in mockers if m.urls == [url]][0].kill()
        return first

    def test_goes_on_at_another(self):
        mockers = [self.mocker("one"), self.mocker("two")]
        r = self.router()
        with play.Stream(r.url + "/generate", request(100), timeout=120) as s:
            first = self.begin(r, mockers, s)
            text, whole = s.rest()
        self.assertTrue(whole)
        items = [first["data"]] + [i["data"] for i in items_of(text.lstrip(b"\n"))]
        self.assertEqual(sum(len(i["token_ids"]) for i in items), 100)
        self.assertEqual(items[-1]["completion_usage"]["completion_tokens"], 100)
        jr.wait_for(lambda: sum(w["active_requests"] for w in jr.pool(r.url)["workers"]) == 0,
                    "every booking is freed", 60)
        self.assertEqual(r.stop(), 0)

    def test_ends_with_an_error_item(self):
        mockers = [self.mocker("one"), self.mocker("two")]
        r = self.router(migration_limit=0)
        with play.Stream(r.url + "/generate", request(2000), timeout=120) as s:  # most of a minute
            self.begin(r, mockers, s)
            text, whole = s.rest()
        self.assertFalse(whole)
        event, data = text.rstrip(b"\n").split(b"\n")[-2:]
        self.assertEqual(event, b"event: error")
        item = json.loads(data[len(b"data: "):])
        self.assertEqual((item["event"], item["error"]["error_type"]), ("error", "Disconnected"))
        self.assertNotIn(b"[DONE]", text)
        jr.wait_for(lambda: sum(w["active_requests"] for w in jr.pool(r.url)["workers"]) == 0,
                    "every booking is freed", 60)
        self.assertEqual(r.stop(), 0)


if __name__ == "__main__":
    unittest.main()
