# SPDX-License-Identifier: Apache-2.0
"""Text and chats through a frontend in mode kv: who is asked for tokens, how often, what is done with
them, and what happens when nobody answers."""
import json
import threading
import time

import jr_procs as jr
import jr_worker as play
from test_frontend import CHAT, COMPLETION, Case, neutral
import unittest

LONG = 60  # seconds that a busy machine may take for anything here


def tokenize(request, ids=None):
    """As a byte tokenizer would: a chat is its contents, each with a mark before it."""
    body = json.loads(request.body)
    if "messages" in body:
        text = "".join("\x01" + str(m["content"]) for m in body["messages"]) + "\x02" * 4
    else:
        text = body["prompt"]
    tokens = [ord(c) for c in text] if ids is None else ids
    play.send_json(request, 200, {"count": len(tokens), "max_model_len": 1 << 20, "tokens": tokens})


def by_bytes(request):
    if request.path == "/tokenize":
        return tokenize(request)
    return play.plain(request)


class Base(Case):
    def kv(self, *workers, tokenizer_timeout_secs=LONG, **kw):
        return self.frontend(*workers, router_mode="kv", kv_cache_block_size=4,
                             tokenizer_timeout_secs=tokenizer_timeout_secs, **kw)

    def results(self, f):
        """jetrouter_tokenize_total by result."""
        text = jr.get(f.url + "/metrics")[1].decode()
        found = {}
        for line in text.splitlines():
            if line.startswith("jetrouter_tokenize_total{"):
                found[line.split('"')[1]] = int(float(line.rsplit(" ", 1)[1]))
        return found

    def asked(self, *workers):
        return sum(len(w.posts("/tokenize")) for w in workers)

    def query(self, f, body, path="/v1/completions"):
        status, _, reply = self.ask(
            f, {**body, "nvext": {"annotations": ["query_instance_id:"]}}, path)
        self.assertEqual(status, 200, reply)
        return reply["nvext"]["token_ids"]

    def together(self, f, bodies, path="/v1/completions"):
        got = [None] * len(bodies)

        def run(i):
            got[i] = jr.call("POST", f.url + path, bodies[i], timeout=LONG)
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(bodies))]
        for t in threads:
            t.start()
        return threads, got


