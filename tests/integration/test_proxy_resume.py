# SPDX-License-Identifier: Apache-2.0
"""Streams whose worker dies: gone on with at another worker where that can be done, and where not,
an event that says so."""
import json
import re
import threading
import unittest
from types import SimpleNamespace

import jr_procs as jr
import jr_worker as play
from test_frontend import CHAT, COMPLETION, Case

IDS = {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 6, "temperature": 0, "stream": True,
       "return_token_ids": True, "stream_options": {"include_usage": True}}
TOKENS = [11, 12, 13, 14, 15, 16]


def events(text):
    """The JSON of each event; [DONE] as None."""
    found = [i[6:] for i in text.decode().split("\n\n") if i.startswith("data: ")]
    return [None if i == "[DONE]" else json.loads(i) for i in found]


def event(tokens, first=None, finish=None, name="a", created=4, **kw):
    choice = {"index": 0, "text": "".join(chr(86 + t) for t in tokens), "finish_reason": finish,
              "token_ids": tokens, **({"prompt_token_ids": first} if first else {}), **kw}
    return b"data: %s\n\n" % json.dumps({"id": name, "object": "text_completion", "created": created,
                                         "model": "tiny", "choices": [choice]}).encode()


def stream_of(body, tokens=TOKENS, **kw):
    """What an engine answers to this body, that knows which tokens come next."""
    done = len(body["prompt"]) - len(IDS["prompt"])
    left = tokens[done:done + body["max_tokens"]]
    out = [event([t], body["prompt"] if i == 0 else None, "length" if i == len(left) - 1 else None, **kw)
           for i, t in enumerate(left)]
    head = {"id": kw.get("name", "a"), "object": "text_completion", "created": kw.get("created", 4), "model": "tiny"}
    out.append(b"data: %s\n\n" % json.dumps({**head, "choices": [], "usage": {
        "prompt_tokens": len(body["prompt"]), "completion_tokens": len(left),
        "total_tokens": len(body["prompt"]) + len(left),
        "prompt_tokens_details": {"cached_tokens": len(body["prompt"])}}}).encode())
    return out + [b"data: [DONE]\n\n"]


WHOLE = b"".join(stream_of(IDS))


