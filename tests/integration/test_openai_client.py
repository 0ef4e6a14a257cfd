# SPDX-License-Identifier: Apache-2.0
"""The official openai client against a frontend in kv mode, with mock engines behind bridges. It is of
PyPI, so a Python venv has it (JR_VENV, made by ./dev setup --all); without, the tests are not run and say so."""
import asyncio
import json
import os
import sys
import threading
import unittest

import jr_procs as jr
import jr_worker as play

try:
    import openai
except ImportError:
    openai = None

MODEL = "mock-model"
MINUTE = 60


def tokens_of(stream):
    """(texts, the finish reasons, the usage) of a stream of completions or chat."""
    texts, reasons, usage = [], [], None
    for chunk in stream:
        for choice in chunk.choices:
            text = choice.text if hasattr(choice, "text") else choice.delta.content
            if text:
                texts.append(text)
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
        usage = getattr(chunk, "usage", None) or usage
    return texts, reasons, usage


class Case(unittest.TestCase):
    def client(self, url, **kw):
        c = openai.OpenAI(base_url=url + "/v1", api_key="key-of-a-user", **{"max_retries": 0, "timeout": MINUTE, **kw})
        self.addCleanup(c.close)
        return c

    def wait_free(self, url):
        """Nothing is booked any more."""
        def loads():
            return [w["active_requests"] for w in jr.pool(url)["workers"]]
        jr.wait_for(lambda: not any(loads()), lambda: "no booking; there are %s" % loads(), timeout=MINUTE)
        jr.wait_for(lambda: jr.metric(url, "jetrouter_http_requests_inflight") == 0, "no request under way", timeout=MINUTE)