class Cache(Base):
    def test_known_texts_ask_nobody(self):
        w = self.worker(by_bytes)
        f = self.kv(w)
        for text in ("abcdefgh", "abcdefgh", "abcdefgH", "abcdefgh"):
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": text})[0], 200)
        self.assertEqual(self.asked(w), 2)
        # What does not change the tokens makes no other text; what does, does.
        for more in ({"max_tokens": 9, "user": "u", "cache_salt": "s"}, {"add_special_tokens": False}):
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "abcdefgh", **more})[0], 200)
        self.assertEqual(self.asked(w), 3)
        self.assertEqual(json.loads(w.posts("/tokenize")[2].body)["add_special_tokens"], False)
        self.assertEqual(self.results(f), {"asked": 3, "exact": 3})
        self.assertEqual(self.query(f, {**COMPLETION, "prompt": "abcdefgh"}), [ord(c) for c in "abcdefgh"])
        self.assertEqual(jr.metric(f.url, "jetrouter_tokenizer_cache_entries"), 3)
        self.assertGreater(jr.metric(f.url, "jetrouter_tokenizer_cache_bytes"), 3 * 32)

    def test_off(self):
        w = self.worker(by_bytes)
        f = self.kv(w, tokenizer_cache_mb=0)
        for _ in range(3):
            self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual(self.asked(w), 3)
        self.assertEqual(jr.metric(f.url, "jetrouter_tokenizer_cache_entries"), 0)

    def test_memory_is_bounded(self):
        w = self.worker(by_bytes)
        f = self.kv(w, tokenizer_cache_mb=1)
        for i in range(20):
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "%05d" % i + "x" * 40000})[0], 200)
            self.assertLessEqual(jr.metric(f.url, "jetrouter_tokenizer_cache_bytes"), 1 << 20)
        self.assertEqual(self.asked(w), 20)
        self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "00019" + "x" * 40000})[0], 200)
        self.assertEqual(self.asked(w), 20)
        self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "00000" + "x" * 40000})[0], 200)
        self.assertEqual(self.asked(w), 21)

    def test_equal_texts_at_a_time_are_asked_once(self):
        go = threading.Event()
        self.addCleanup(go.set)

        def slow(request):
            if request.path == "/tokenize":
                go.wait(LONG)
            return by_bytes(request)
        w = self.worker(slow)
        f = self.kv(w)
        first = play.Stream(f.url + "/v1/completions", COMPLETION)  # will go away
        jr.wait_for(lambda: self.asked(w) == 1, "the leader asks")
        threads, got = self.together(f, [COMPLETION] * 8 + [{**COMPLETION, "prompt": "other"}])

        def in_flight(n):
            """So many are counted, and each loop was asked for its counters since: what it had begun it has told."""
            jr.wait_for(lambda: jr.get_json(f.url + "/state")["replica"]["inflight"] == n, "%d are there" % n)
            self.results(f)
        in_flight(10)
        first.close()
        in_flight(9)
        jr.wait_for(lambda: self.asked(w) == 2, "the other text is asked for")
        go.set()
        for t in threads:
            t.join(LONG)
        self.assertEqual([g[0] for g in got], [200] * 9)
        self.assertEqual(self.asked(w), 2)
        self.assertEqual(len(w.posts()), 9)
        self.assertEqual(self.results(f), {"asked": 2, "coalesced": 7})

    def test_a_models_workers_are_replaced(self):
        """What their tokenizer said counts no more."""
        w = [self.worker(by_bytes) for _ in range(2)]
        f = self.kv(*w)
        for _ in range(2):
            self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual(self.asked(*w), 1)
        w[0].healthy = False  # the one that is watched: the first of its model

        def asked_anew():
            self.assertEqual(self.ask(f)[0], 200)
            return self.asked(*w) == 2
        jr.wait_for(asked_anew, "asked anew", LONG, every=0.2)

    def test_nobody_left_who_wants_to_know(self):
        gone = threading.Event()

        def slow(request):
            if request.path == "/tokenize":
                if play.wait_gone(request, LONG):
                    gone.set()
                return None
            return play.plain(request)
        w = self.worker(slow)
        f = self.kv(w, tokenizer_timeout_secs=600)
        s = play.Stream(f.url + "/v1/completions", COMPLETION)
        jr.wait_for(lambda: self.asked(w) == 1, "it is asked")
        s.close()
        self.assertTrue(gone.wait(LONG), "the question is taken back")