class Resume(Case):
    def pair(self, first, second=None, **kw):
        """A frontend over two workers of which whoever is asked first plays `first`."""
        lock, asked = threading.Lock(), []

        def answer(request):
            if request.path == "/tokenize":
                return play.plain(request)
            with lock:
                # The handler is the connection's: its next request has other headers.
                asked.append(SimpleNamespace(headers=request.headers, body=request.body))
                n = len(asked)
            return first(request) if n == 1 else (second or self.rest)(request)
        workers = [self.worker(answer), self.worker(answer)]
        f = self.frontend(*workers, **kw)
        self.asked = asked
        return f, workers

    @staticmethod
    def rest(request):
        play.send_head(request)
        for e in stream_of(json.loads(request.body), name="b", created=9):
            play.send_chunk(request, e)
        request.wfile.write(b"0\r\n\r\n")

    @staticmethod
    def dies_after(data, step=None):
        def answer(request):
            play.send_head(request)
            for at in range(0, len(data), step or len(data) or 1):
                play.send_chunk(request, data[at:at + (step or len(data))])
            play.cut(request)
        return answer

    def stream(self, f, body=IDS, headers=None, path="/v1/completions"):
        with play.Stream(f.url + path, body, headers) as s:
            self.assertEqual(s.head(), 200)
            return s.rest()

    def nothing_left(self, f):
        jr.wait_for(lambda: jr.pool(f.url)["bookings"] == 0 and
                    jr.get_json(f.url + "/state")["replica"]["inflight"] == 0, "nothing booked", 60)

    def assert_cut(self, got):
        text, whole = got
        self.assertFalse(whole)
        last = text.decode().split("\n\n")[-2].lstrip("\n")
        self.assertRegex(last, r"^event: error\n: [^\n]+\ndata: \{[^\n]+\}$")
        body = json.loads(last.split("data: ", 1)[1])
        self.assert_error(body["code"], body, 502, "worker")
        self.assertNotIn("[DONE]", text.decode())

    def same(self, got):
        """What the client would have got of one worker, but for cached tokens, which are the second's."""
        text, whole = got
        self.assertTrue(whole, text)
        want, have = events(WHOLE), events(text)
        # The part that begins anew says null where the first of all has the prompt's ids.
        for e in have[1:]:
            for c in (e or {}).get("choices", ()):
                self.assertIsNone(c.pop("prompt_token_ids", None))
        self.assertEqual(have, want)

    def test_the_end_without_its_empty_line(self):
        """[DONE] with a line's end and no more is relayed as it came."""
        def answer(request):
            play.send_head(request)
            play.send_chunk(request, WHOLE[:-1])
            request.wfile.write(b"0\r\n\r\n")
        f, _ = self.pair(answer)
        self.assertEqual(self.stream(f), (WHOLE[:-1], True))
        self.nothing_left(f)

    def test_cut_at_every_byte(self):
        """However much of the stream had come: the client has each event once, and all of one stream."""
        events_of = stream_of(IDS)
        ends = [sum(map(len, events_of[:i + 1])) for i in range(len(events_of))]
        migrated = 0
        cuts = [e + d for e in ends[:3] for d in (-2, -1, 0, 1, 2)] + list(range(ends[1], ends[2], 17))
        for cut in sorted(set(cuts)):
            for step in (None, 5):
                with self.subTest(cut=cut, step=step):
                    f, workers = self.pair(self.dies_after(WHOLE[:cut], step), name="front-%d-%s" % (cut, step))
                    got = self.stream(f)
                    n = sum(1 for e in ends if e <= cut)
                    if n == 0:  # nothing of it is known as ids
                        self.assert_cut(got)
                    else:
                        self.same(got)
                        sent = json.loads(self.asked[1].body)
                        self.assertEqual(sent, {**IDS, "prompt": IDS["prompt"] + TOKENS[:n],
                                                "max_tokens": 6 - n})
                        migrated += 1
                    self.nothing_left(f)
                    f.stop()
        self.assertGreater(migrated, 20)

    def test_counted_and_said(self):
        f, workers = self.pair(self.dies_after(b"".join(stream_of(IDS)[:3])))
        self.same(self.stream(f))
        text = jr.get(f.url + "/metrics")[1].decode()
        self.assertRegex(text, r'_model_migration_total\{[^}]*migration_type="ongoing_request"[^}]*\} 1\n')
        self.assertEqual(jr.metric(f.url, "dynamo_frontend_output_tokens_total"), 6)
        self.assertEqual(jr.metric(f.url, "dynamo_frontend_input_sequence_tokens_count"), 1)
        self.wait_log(f, "proxy.resume")
        self.nothing_left(f)
        self.assertEqual(len({r.headers["X-Request-Id"] for r in self.asked}), 1)

    def test_the_second_dies_too(self):
        parts = stream_of(IDS)
        count = []

        def second(request):
            count.append(1)
            rest = stream_of(json.loads(request.body), name="b", created=9)
            play.send_head(request)
            play.send_chunk(request, rest[0] + rest[1][:20])
            play.cut(request)
        f, _ = self.pair(self.dies_after(b"".join(parts[:2])), second)
        text, whole = self.stream(f)
        self.assertFalse(whole)  # there is no third worker
        have = events(text)
        self.assertEqual([e["choices"][0]["token_ids"] for e in have if e and e.get("choices")], [[11], [12], [13]])
        self.assertIn("event: error", text.decode())
        self.assertEqual(len(count), 1)
        self.nothing_left(f)

    def test_three_workers_make_one_stream(self):
        parts, turn = stream_of(IDS), []

        def answer(request):
            turn.append(json.loads(request.body))
            rest = stream_of(turn[-1], name="n%d" % len(turn), created=len(turn) + 3)
            play.send_head(request)
            for e in rest[:2] if len(turn) < 3 else rest:
                play.send_chunk(request, e)
            if len(turn) < 3:
                return play.cut(request)
            return request.wfile.write(b"0\r\n\r\n")
        f = self.frontend(*[self.worker(answer) for _ in range(3)])
        text, whole = self.stream(f)
        self.assertTrue(whole)
        self.assertEqual({(e["id"], e["created"]) for e in events(text) if e}, {("n1", 4)})
        self.same((text.replace(b'"n1"', b'"a"'), whole))
        self.assertEqual([len(b["prompt"]) for b in turn], [3, 5, 7])
        self.assertEqual([b["max_tokens"] for b in turn], [6, 4, 2])
        self.nothing_left(f)

    def test_the_rest_is_refused(self):
        def refuses(request):
            play.send_json(request, 400, {"error": {"message": "too long"}})
        f, _ = self.pair(self.dies_after(b"".join(stream_of(IDS)[:2])), refuses)
        self.assert_cut(self.stream(f))
        self.nothing_left(f)

    def test_the_rest_is_no_json(self):
        def odd(request):
            play.send_head(request)
            play.send_chunk(request, b"data: {oops\n\n")
            play.wait_gone(request)
        f, _ = self.pair(self.dies_after(b"".join(stream_of(IDS)[:2])), odd)
        self.assert_cut(self.stream(f))
        self.nothing_left(f)

    def test_where_it_cannot_be(self):
        part = stream_of(IDS)[0]
        silent = re.sub(rb', "token_ids": \[11\]', b"", part)
        late = part.replace(b'"text": "a"', b'"text": ""')
        rows = (
            ("text prompt", {"prompt": "some text"}, part, {}),
            ("ids are not named", {}, silent, {}),
            ("text is held back", {}, late, {}),
            ("stop", {"stop": ["x"]}, part, {}),
            ("logprobs", {"logprobs": 1}, part, {}),
            ("echo", {"echo": True}, part, {}),
            ("two choices", {"n": 2}, part, {}),
            ("unknown field", {"something": 1}, part, {}),
            ("no max_tokens", {"max_tokens": None}, part, {}),
            ("it had finished", {}, event([11], [5, 6, 7], "stop"), {}),
            ("limit 0", {}, part, {"migration_limit": 0}),
        )
        for name, more, data, options in rows:
            with self.subTest(name):
                f, _ = self.pair(self.dies_after(data), name=name.replace(" ", "-"), **options)
                body = {**IDS, **more}
                if body["max_tokens"] is None:
                    del body["max_tokens"]
                self.assert_cut(self.stream(f, body))
                self.assertEqual(len([r for r in self.asked]), 1)
                self.nothing_left(f)
                f.stop()

    def test_pinned_is_not_moved(self):
        f, workers = self.pair(self.dies_after(stream_of(IDS)[0]))
        self.assert_cut(self.stream(f, headers={"x-worker-instance-id": "1"}))
        self.assertEqual(len(self.asked), 1)

    def test_chat_is_not_gone_on_with(self):
        data = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"token_ids":[1]}]}\n\n'
        for more in ({}, {"return_token_ids": True, "n": 1}, {"tools": [], "stop": ["x"]}):
            with self.subTest(more):
                f, _ = self.pair(self.dies_after(data))
                got = self.stream(f, {**CHAT, "stream": True, **more}, path="/v1/chat/completions")
                self.assertTrue(got[0].startswith(data), got)  # what was said stays said
                self.assert_cut(got)
                self.assertEqual(len(self.asked), 1)
                self.nothing_left(f)
                f.stop()

    def test_client_goes_while_the_rest_waits(self):
        began = threading.Event()

        def slow(request):
            began.set()
            self.gone = play.wait_gone(request, 60)
            done.set()
        done = threading.Event()
        f, _ = self.pair(self.dies_after(stream_of(IDS)[0]), slow)
        s = play.Stream(f.url + "/v1/completions", IDS)
        self.assertEqual(s.head(), 200)
        self.assertTrue(began.wait(60))
        s.close()
        self.assertTrue(done.wait(60) and self.gone)
        self.nothing_left(f)

    def test_long_events_are_relayed(self):
        """An event that is too long to be held back goes on as it comes, and the rest behind it."""
        long = event([12], text="x" * (3 << 20))
        data = stream_of(IDS)[0] + long + stream_of(IDS)[-1]

        def answer(request):
            play.send_head(request)
            for at in range(0, len(data), 50000):
                play.send_chunk(request, data[at:at + 50000])
            request.wfile.write(b"0\r\n\r\n")
        f, _ = self.pair(answer)
        self.assertEqual(self.stream(f), (data, True))