class Fleet(Case):
    """Two mock engines that publish their events, one frontend."""

    @classmethod
    def setUpClass(cls):
        cls.procs = jr.Procs()
        cls.addClassCleanup(cls.procs.close)
        cls.nats = cls.procs.nats()
        cls.mocker = cls.procs.mocker("workers", n=2, bridge=True, nats=cls.nats.url, speedup_ratio=20, block_size=16)
        cls.front = cls.procs.frontend("front", nats=cls.nats.url, router_mode="kv", http_body_limit_mb=1)
        cls.procs.wait_ready(cls.front)
        jr.wait_for(lambda: [w["state"] for w in jr.pool(cls.front.url)["workers"]] == ["live"] * 2, "two live workers",
                    timeout=MINUTE)

    def setUp(self):
        self.url = self.front.url
        self.c = self.client(self.url)

    # ------------------------------------------------------------ completions

    def test_completion(self):
        r = self.c.completions.create(model=MODEL, prompt="once upon a time", max_tokens=5)
        self.assertEqual((r.object, r.model, len(r.choices)), ("text_completion", MODEL, 1))
        self.assertEqual((r.choices[0].finish_reason, r.usage.completion_tokens), ("length", 5))
        self.assertTrue(r.choices[0].text)
        self.assertEqual(r.usage.total_tokens, r.usage.prompt_tokens + 5)

    def test_prompts_of_each_form(self):
        ids = list(range(1, 40))
        for prompt, n, tokens in (("text", 1, None), (["one", "two", "three"], 3, None), (ids, 1, 39),
                                  ([ids, ids[:20]], 2, 59)):
            r = self.c.completions.create(model=MODEL, prompt=prompt, max_tokens=3)
            self.assertEqual(sorted(c.index for c in r.choices), list(range(n)))
            self.assertEqual(r.usage.completion_tokens, 3 * n)
            if tokens:
                self.assertEqual(r.usage.prompt_tokens, tokens)
            self.wait_free(self.url)

    def test_n(self):
        r = self.c.completions.create(model=MODEL, prompt="hello", max_tokens=3, n=4)
        self.assertEqual(sorted(c.index for c in r.choices), [0, 1, 2, 3])

    def test_streamed_as_whole(self):
        ids = [7] * 33
        whole = self.c.completions.create(model=MODEL, prompt=ids, max_tokens=20, seed=1)
        with self.c.completions.create(model=MODEL, prompt=ids, max_tokens=20, seed=1, stream=True) as stream:
            texts, reasons, usage = tokens_of(stream)
        self.assertEqual(len(texts), 20)
        self.assertEqual((reasons, usage), (["length"], None))
        self.assertEqual(len("".join(texts)), len(whole.choices[0].text))

    def test_streamed_with_usage(self):
        stream = self.c.completions.create(model=MODEL, prompt=[9] * 32, max_tokens=8, stream=True,
                                           stream_options={"include_usage": True})
        texts, reasons, usage = tokens_of(stream)
        self.assertEqual((len(texts), reasons), (8, ["length"]))
        self.assertEqual((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (32, 8, 40))

    # ------------------------------------------------------------ chat

    def test_chat_of_several_turns(self):
        messages = [{"role": "system", "content": "You are brief. " * 20}]
        cached = []
        for turn in range(4):
            messages.append({"role": "user", "content": "question %d " % turn * 10})
            r = self.c.chat.completions.create(model=MODEL, messages=messages, max_tokens=8)
            self.assertEqual((r.object, r.choices[0].message.role), ("chat.completion", "assistant"))
            self.assertEqual(r.choices[0].finish_reason, "length")
            messages.append({"role": "assistant", "content": r.choices[0].message.content})
            cached.append(r.usage.prompt_tokens_details.cached_tokens)
            stored = jr.wait_for(lambda: jr.pool(self.url)["blocks"], "its blocks", timeout=MINUTE)
            self.assertGreater(stored, 0)
            jr.wait_for(lambda: jr.pool(self.url)["applied_seq"]
                        == jr.stream_last_seq(self.nats, jr.pool(self.url)["stream"]), "the log's end", timeout=MINUTE)
        self.assertGreater(cached[-1], 0)  # later turns went where the earlier ones are

    def test_streamed_chat(self):
        stream = self.c.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}],
                                                max_tokens=12, stream=True, stream_options={"include_usage": True})
        texts, reasons, usage = tokens_of(stream)
        self.assertEqual((len(texts), reasons, usage.completion_tokens), (12, ["length"], 12))

    # ------------------------------------------------------------ models and errors

    def test_models(self):
        self.assertEqual([m.id for m in self.c.models.list()], [MODEL])

    def test_unknown_model(self):
        for call, kw in ((self.c.completions.create, {"prompt": "x"}),
                         (self.c.chat.completions.create, {"messages": [{"role": "user", "content": "x"}]})):
            with self.assertRaises(openai.NotFoundError) as caught:
                call(model="no-such-model", **kw)
            self.assertEqual((caught.exception.status_code, caught.exception.code), (404, "model_not_found"))
            self.assertIn("no-such-model", caught.exception.message)
            self.assertTrue(caught.exception.request_id)

    def test_bad_requests(self):
        for kw in ({"prompt": {"no": "prompt"}}, {"prompt": [-1]}, {"prompt": [1, "a"]}):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.c.completions.create(model=MODEL, **kw)
            self.assertEqual(caught.exception.type, "invalid_request_error")
        with self.assertRaises(openai.BadRequestError):
            self.c.chat.completions.create(model=MODEL, messages="no list")

    def test_too_large(self):
        with self.assertRaises(openai.APIStatusError) as caught:
            self.c.completions.create(model=MODEL, prompt="x" * (2 << 20))
        self.assertEqual(caught.exception.status_code, 413)
        self.c.completions.create(model=MODEL, prompt="x", max_tokens=1)

    # ------------------------------------------------------------ going away

    def test_a_stream_closed_half_way_frees_its_booking(self):
        stream = self.c.completions.create(model=MODEL, prompt=[3] * 64, max_tokens=100000, stream=True)
        next(iter(stream))
        jr.wait_for(lambda: sum(w["active_requests"] for w in jr.pool(self.url)["workers"]) == 1, "its booking",
                    timeout=MINUTE)
        stream.close()
        self.wait_free(self.url)

    def test_time_is_up(self):
        with self.assertRaises(openai.APITimeoutError):
            self.c.with_options(timeout=0.5).completions.create(model=MODEL, prompt=[4] * 64, max_tokens=100000)
        self.wait_free(self.url)

    def test_many_at_once(self):
        async def one(c, i):
            stream = await c.completions.create(model=MODEL, prompt=[i + 1] * 40, max_tokens=16, stream=True,
                                                stream_options={"include_usage": True})
            n, usage = 0, None
            async for chunk in stream:
                if i % 8 == 7 and n == 2:  # some leave
                    await stream.close()
                    return None
                n += sum(bool(choice.text) for choice in chunk.choices)
                usage = chunk.usage or usage
            return n, usage.completion_tokens

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=self.url + "/v1", api_key="x", max_retries=0, timeout=MINUTE) as c:
                return await asyncio.gather(*(one(c, i) for i in range(64)))
        got = asyncio.run(all_of_them())
        self.assertEqual([g for i, g in enumerate(got) if i % 8 != 7], [(16, 16)] * 56)
        self.wait_free(self.url)