class Turns(Base):
    """The next turn of a chat."""

    def chat(self, n):
        messages = [{"role": "user" if i % 2 == 0 else "assistant",
                     "content": "%d " % i + chr(97 + i) * 60} for i in range(n)]
        return {"model": "tiny", "messages": messages, "max_tokens": 1}

    def turn(self, f, n, **more):
        status, _, reply = self.ask(f, {**self.chat(n), **more}, "/v1/chat/completions")
        self.assertEqual(status, 200, reply)

    def test_next_turn_waits_for_nobody(self):
        """It is routed by the turns before while the tokenizer hangs, to where they went."""
        go = threading.Event()
        self.addCleanup(go.set)
        held = threading.Event()

        def answer(request):
            if request.path == "/tokenize" and held.is_set():
                go.wait(LONG)
            return by_bytes(request)
        w = [self.worker(answer) for _ in range(3)]
        f = self.kv(*w, router_kv_events=False)
        self.turn(f, 1)
        served = [x for x in w if x.posts("/v1/chat/completions")]
        self.assertEqual((self.asked(*w), len(served)), (1, 1))
        held.set()
        self.turn(f, 3)
        self.assertEqual(len(served[0].posts("/v1/chat/completions")), 2)
        go.set()
        jr.wait_for(lambda: jr.metric(f.url, "jetrouter_tokenizer_cache_entries") == 2,
                    "its own tokens come beside")
        self.turn(f, 3)
        self.turn(f, 5)
        jr.wait_for(lambda: self.asked(*w) == 3, "asked beside")
        self.assertEqual(len(served[0].posts("/v1/chat/completions")), 4)
        self.assertEqual(self.results(f), {"asked": 1, "prefix": 2, "exact": 1})
        self.assertEqual(jr.metric(f.url, "jetrouter_tokenizer_prefix_wrong_total"), 0)

    def test_only_the_same_chat_goes_on(self):
        """Another message before, or tools: nothing is known of it."""
        w = self.worker(by_bytes)
        f = self.kv(w)
        self.turn(f, 1)
        for n, more in ((3, {"tools": [{"type": "function"}]}), (3, {"chat_template_kwargs": {"a": 1}})):
            self.turn(f, n, **more)
        other = self.chat(3)
        other["messages"][0]["content"] += "!"
        self.assertEqual(self.ask(f, other, "/v1/chat/completions")[0], 200)
        self.assertEqual(self.results(f), {"asked": 4})

    def test_a_template_that_renders_the_past_otherwise(self):
        """The guess was wrong once; then chats are tokenized whole."""
        def forgetful(request):
            if request.path != "/tokenize":
                return play.plain(request)
            messages = json.loads(request.body)["messages"]
            return tokenize(request, [len(messages)] * 400)
        w = self.worker(forgetful)
        f = self.kv(w)
        self.turn(f, 1)
        self.turn(f, 3)
        jr.wait_for(lambda: jr.metric(f.url, "jetrouter_tokenizer_prefix_wrong_total") == 1, "seen")
        self.turn(f, 5)
        self.assertEqual(self.results(f), {"asked": 2, "prefix": 1})
        self.wait_log(f, "tokenizer.prefix")

    def test_a_template_of_ones_own(self):
        """It renders the past otherwise: that is nothing to those who use the model's."""
        def answer(request):
            body = json.loads(request.body)
            if request.path == "/tokenize" and "chat_template" in body:
                return tokenize(request, [len(body["messages"])] * 400)
            return by_bytes(request)
        w = self.worker(answer)
        f = self.kv(w)
        own = {"chat_template": "{{ messages | length }}"}
        self.turn(f, 1, **own)
        self.turn(f, 3, **own)
        jr.wait_for(lambda: jr.metric(f.url, "jetrouter_tokenizer_prefix_wrong_total") == 1, "seen")
        self.turn(f, 1)
        self.turn(f, 3)
        self.assertEqual(self.results(f), {"asked": 2, "prefix": 2})
        self.turn(f, 5, **own)
        self.assertEqual(self.results(f), {"asked": 3, "prefix": 2})

    def test_the_end_with_a_question_beside(self):
        """Nobody waits for it, and it does not outlive the pool that it is of."""
        held, gone = threading.Event(), threading.Event()

        def answer(request):
            if request.path != "/tokenize" or not held.is_set():
                return by_bytes(request)
            if play.wait_gone(request, LONG):
                gone.set()
            return None
        w = self.worker(answer)
        f = self.kv(w, tokenizer_timeout_secs=600)
        self.turn(f, 1)
        held.set()
        self.turn(f, 3)
        jr.wait_for(lambda: self.asked(w) == 2, "asked beside")
        self.assertEqual(f.stop(timeout=LONG), 0)
        self.assertTrue(gone.wait(LONG))

    def test_what_is_told_to_clients_is_exact(self):
        w = self.worker(by_bytes)
        f = self.kv(w)
        self.turn(f, 1)
        ids = self.query(f, self.chat(3), "/v1/chat/completions")
        text = "".join("\x01" + m["content"] for m in self.chat(3)["messages"]) + "\x02" * 4
        self.assertEqual(ids, [ord(c) for c in text])

    def test_off(self):
        w = self.worker(by_bytes)
        f = self.kv(w, tokenizer_prefixes=False)
        for n in (1, 3, 5):
            self.turn(f, n)
        self.assertEqual(self.results(f), {"asked": 3})