class Killed(Case):
    """The same with mock engines that are killed."""

    def test_text_is_that_of_one_engine(self):
        mockers = [self.procs.mocker("m%d" % i, model_name="tiny", block_size=16) for i in range(2)]
        f = self.frontend(*[m.urls[0] for m in mockers], router_mode="kv", kv_cache_block_size=16)
        body = {**IDS, "prompt": [100 + i for i in range(64)], "max_tokens": 120}
        alone = jr.call("POST", mockers[0].urls[0] + "/v1/completions", body, timeout=120)[2]
        with play.Stream(f.url + "/v1/completions", body, jr.EXPLAIN, timeout=120) as s:
            self.assertEqual(s.head(), 200)
            worker = int(s.reply.getheader("X-Jetrouter-Worker"))
            first = b""
            while first.count(b"\n\n") < 10:
                first += s.line()
            mockers[worker - 1].kill()
            text, whole = s.rest()
        self.assertTrue(whole)
        have, want = events(first + text), events(alone)

        def said(found, key):
            return [c[key] for e in found if e for c in e["choices"]]
        self.assertEqual(said(have, "token_ids"), said(want, "token_ids"))
        self.assertEqual("".join(said(have, "text")), "".join(said(want, "text")))
        self.assertEqual(said(have, "finish_reason"), said(want, "finish_reason"))
        self.assertEqual(len({(e["id"], e["created"], e["model"]) for e in have if e}), 1)
        usage = have[-2]["usage"]
        self.assertEqual((usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]), (64, 120, 184))
        self.assertIsNone(have[-1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