class Played(Case):
    """A worker that the test plays: what it was sent, and how it fails."""

    def start(self, *answers, **kw):
        procs = jr.procs_of(self)
        self.workers = [play.Worker(a) for a in answers]
        for w in self.workers:
            self.addCleanup(w.close)
        front = procs.frontend("front", worker=[w.url for w in self.workers], drain_delay_secs=0, **kw)
        procs.wait_ready(front)
        jr.wait_for(lambda: all(w["model"] for w in jr.pool(front.url)["workers"]), "models", timeout=MINUTE)
        self.url = front.url
        return self.client(front.url)

    def test_what_the_worker_gets_is_what_the_client_said(self):
        def answer(request):
            if request.path != "/v1/chat/completions":
                return play.plain(request)
            call = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
            return play.send_json(request, 200, {
                "id": "c", "object": "chat.completion", "created": 1, "model": "tiny", "usage": play.usage(),
                "choices": [{"index": 0, "finish_reason": "tool_calls",
                             "message": {"role": "assistant", "content": None, "tool_calls": [call]}}]})
        c = self.start(answer)
        tools = [{"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
        messages = [{"role": "user", "content": [{"type": "text", "text": "And in Rome? \u2603 \"\\"}]}]
        r = c.chat.completions.create(
            model="tiny", messages=messages, tools=tools, tool_choice="auto", temperature=0.25, logit_bias={"5": -1},
            response_format={"type": "json_object"}, extra_body={"top_k": 7, "nested": {"deep": [1, None, 2.5]}},
            extra_headers={"X-Of-The-Client": "kept"})
        self.assertEqual(r.choices[0].message.tool_calls[0].function.name, "weather")
        self.assertEqual(r.choices[0].finish_reason, "tool_calls")
        post, = self.workers[0].posts("/v1/chat/completions")
        self.assertEqual(json.loads(post.body), {
            "model": "tiny", "messages": messages, "tools": tools, "tool_choice": "auto", "temperature": 0.25,
            "logit_bias": {"5": -1}, "response_format": {"type": "json_object"}, "top_k": 7,
            "nested": {"deep": [1, None, 2.5]}})
        self.assertEqual(post.headers["Authorization"], "Bearer key-of-a-user")
        self.assertEqual(post.headers["X-Of-The-Client"], "kept")

    def test_an_error_of_the_worker_is_the_clients(self):
        def answer(request):
            play.send_json(request, 422, {"error": {"message": "top_k is too large", "type": "BadRequestError",
                                                    "param": "top_k", "code": 422}})
        with self.assertRaises(openai.UnprocessableEntityError) as caught:
            self.start(answer).completions.create(model="tiny", prompt="x")
        self.assertIn("top_k is too large", caught.exception.message)
        self.assertEqual(caught.exception.param, "top_k")
        self.wait_free(self.url)

    def test_a_stream_that_breaks_is_an_error(self):
        def answer(request):
            play.send_head(request)
            play.send_chunk(request, b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"tiny",'
                                     b'"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
            play.cut(request)
        got = []
        with self.assertRaises(openai.APIError):
            for chunk in self.start(answer).chat.completions.create(
                    model="tiny", messages=[{"role": "user", "content": "x"}], stream=True):
                got.append(chunk.choices[0].delta.content)
        self.assertEqual(got, ["a"])
        self.wait_free(self.url)

    def test_a_worker_that_hangs_up(self):
        with self.assertRaises(openai.InternalServerError) as caught:
            self.start(play.cut).completions.create(model="tiny", prompt="x")
        self.assertIn(caught.exception.status_code, (502, 503))
        self.wait_free(self.url)

    def test_no_worker_has_come(self):
        procs = jr.procs_of(self)
        nats = procs.nats()
        front = procs.frontend("front", nats=nats.url, router_mode="kv", drain_delay_secs=0)
        procs.wait_ready(front)
        with self.assertRaises(openai.InternalServerError) as caught:
            self.client(front.url).completions.create(model="tiny", prompt="x")
        self.assertEqual((caught.exception.status_code, caught.exception.code), (503, "no_worker"))

    def test_the_clients_own_retries_meet_a_worker_that_is_back(self):
        busy = threading.Event()

        def answer(request):
            if not busy.is_set():
                busy.set()
                return play.send_json(request, 503, {"error": {"message": "busy", "type": "x", "code": 503}})
            return play.plain(request)
        c = self.start(answer)
        r = c.with_options(max_retries=2).completions.create(model="tiny", prompt="x")
        self.assertEqual(r.choices[0].text, "a")
        self.wait_free(self.url)


def setUpModule():
    if openai is None:
        words = "not run: JR_VENV does not name a Python venv with openai"
        print(words)
        raise unittest.SkipTest(words)


def use_venv():
    """The same again with the venv's Python, when it has what this one lacks."""
    python = os.path.join(os.environ.get("JR_VENV", ""), "bin", "python")
    if openai is None and os.environ.get("JR_VENV") and os.path.exists(python) and sys.executable != python:
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


if __name__ == "__main__":
    use_venv()
    unittest.main()