class Workers(Base):
    """Which worker tokenizes, and when none does."""

    def test_they_take_turns(self):
        w = [self.worker(by_bytes) for _ in range(3)]
        f = self.kv(*w)
        for i in range(60):
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "text %d" % i})[0], 200)
        self.assertEqual(self.asked(*w), 60)
        for x in w:  # each of 60 is at one of three: less than 5 has a chance of 1e-6
            self.assertGreaterEqual(self.asked(x), 5)

    def test_another_is_asked_when_one_dies(self):
        def dies(request):
            return play.cut(request) if request.path == "/tokenize" else play.plain(request)
        good, bad = self.worker(by_bytes), self.worker(dies)
        f = self.kv(bad, good)
        for i in range(12):
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "text %d" % i})[0], 200)
        self.assertEqual(self.results(f), {"asked": 12})
        self.assertEqual(self.asked(good), 12)
        self.assertLess(self.asked(bad), 12)  # left out for a while after it failed

    def test_a_slow_one_is_not_waited_for(self):
        stop = threading.Event()
        self.addCleanup(stop.set)

        def hangs(request):
            if request.path == "/tokenize":
                stop.wait(LONG)
            return by_bytes(request)
        w = self.worker(hangs)
        f = self.kv(w, tokenizer_timeout_secs=0.2)
        self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual(self.results(f), {"failed": 1})

    def test_the_request_has_no_longer_than_it_has(self):
        stop = threading.Event()
        self.addCleanup(stop.set)

        def hangs(request):
            if request.path == "/tokenize":
                stop.wait(2 * LONG)
            return by_bytes(request)
        f = self.kv(self.worker(hangs), self.worker(hangs), request_timeout_secs=1)
        began = time.monotonic()
        status, _, reply = self.ask(f)
        self.assert_error(status, reply, 504, "--request-timeout-secs")
        self.assertLess(time.monotonic() - began, LONG / 2)

    def test_a_text_that_the_worker_refuses(self):
        def refuses(request):
            if request.path == "/tokenize":
                return play.send_json(request, 400, {"message": "roles must alternate"})
            return play.plain(request)
        w = [self.worker(refuses) for _ in range(2)]
        f = self.kv(*w)
        for _ in range(3):
            self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual(self.results(f), {"refused": 3})
        self.assertEqual(self.asked(*w), 3)  # another would say the same
        self.assertEqual(jr.pool(f.url)["tokenizer"], "answers")

    def test_nobody_tokenizes(self):
        """Said once, by log, metric and state; equal beginnings go together; and back again."""
        broken = threading.Event()
        broken.set()

        def answer(request):
            if request.path == "/tokenize" and broken.is_set():
                return play.send_json(request, 500, {})
            return by_bytes(request)
        w = [self.worker(answer) for _ in range(3)]
        f = self.kv(*w)  # with events: the index says nothing of these texts
        self.assertEqual(jr.pool(f.url)["tokenizer"], "unknown")
        for turn in range(1, 5):
            for chat in range(4):
                text = ("chat %d " % chat + chr(97 + chat) * 90) * turn
                self.assertEqual(self.ask(f, {**COMPLETION, "prompt": text})[0], 200)
        for chat in range(4):
            homes = [i for i, x in enumerate(w)
                     if any(b"chat %d " % chat in r.body for r in x.posts())]
            self.assertEqual(len(homes), 1, "one worker has all turns of chat %d" % chat)
        jr.wait_booked_out(f.url)
        pool = jr.pool(f.url)
        self.assertEqual(pool["tokenizer"], "missing")
        self.assertEqual(jr.metric(f.url, "jetrouter_tokenizer_missing"), 1)
        self.assertEqual((pool["counters"]["overlap_blocks"], pool["counters"]["prompt_blocks"]), (0, 0))
        self.assertEqual(set(self.results(f)), {"failed"})
        self.wait_log(f, "tokenizer.missing")
        broken.clear()
        texts = iter(range(1000000))

        def answers():
            self.ask(f, {**COMPLETION, "prompt": "text %d" % next(texts)})
            return jr.pool(f.url)["tokenizer"] == "answers"
        jr.wait_for(answers, "a tokenizer is found again", LONG, every=0.2)
        self.assertEqual(jr.metric(f.url, "jetrouter_tokenizer_missing"), 0)
        self.wait_log(f, "tokenizer.back")
        with open(f.log, errors="replace") as log:
            text = log.read()
        self.assertEqual((text.count("tokenizer.missing"), text.count("tokenizer.back")), (1, 1))

    def test_a_text_with_too_many_tokens(self):
        """Or an answer that is too long: the text's fault. The workers tokenize for everybody else."""
        answers = {"many": b'{"tokens":[' + b"1," * (4 << 20) + b"1]}",
                   "long": b'{"tokens":[1],"x":"' + b"x" * (64 << 20) + b'"}'}

        def answer(request):
            body = json.loads(request.body)
            if request.path != "/tokenize" or body["prompt"] not in answers:
                return by_bytes(request)
            data = answers[body["prompt"]]
            play.send_head(request, "application/json", len(data))
            request.wfile.write(data)
        w = [self.worker(answer) for _ in range(2)]
        f = self.kv(*w)
        for n, text in enumerate(answers, 1):
            status, _, reply = self.ask(f, {**COMPLETION, "prompt": text})
            self.assertEqual(status, 200, reply)
            self.assertEqual(self.asked(*w), n)  # another would say the same
        for i in range(8):
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "text %d" % i})[0], 200)
        self.assertEqual(self.results(f), {"limit": 2, "asked": 8})
        self.assertTrue(all(self.asked(x) for x in w))  # the one with less questions is asked first
        self.assertEqual(jr.pool(f.url)["tokenizer"], "answers")

    def hanging(self):
        """Hangs at the prompt "hang", until the test is over."""
        stop = threading.Event()
        self.addCleanup(stop.set)

        def answer(request):
            if request.path == "/tokenize" and json.loads(request.body)["prompt"] == "hang":
                stop.wait(2 * LONG)
            return by_bytes(request)
        return answer

    def test_a_text_that_takes_too_long(self):
        """Every worker's: only one is left out for it."""
        answer = self.hanging()
        w = [self.worker(answer) for _ in range(2)]
        f = self.kv(*w, tokenizer_timeout_secs=0.5)  # less than one is left out for
        self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "hang"})[0], 200)
        jr.wait_for(lambda: [self.asked(x) for x in w] == [1, 1], "both are asked", LONG)
        self.assertEqual(self.results(f), {"failed": 1})
        self.assertEqual(jr.pool(f.url)["tokenizer"], "unknown")

    def test_a_client_with_little_time(self):
        """It had none to wait for the worker: that is no fault of the worker's."""
        w = self.worker(self.hanging())
        f = self.kv(w, request_timeout_secs=2)
        self.assertEqual(self.ask(f, {**COMPLETION, "prompt": "hang"})[0], 504)
        jr.wait_for(lambda: self.asked(w) == 1, "it was asked", LONG)
        self.assertEqual(jr.pool(f.url)["tokenizer"], "unknown")

    def test_long_texts_at_a_time(self):
        """The questions under way are bounded by what they hold: 256 MiB, three times their length."""
        stop = threading.Event()
        self.addCleanup(stop.set)

        def answer(request):
            if request.path == "/tokenize":
                stop.wait(4 * LONG)
                return play.cut(request)  # the tokens of such a text would keep the next test waiting
            return play.plain(request)
        w = self.worker(answer)
        f = self.kv(w, tokenizer_timeout_secs=600)
        streams, long = [], 3 * LONG  # they are, for a sanitizer
        for i in range(3):
            body = {**COMPLETION, "prompt": str(i) + "x" * (31 << 20)}
            streams.append(play.Stream(f.url + "/v1/completions", body, timeout=long))
            jr.wait_for(lambda: self.asked(w) + len(w.posts()) == i + 1, "it goes to the worker", long)
        self.assertEqual((self.asked(w), streams[2].head()), (2, 200))
        self.assertEqual(self.results(f), {"limit": 1})
        for s in streams:
            s.close()
        # What they held is free again.
        jr.wait_for(lambda: jr.get_json(f.url + "/state")["replica"]["inflight"] == 0, "all are gone", long)
        with play.Stream(f.url + "/v1/completions", {**COMPLETION, "prompt": "x" * (31 << 20)},
                         timeout=long):
            jr.wait_for(lambda: self.asked(w) == 3, "it is asked", long)

    def test_no_such_path(self):
        def answer(request):
            if request.path == "/tokenize":
                return play.send_json(request, 404, {})
            return play.plain(request)
        w = self.worker(answer)
        f = self.kv(w)
        for i in range(5):
            status, _, reply = self.ask(f, {**COMPLETION, "prompt": "text %d" % i})
            self.assertEqual(status, 200, reply)
        self.assertEqual(self.asked(w), 1)  # not asked again for a minute
        self.assertEqual(jr.pool(f.url)["tokenizer"], "missing")


