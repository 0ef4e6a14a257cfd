# SPDX-License-Identifier: Apache-2.0
"""What requests say to the router (nvext, headers), and what answers have beside the worker's words."""
import json
import threading
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import CHAT, COMPLETION
from test_tokenizer import Base, by_bytes

EVENTS = (b"data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"text\":\"x\",\"finish_reason\":null}]}\n\n",
          b"data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"text\":\"y\",\"finish_reason\":\"stop\"}]}\n\n",
          b"data: [DONE]\n\n")


def streams(request):
    if request.path == "/tokenize" or not json.loads(request.body).get("stream"):
        return by_bytes(request)
    play.send_head(request)
    text = b"".join(EVENTS)
    for at in range(0, len(text), 11):  # within lines and events
        play.send_chunk(request, text[at:at + 11])
    return request.wfile.write(b"0\r\n\r\n")


class Answers(Base):
    def ids_of(self, f):
        return {w["url"]: int(w["worker_id"]) for w in jr.pool(f.url)["workers"]}

    def stream(self, f, nvext, body=COMPLETION, headers=None, path="/v1/completions"):
        status, head, text = jr.call("POST", f.url + path, {**body, "stream": True, "nvext": nvext},
                                     headers)
        self.assertEqual((status, head["content-type"]), (200, "text/event-stream"))
        return text

    def test_worker_and_timing_in_a_stream(self):
        f = self.kv(self.worker(streams))
        text = self.stream(f, {"extra_fields": ["worker_id", "timing"]})
        first, last, done = [e for e in text.decode().split("\n\n") if e]
        self.assertEqual(done, "data: [DONE]")
        (worker,) = self.ids_of(f).values()
        want = {"prefill_worker_id": worker, "prefill_dp_rank": 0, "decode_worker_id": worker,
                "decode_dp_rank": 0}
        first, last = json.loads(first[6:]), json.loads(last[6:])
        self.assertEqual(first.pop("nvext"), {"worker_id": want})
        nvext = last.pop("nvext")
        self.assertEqual(nvext["worker_id"], want)
        t = nvext["timing"]
        self.assertLessEqual({"request_received_ms", "prefill_wait_time_ms", "prefill_time_ms",
                              "ttft_ms", "total_time_ms", "kv_hit_rate"}, set(t))
        self.assertGreater(t["request_received_ms"], 1.6e12)
        self.assertGreaterEqual(t["total_time_ms"], t["ttft_ms"])
        self.assertGreaterEqual(t["ttft_ms"], t["prefill_time_ms"])
        self.assertEqual([first, last], [json.loads(e[6:]) for e in EVENTS[:2]])

    def test_one_without_the_other(self):
        f = self.kv(self.worker(streams))
        text = self.stream(f, {"extra_fields": ["timing", "what is not known"]}).decode()
        self.assertNotIn("worker_id", text)
        self.assertEqual((text.count("nvext"), text.count("ttft_ms")), (1, 1))

    def test_in_an_answer_of_one_piece(self):
        f = self.kv(self.worker(streams))
        for path, body in (("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)):
            plain = self.ask(f, body, path)[2]
            status, _, reply = self.ask(f, {**body, "nvext": {"extra_fields": ["worker_id", "timing"]}},
                                        path)
            self.assertEqual(status, 200)
            nvext = reply.pop("nvext")
            self.assertEqual(reply, plain)
            self.assertEqual(set(nvext), {"worker_id", "timing"})

    def test_errors_are_the_workers(self):
        def refuses(request):
            if request.path == "/tokenize":
                return by_bytes(request)
            return play.send_json(request, 400, {"error": {"message": "no"}})
        f = self.kv(self.worker(refuses))
        for stream in (False, True):
            status, _, reply = self.ask(f, {**COMPLETION, "stream": stream, "nvext": {
                "extra_fields": ["worker_id"], "annotations": ["request_id"]}})
            self.assertEqual((status, reply), (400, {"error": {"message": "no"}}))

    def test_unasked_bytes_are_untouched(self):
        f = self.kv(self.worker(streams))
        text = self.stream(f, {"annotations": ["other"], "extra_fields": ["engine_data"]})
        self.assertEqual(text, b"".join(EVENTS))

    def test_events_at_the_head(self):
        w = self.worker(streams)
        f = self.kv(w)
        body = {**COMPLETION, "prompt": "a\n\u20acb"}
        asked = {"annotations": ["request_id", "formatted_prompt", "token_ids"]}
        for _ in range(2):  # asked of the worker, then known
            text = self.stream(f, asked, body, {"X-Request-Id": "r\"1"})
            events = text.decode().split("\n\n")
            self.assertEqual(events[0], 'event: request_id\n: "r\\"1"')
            self.assertEqual(events[1], 'event: formatted_prompt\n: "a\\n\\u20acb"')
            self.assertEqual(events[2], "event: token_ids\n: [97,10,8364,98]")
            self.assertTrue(text.endswith(b"".join(EVENTS)))
        # A chat's prompt is formatted by the worker; ids that came are told as they came.
        text = self.stream(f, asked, CHAT, {"X-Request-Id": "r"}, "/v1/chat/completions").decode()
        self.assertNotIn("formatted_prompt", text)
        self.assertIn("event: token_ids\n: [1,104,", text)
        text = self.stream(f, asked, {**COMPLETION, "prompt": [4294967295, 0]}).decode()
        self.assertIn("event: token_ids\n: [4294967295,0]\n\n", text)
        # Streams alone have events.
        self.assertEqual(self.ask(f, {**body, "nvext": asked})[2]["choices"][0]["text"], "a")

    def test_next_turn_with_its_tokens_waits_for_them(self):
        f = self.kv(self.worker(streams))
        chat = {**CHAT, "messages": [{"role": "user", "content": "q" * 50}]}
        self.assertEqual(self.ask(f, chat, "/v1/chat/completions")[0], 200)
        chat["messages"] += [{"role": "assistant", "content": "r"}, {"role": "user", "content": "s"}]
        text = self.stream(f, {"annotations": ["token_ids"]}, chat, path="/v1/chat/completions").decode()
        self.assertIn(",1,114,1,115,2,2,2,2]", text)

    def test_an_engines_stream(self):
        m = self.procs.mocker("engines", n=2, model_name="tiny", block_size=16, speedup_ratio=50)
        f = self.kv(*m.urls)
        body = {**COMPLETION, "prompt": [1, 2, 3], "return_token_ids": True, "stream": True,
                "nvext": {"extra_fields": ["worker_id", "timing"]}}
        status, _, text = jr.call("POST", f.url + "/v1/completions", body)
        self.assertEqual(status, 200)
        chunks = [json.loads(e[6:]) for e in text.decode().split("\n\n") if e.startswith("data: {")]
        self.assertTrue(chunks)
        for c in chunks:
            self.assertIn(c["nvext"]["worker_id"]["decode_worker_id"], self.ids_of(f).values())


class Pins(Base):
    def test_which_name_wins(self):
        workers = [self.worker(by_bytes) for _ in range(3)]
        f = self.kv(*workers)
        id_of = {w["url"]: w["worker_id"] for w in jr.pool(f.url)["workers"]}
        ids = [str(id_of[w.url]) for w in workers]
        rows = (
            ({"x-dynamo-worker-instance-id": ids[0], "x-worker-instance-id": ids[1]}, int(ids[2]), 0),
            ({"x-worker-instance-id": ids[1]}, int(ids[2]), 1),
            ({"x-worker-instance-id": "no number"}, int(ids[2]), 2),
            ({"x-dynamo-worker-instance-id": "", "x-worker-instance-id": ids[1]}, None, 1),
        )
        for headers, body, want in rows:
            with self.subTest(headers=headers, body=body):
                before = [len(w.posts()) for w in workers]
                nvext = {} if body is None else {"nvext": {"backend_instance_id": body}}
                self.assertEqual(self.ask(f, {**COMPLETION, **nvext}, headers=headers)[0], 200)
                after = [len(w.posts()) for w in workers]
                self.assertEqual([b - a for a, b in zip(before, after)],
                                 [int(i == want) for i in range(3)])

    def test_ranks(self):
        w = self.worker(by_bytes)
        f = self.kv(w)
        pin = {"x-worker-instance-id": "1"}
        for name in ("x-dynamo-dp-rank", "x-dp-rank", "x-data-parallel-rank"):
            self.assertEqual(self.ask(f, headers={**pin, name: "0"})[0], 200)
            status, _, reply = self.ask(f, headers={**pin, name: "7"})
            self.assert_error(status, reply, 400, "not available")
            self.assertEqual(self.ask(f, headers={name: "7"})[0], 200)  # of no worker
        self.assertEqual(self.ask(f, headers={**pin, "x-dynamo-dp-rank": "0", "x-dp-rank": "7"})[0], 200)

    def test_token_data(self):
        """Ids that the client has already: only with the worker they are for."""
        w = self.worker(by_bytes)
        f = self.kv(w)
        nvext = {"token_data": [5, 6, 7], "annotations": ["query_instance_id:"]}
        for path, body in (("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)):
            reply = self.ask(f, {**body, "nvext": {**nvext, "backend_instance_id": 1}}, path)[2]
            self.assertEqual(reply["nvext"]["token_ids"], [5, 6, 7])
            self.assertEqual(self.ask(f, {**body, "nvext": nvext}, path, {"x-worker-instance-id": "1"})[2]
                             ["nvext"]["token_ids"], [5, 6, 7])
        self.assertEqual(self.asked(w), 0)
        reply = self.ask(f, {**COMPLETION, "nvext": nvext})[2]
        self.assertEqual(reply["nvext"]["token_ids"], [ord(c) for c in COMPLETION["prompt"]])
        self.assertEqual(self.asked(w), 1)


class Batches(Base):
    def test_load_is_of_all_prompts(self):
        """Tokens of all prompts are booked; the overlap is the first one's."""
        w = self.worker(streams)
        f = self.kv(w, router_kv_events=False)
        rows = (
            ([[1] * 40, [2] * 400, [3] * 60], 500),
            (["a" * 100, "b" * 300], 400),
            ([1] * 30, 30),
            ("c" * 70, 70),
        )
        total = 0
        for prompt, tokens in rows:
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": prompt})[0], 200)
            total += tokens
            self.assertEqual(jr.metric(f.url, "dynamo_frontend_input_sequence_tokens_sum"), total)


def keeps(request):
    if request.path == "/cache_control":
        return play.send_json(request, 200, {"status": "ok"})
    return streams(request)


class CacheControl(Base):
    """--enable-cache-control: the worker that answered is asked to keep the prompt."""
    ASK = {"type": "ephemeral", "ttl": "10m"}

    def results(self, f):
        return {r: jr.metric(f.url, 'jetrouter_cache_control_total{result="%s"}' % r)
                for r in ("kept", "refused", "failed", "no_tokens", "limit")}

    def told(self, w, n):
        jr.wait_for(lambda: len(w.posts("/cache_control")) >= n, "the worker to be asked", 60)
        return [json.loads(p.body) for p in w.posts("/cache_control")]

    def ends(self, f, **results):
        want = {**dict.fromkeys(("kept", "refused", "failed", "no_tokens", "limit"), 0), **results}
        jr.wait_for(lambda: self.results(f) == want, lambda: "%r; there is %r" % (want, self.results(f)), 60)

    def test_what_the_worker_is_told(self):
        w = self.worker(keeps)
        f = self.kv(w, enable_cache_control=True)
        ids = list(range(1, 30))
        rows = (
            ({"prompt": ids, "nvext": {"cache_control": self.ASK}}, ids, 600, {}),
            ({"prompt": ids, "cache_control": {"type": "ephemeral"}, "stream": True, "cache_salt": 's"'}, ids, 300,
             {"cache_salt": 's"'}),
            ({"prompt": "abcdefgh", "nvext": {"cache_control": {**self.ASK, "ttl": "2h"}}},
             [ord(c) for c in "abcdefgh"], 3600, {}),
        )
        for i, (body, tokens, ttl, more) in enumerate(rows):
            status, _, text = jr.call("POST", f.url + "/v1/completions", {**COMPLETION, **body})
            self.assertEqual(status, 200, text)
            self.assertEqual(self.told(w, i + 1)[i],
                             {"action": "pin_prefix", "token_ids": tokens, "ttl_seconds": ttl, **more})
        self.ends(f, kept=3)
        self.assertEqual({p.headers["X-Data-Parallel-Rank"] for p in w.posts("/cache_control")}, {"0"})
        # Not of a kind that is not known, and not of a question.
        for nvext in ({"cache_control": {"type": "other"}}, {},
                      {"cache_control": self.ASK, "annotations": ["query_instance_id:"]}):
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": ids, "nvext": nvext})[0], 200)
        self.assertEqual(self.ask(f, {**COMPLETION, "prompt": ids, "cache_control": self.ASK})[0], 200)
        self.assertEqual(len(self.told(w, 4)), 4)
        self.ends(f, kept=4)

    def test_no_answer_depends_on_it(self):
        def fails(request):
            if request.path == "/cache_control" and json.loads(request.body)["ttl_seconds"] == 301:
                return play.cut(request)
            if request.path in ("/cache_control", "/tokenize"):
                return play.send_json(request, 404, {})
            return play.plain(request)
        w = self.worker(fails)
        f = self.kv(w, enable_cache_control=True)
        for ttl in ("300", "301"):
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": [1, 2],
                                          "cache_control": {"type": "ephemeral", "ttl": ttl}})[0], 200)
            self.told(w, 1)
        # There is no /tokenize here: nobody knows the text's ids.
        self.assertEqual(self.ask(f, {**COMPLETION, "cache_control": self.ASK})[0], 200)
        self.ends(f, refused=1, failed=1, no_tokens=1)

    def test_bounded_by_what_the_workers_are_told(self):
        """A salt that may be 36 MiB, escaped, is told; a second one beside it is not."""
        hold = threading.Event()
        self.addCleanup(hold.set)

        def waits(request):
            if request.path == "/cache_control":
                hold.wait(60)
            return keeps(request)
        f = self.kv(self.worker(waits), enable_cache_control=True)
        body = json.dumps({**COMPLETION, "prompt": [1, 2], "cache_salt": "s" * 6_000_000,
                           "cache_control": self.ASK})
        asked = []

        def counts(result):
            """One more; whoever waits for its worker is given up after seconds."""
            before = self.results(f)[result]
            status, _, text = jr.call("POST", f.url + "/v1/completions", body, timeout=60)
            self.assertEqual(status, 200, text)
            asked.append(body)
            jr.wait_for(lambda: sum(self.results(f).values()) >= len(asked) - (not hold.is_set()), "the end", 60)
            return self.results(f)[result] > before
        jr.wait_for(lambda: counts("limit"), "the limit", 60)
        hold.set()
        jr.wait_for(lambda: sum(self.results(f).values()) == len(asked), "all ends", 60)
        jr.wait_for(lambda: counts("kept"), "room again", 60)

    def test_off_nobody_is_asked(self):
        w = self.worker(keeps)
        f = self.kv(w)
        self.assertEqual(self.ask(f, {**COMPLETION, "prompt": [1, 2], "cache_control": self.ASK})[0], 200)
        self.ends(f)
        self.assertEqual(w.posts("/cache_control"), [])

    def test_a_mock_engine_keeps_it(self):
        m = self.procs.mocker("engine", num_gpu_blocks=40, block_size=16, speedup_ratio=0)
        f = self.frontend(m.urls[0], router_mode="kv", kv_cache_block_size=16, enable_cache_control=True)

        def cached(prompt, **more):
            status, _, text = jr.call("POST", f.url + "/v1/completions", {
                "model": "mock-model", "prompt": prompt, "max_tokens": 1, **more}, timeout=60)
            self.assertEqual(status, 200, text)
            return json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"]

        def flood(n):
            for i in range(6):
                cached([20000 + n * 1000 + i * 100 + k % 90 for k in range(200)])
        kept, other = list(range(1, 98)), list(range(500, 597))
        cached(kept, cache_control=self.ASK)
        cached(other)
        self.ends(f, kept=1)
        self.assertEqual(jr.get_json(m.urls[0] + "/mock/cache")["ranks"][0]["kept"], 6)
        flood(0)
        self.assertEqual((cached(kept), cached(other)), (96, 0))


if __name__ == "__main__":
    unittest.main()