class Forward(Base):
    """--forward-token-ids."""

    def test_text_goes_on_as_ids(self):
        w = self.worker(by_bytes)
        f = self.kv(w, forward_token_ids=True)
        body = b'{"a":[1], "prompt" : "ab\\u00e9\\n" ,"model":"tiny","max_tokens":3}'
        want = body.replace(b'"ab\\u00e9\\n"', b"[97,98,233,10]")
        for _ in range(2):  # asked, then known
            self.assertEqual(self.ask(f, body)[0], 200)
        self.assertEqual([r.body for r in w.posts()], [want] * 2)
        self.assertEqual(self.asked(w), 1)
        self.assertEqual(jr.metric(f.url, "jetrouter_forwarded_ids_total"), 2)

    def test_what_is_bound_to_the_text_stays_text(self):
        w = self.worker(by_bytes)
        f = self.kv(w, forward_token_ids=True)
        bodies = [{**COMPLETION, **more} for more in (
            {"echo": True}, {"suffix": "x"}, {"logprobs": 2}, {"prompt_logprobs": 1},
            {"truncate_prompt_tokens": 3}, {"prompt": ["a", "b"], "n": 2}, {"prompt": ["a"]},
            {"prompt": [1, 2, 3]})]
        for body in bodies:
            self.assertEqual(self.ask(f, body)[0], 200)
        self.assertEqual([json.loads(r.body) for r in w.posts()], bodies)
        self.assertEqual(self.ask(f, CHAT, "/v1/chat/completions")[0], 200)
        self.assertEqual(json.loads(w.posts("/v1/chat/completions")[0].body), CHAT)
        self.assertEqual(jr.metric(f.url, "jetrouter_forwarded_ids_total"), 0)

    def test_without_ids_the_text_goes_on(self):
        def answer(request):
            if request.path == "/tokenize":
                return play.send_json(request, 500, {})
            return play.plain(request)
        w = self.worker(answer)
        f = self.kv(w, forward_token_ids=True)
        self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual(json.loads(w.posts()[0].body), COMPLETION)

    def test_the_answer_is_the_same(self):
        m = self.procs.mocker("engine", n=1, model_name="tiny", block_size=16, speedup_ratio=50)
        f = self.kv(*m.urls, forward_token_ids=True)
        for more in ({}, {"stream": True}):
            body = {**COMPLETION, "prompt": "a text of \u20ac and \u00e9", **more}
            jr.post(m.urls[0] + "/reset_prefix_cache")
            direct = jr.call("POST", m.urls[0] + "/v1/completions", body)
            jr.post(m.urls[0] + "/reset_prefix_cache")
            through = jr.call("POST", f.url + "/v1/completions", body)
            self.assertEqual((direct[0], through[0]), (200, 200))
            self.assertEqual(neutral(through[2]), neutral(direct[2]))
        self.assertEqual(jr.metric(f.url, "jetrouter_forwarded_ids_total"), 2)


if __name__ == "__main__":
    unittest.main()
