# SPDX-License-Identifier: Apache-2.0
"""The frontend as a process, with static workers: mockers, and workers that this test plays."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import jr_procs as jr
import jr_worker as play
from jr_link import Link

FAST = {"drain_delay_secs": 0, "log_level": "debug"}
COMPLETION = {"model": "tiny", "prompt": "hello world", "max_tokens": 4}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


class Case(unittest.TestCase):
    """Frontends of this test end in order: exit code 0, which under a sanitizer means no finding."""

    codes = (0,)

    def setUp(self):
        self.procs = jr.procs_of(self)
        self.frontends = []

    def tearDown(self):
        for f in self.frontends:
            code = f.stop() if f.running() else f.code()
            self.assertIn(code, self.codes, f.tail(60))

    def worker(self, answer=None, **kw):
        w = play.Worker(answer, **kw)
        self.addCleanup(w.close)
        return w

    def frontend(self, *workers, ready=True, name="front", **kw):
        urls = [w if isinstance(w, str) else w.url for w in workers]
        f = self.procs.frontend(name, worker=urls, **{**FAST, **kw})
        self.frontends.append(f)
        if ready:
            self.procs.wait_ready(f)
            # Each worker has said which model it serves.
            jr.wait_for(lambda: all(w["model"] for w in jr.pool(f.url)["workers"]), "models")
        return f

    def ask(self, f, body=None, path="/v1/completions", headers=None):
        data = COMPLETION if body is None else body
        status, head, text = jr.call("POST", f.url + path, data, headers)
        return status, head, json.loads(text)

    def wait_log(self, proc, words):
        def there():
            with open(proc.log, errors="replace") as f:
                return words in f.read()
        jr.wait_for(there, "%r in the log of %s" % (words, proc.name))

    def assert_error(self, status, body, code, word):
        """Both shapes, with a message a person can act on."""
        self.assertEqual(status, code, body)
        self.assertEqual(body["code"], code)
        self.assertEqual(body["message"], body["error"]["message"])
        self.assertTrue(body["type"] and body["error"]["type"])
        self.assertIn("param", body["error"])
        self.assertIn(word, body["message"])
        self.assertNotIn("\n", body["message"])


def neutral(text):
    """Without what differs from request to request."""
    text = re.sub(rb'"id":"[a-z]+-[0-9a-f-]+"', b'"id":"x"', text)
    return re.sub(rb'"created":\d+', b'"created":0', text)


class Mockers(unittest.TestCase):
    """What needs two working engines and breaks nothing."""

    @classmethod
    def setUpClass(cls):
        cls.procs = jr.Procs()
        cls.addClassCleanup(cls.procs.close)
        cls.mocker = cls.procs.mocker("workers", n=2, model_name="tiny", block_size=16,
                                      speedup_ratio=50, max_model_len=2048)
        cls.f = cls.procs.frontend("front", worker=cls.mocker.urls, router_mode="kv",
                                   kv_cache_block_size=16, **FAST)
        cls.procs.wait_ready(cls.f)
        jr.wait_for(lambda: all(w["model"] for w in jr.pool(cls.f.url)["workers"]), "models")

    @classmethod
    def tearDownClass(cls):
        code = cls.f.stop()
        assert code == 0, cls.f.tail(40)

    def relayed(self, path, body):
        direct = jr.call("POST", self.mocker.urls[0] + path, body)
        through = jr.call("POST", self.f.url + path, body)
        self.assertEqual(through[0], direct[0])
        self.assertEqual(through[1]["content-type"], direct[1]["content-type"])
        self.assertEqual(neutral(through[2]), neutral(direct[2]))
        return through

    def test_answers_are_the_workers(self):
        for path, body in (("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)):
            for more in ({}, {"stream": True},
                         {"stream": True, "stream_options": {"include_usage": True}}):
                for ids in ({}, {"prompt": list(range(50))}):
                    with self.subTest(path=path, more=more, ids=ids):
                        if ids and "messages" in body:
                            continue
                        # Which blocks a worker has cached shows in its usage: emptied before each.
                        for url in self.mocker.urls:
                            jr.post(url + "/reset_prefix_cache")
                        a = jr.call("POST", self.mocker.urls[0] + path, {**body, **more, **ids})
                        for url in self.mocker.urls:
                            jr.post(url + "/reset_prefix_cache")
                        b = jr.call("POST", self.f.url + path, {**body, **more, **ids})
                        self.assertEqual((b[0], b[1]["content-type"]), (200, a[1]["content-type"]))
                        self.assertEqual(neutral(b[2]), neutral(a[2]))
        # What the worker refuses is the client's to read, too.
        status, _, text = self.relayed("/v1/completions", {**COMPLETION, "prompt": [1] * 3000})
        self.assertEqual(status, 400, text)

    def test_methods_and_paths(self):
        for path in ("/health", "/live", "/ready", "/metrics", "/state", "/v1/models"):
            self.assertEqual(jr.get(self.f.url + path)[0], 200, path)
            status, head, text = jr.call("HEAD", self.f.url + path)
            self.assertEqual((status, text), (200, b""), path)
            status, head, text = jr.call("DELETE", self.f.url + path)
            self.assertEqual((status, head["allow"]), (405, "GET, HEAD"), path)
        status, head, text = jr.call("GET", self.f.url + "/v1/completions")
        self.assertEqual((status, head["allow"]), (405, "POST"))
        self.assertIn("POST", json.loads(text)["message"])
        status, _, text = jr.call("HEAD", self.f.url + "/admin/tail")
        self.assertEqual((status, text), (200, b""))
        status, text = jr.get(self.f.url + "/nothing")
        self.assertEqual(status, 404)
        self.assertIn("/v1/chat/completions", json.loads(text)["message"])

    def test_models_and_health(self):
        models = jr.get_json(self.f.url + "/v1/models")
        self.assertEqual(models["object"], "list")
        self.assertEqual([m["id"] for m in models["data"]], ["tiny"])
        self.assertEqual(models["data"][0]["object"], "model")
        health = jr.get_json(self.f.url + "/health")
        self.assertEqual(health["status"], "healthy")
        self.assertEqual(sorted(i["transport"]["http"] for i in health["instances"]),
                         sorted(self.mocker.urls))
        self.assertEqual(jr.get_json(self.f.url + "/live")["status"], "live")
        ready = jr.get_json(self.f.url + "/ready")
        self.assertEqual((ready["ready"], ready["because"]), (True, ""))

    def test_state(self):
        state = jr.get_json(self.f.url + "/state")
        self.assertLessEqual({"id", "incarnation", "version", "ready", "uptime_s"},
                             set(state["replica"]))
        self.assertEqual(state["replica"]["id"], "front")
        self.assertLessEqual({"connected", "server", "reconnects"}, set(state["nats"]))
        self.assertEqual(len(state["pools"]), 1)
        pool = state["pools"][0]
        self.assertLessEqual(
            {"namespace", "component", "stream", "stream_created", "applied_seq",
             "stream_last_seq", "digest", "blocks", "entries", "index_bytes", "workers",
             "snapshot", "peers", "recovery_state"}, set(pool))
        self.assertRegex(pool["digest"], "^[0-9a-f]{16}$")
        self.assertEqual(len(pool["workers"]), 2)
        for w in pool["workers"]:
            self.assertLessEqual({"worker_id", "dp_rank", "url", "blocks", "active_blocks",
                                  "active_prefill_tokens", "active_requests", "state"}, set(w))
            self.assertEqual(w["state"], "live")

    def test_metrics_are_strict(self):
        self.assertEqual(jr.post(self.f.url + "/v1/completions", COMPLETION)[0], 200)
        status, head, text = jr.call("GET", self.f.url + "/metrics")
        self.assertEqual(head["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        text = text.decode()
        self.assertTrue(text.endswith("\n"))
        types, seen = {}, set()
        sample = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*='
                            r'"(?:[^"\\\n]|\\["\\n])*"(?:,(?!\})|(?=\})))*\})? (\S+)$')
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.assertNotIn(name, types)
                self.assertIn(kind, ("counter", "gauge", "histogram"))
                types[name] = kind
                continue
            if line.startswith("# HELP "):
                continue
            m = sample.match(line)
            self.assertTrue(m, line)
            base = re.sub(r"_(bucket|sum|count)$", "", m.group(1))
            name = m.group(1) if m.group(1) in types else base
            self.assertIn(name, types, "a sample before its TYPE: " + line)
            self.assertNotIn(m.group(1, 2), seen, "twice")
            seen.add(m.group(1, 2))
            value = float(m.group(3))
            if types[name] == "counter":
                self.assertGreaterEqual(value, 0, line)
        self.assertIn(("jetrouter_ready", None), {(n, None) for n, _ in seen})

    def test_unknown_models_make_no_series(self):
        for i in range(5):
            self.assertEqual(jr.post(self.f.url + "/v1/completions",
                                     {**COMPLETION, "model": "made-up-%d" % i})[0], 404)
        self.assertNotIn(b"made-up", jr.get(self.f.url + "/metrics")[1])

    def test_pin(self):
        for w in jr.pool(self.f.url)["workers"]:
            before = jr.metric(w["url"], "vllm:request_success_total")
            for name in ("x-worker-instance-id", "X-Dynamo-Worker-Instance-Id"):
                status, _ = jr.post(self.f.url + "/v1/completions", COMPLETION,
                                    headers={name: w["worker_id"]})
                self.assertEqual(status, 200)
            self.assertEqual(jr.metric(w["url"], "vllm:request_success_total"), before + 2)
        status, text = jr.post(self.f.url + "/v1/completions", COMPLETION,
                               headers={"x-worker-instance-id": "77"})
        self.assertEqual(status, 400, text)

    def test_bookings_end_with_their_requests(self):
        for body in ({**COMPLETION, "stream": True}, COMPLETION, {**COMPLETION, "prompt": []},
                     {**COMPLETION, "model": "other"}):
            jr.post(self.f.url + "/v1/completions", body)
        jr.wait_booked_out(self.f.url)
        jr.wait_for(lambda: jr.get_json(self.f.url + "/state")["replica"]["inflight"] == 0, "nothing in flight")


class Requests(Case):
    """Bad input of a client: a status and one line that says what is wrong."""

    def test_table(self):
        f = self.frontend(self.worker(), http_body_limit_mb=1)
        rows = (
            ("malformed", b'{"model": "tiny", "prompt": ', 400, "JSON"),
            ("empty", b"", 400, ""),
            ("no object", b"[1]", 400, "object"),
            ("no prompt", {"model": "tiny"}, 400, "prompt"),
            ("empty prompt", {"model": "tiny", "prompt": ""}, None, ""),
            ("prompt is a number", {"model": "tiny", "prompt": 7}, 400, "prompt"),
            ("no model", {"prompt": "x"}, 400, "model"),
            ("unknown model", {"model": "other", "prompt": "x"}, 404, "/v1/models"),
            ("token below zero", {"model": "tiny", "prompt": [1, -2]}, 400, ""),
            ("not UTF-8", b'{"model":"tiny","prompt":"\xff\xfe"}', 400, ""),
        )
        for name, body, code, word in rows:
            with self.subTest(name):
                status, _, reply = self.ask(f, body)
                if code is not None:
                    self.assert_error(status, reply, code, word)
        status, _, reply = self.ask(f, {"model": "tiny"}, "/v1/chat/completions")
        self.assert_error(status, reply, 400, "messages")
        status, _, reply = self.ask(f, {"model": "other", "prompt": "x"})
        self.assertEqual((reply["error"]["param"], reply["error"]["code"]),
                         ("model", "model_not_found"))
        status, head, text = jr.call("POST", f.url + "/v1/completions",
                                     {**COMPLETION, "prompt": "x" * (1 << 20)})
        self.assertEqual(status, 413)
        self.assertIn("large", json.loads(text)["message"])

    def test_query_only(self):
        """Where would it go: answered without the worker, and nothing is booked."""
        w = self.worker()
        f = self.frontend(w, router_mode="kv", router_kv_events=False)
        ask = {"model": "tiny", "prompt": [5, 6, 7], "nvext": {"annotations": ["query_instance_id:"]}}
        status, _, body = self.ask(f, ask)
        (listed,) = jr.pool(f.url)["workers"]
        want = int(listed["worker_id"])
        self.assertEqual(status, 200)
        self.assertEqual(body["nvext"], {"token_ids": [5, 6, 7], "worker_id": {
            "prefill_worker_id": want, "prefill_dp_rank": 0, "decode_worker_id": want, "decode_dp_rank": 0}})
        self.assertEqual(body["choices"], [])
        status, head, text = jr.call("POST", f.url + "/v1/completions", {**ask, "stream": True})
        self.assertEqual((status, head["content-type"]), (200, "text/event-stream"))
        first, done = text.decode().split("\n\n")[:2]
        self.assertEqual(json.loads(first[6:])["nvext"], body["nvext"])
        self.assertEqual(done, "data: [DONE]")
        self.assertEqual(w.posts(), [])
        self.assertEqual((jr.pool(f.url)["bookings"], jr.pool(f.url)["counters"]["decisions"]), (0, 2))
        # Without the colon it is a request like any other.
        self.assertEqual(self.ask(f, {**ask, "nvext": {"annotations": ["query_instance_id"]}})[0], 200)
        self.assertEqual(len(w.posts()), 1)

    def test_bytes_are_relayed_as_they_are(self):
        odd = (b": a comment\n\nevent: odd\r\ndata: {\"id\" :  \"\\u00e9\"}\r\n\r\n"
               b"data: {\"choices\":[{\"text\":\"a\"}]}\n\n" + "data: \u20ac\n\n".encode() +
               b"data: [DONE]\n\n")

        def answer(request):
            play.send_head(request, "text/event-stream; charset=utf-8")
            for at in range(0, len(odd), 7):  # within characters, lines and events
                play.send_chunk(request, odd[at:at + 7])
            request.wfile.write(b"0\r\n\r\n")
        f = self.frontend(self.worker(answer))
        status, head, text = jr.call("POST", f.url + "/v1/completions",
                                     {**COMPLETION, "stream": True})
        self.assertEqual((status, text), (200, odd))
        self.assertEqual(head["content-type"], "text/event-stream; charset=utf-8")

    def test_request_headers_and_body_reach_the_worker(self):
        w = self.worker()
        f = self.frontend(w)
        body = b'{ "model":"tiny" ,\n "prompt":"hi", "unknown_field": [1, {"a": null}] }'
        status, _ = jr.post(f.url + "/v1/completions", body,
                            headers={"Authorization": "Bearer k", "X-Request-Id": "r-1"})
        self.assertEqual(status, 200)
        sent = w.posts()[0]
        self.assertEqual(sent.body, body)
        self.assertEqual(sent.headers["Authorization"], "Bearer k")
        self.assertEqual(sent.headers["X-Request-Id"], "r-1")
        self.assertEqual(sent.headers["X-Data-Parallel-Rank"], "0")

    def test_salt_of_a_text_prompt_counts(self):
        """Equal texts of two tenants are different blocks, those of one are the same ones."""
        go = threading.Event()
        self.addCleanup(go.set)

        def answer(request):
            if request.path == "/tokenize":
                return play.plain(request)
            go.wait(60)
            return play.plain(request)
        f = self.frontend(self.worker(answer), router_mode="kv", kv_cache_block_size=4)
        streams = []

        def active(n, **more):
            s = play.Stream(f.url + "/v1/completions",
                            {"model": "tiny", "prompt": "x" * 40, **more})
            self.addCleanup(s.close)
            streams.append(s)
            jr.wait_for(lambda: jr.pool(f.url)["workers"][0]["active_requests"] == len(streams),
                        "booked")
            self.assertEqual(jr.pool(f.url)["workers"][0]["active_blocks"], n)
        active(10)
        active(10)
        active(20, cache_salt="a")
        active(20, cache_salt="a")
        active(30, cache_salt="b")
        go.set()
        for s in streams:
            self.assertEqual(s.head(), 200)


class Failures(Case):
    """Workers and clients that go away."""

    def test_unreachable_worker_is_passed_over(self):
        w = self.worker()
        dead = "http://127.0.0.1:%d" % jr.free_port()
        f = self.frontend(dead, w, ready=False)
        self.procs.wait_ready(f)
        jr.wait_for(lambda: jr.get_json(f.url + "/v1/models")["data"], "a model")
        for _ in range(4):
            self.assertEqual(self.ask(f)[0], 200)
        jr.wait_for(lambda: [x["state"] for x in jr.pool(f.url)["workers"]] == ["down", "live"],
                    "it is down")
        self.assertEqual(self.ask(f)[0], 200)

    def test_worker_that_hangs_up_is_retried_elsewhere(self):
        good, bad = self.worker(), self.worker(play.cut)
        f = self.frontend(bad, good)
        for _ in range(4):
            self.assertEqual(self.ask(f)[0], 200)
        self.assertGreaterEqual(jr.metric(f.url, "jetrouter_proxy_retries_total"), 2)
        jr.wait_booked_out(f.url)

    def test_what_a_worker_has_read_it_is_not_sent_again(self):
        """The kept connection ends after the request was read, before a byte of the answer."""
        bodies = []

        def answer(request):
            bodies.append(request.body)
            return play.cut(request) if b"second" in request.body else play.plain(request)
        w = self.worker(answer)
        f = self.frontend(w)
        for _ in range(3):
            self.assertEqual(self.ask(f)[0], 200)
        status, _, reply = self.ask(f, {**COMPLETION, "prompt": "second"})
        self.assert_error(status, reply, 503, "every worker failed")
        self.assertEqual([b"second" in b for b in bodies], [False] * 3 + [True])
        self.assertEqual(jr.metric(f.url, "jetrouter_proxy_retries_total"), 1)

    def test_all_down(self):
        f = self.frontend("http://127.0.0.1:%d" % jr.free_port(), ready=False)
        self.procs.wait_ready(f)
        status, head, reply = self.ask(f)
        self.assert_error(status, reply, 503, "worker")
        self.assertEqual(head["retry-after"], "1")

    def test_every_worker_fails(self):
        workers = [self.worker(play.cut) for _ in range(3)]
        f = self.frontend(*workers)
        status, head, reply = self.ask(f)
        self.assert_error(status, reply, 503, "every worker failed")
        self.assertEqual(head["retry-after"], "1")
        self.assertEqual([len(w.posts()) for w in workers], [1] * 3)
        jr.wait_booked_out(f.url)

    def test_pinned_request_is_not_sent_elsewhere(self):
        bad, good = self.worker(play.cut), self.worker()
        f = self.frontend(bad, good)
        status, _, reply = self.ask(f, headers={"x-worker-instance-id": "1"})
        self.assert_error(status, reply, 502, "worker 1")
        self.assertEqual(good.posts(), [])

    def test_request_timeout(self):
        go = threading.Event()
        self.addCleanup(go.set)
        workers = [self.worker(lambda request: go.wait(60)) for _ in range(2)]
        f = self.frontend(*workers, request_timeout_secs=2)
        status, _, reply = self.ask(f)
        self.assert_error(status, reply, 504, "--request-timeout-secs")
        asked = lambda: sum(len(w.posts()) for w in workers)
        jr.wait_for(asked, "it was asked")
        self.assertEqual(asked(), 1)
        jr.wait_booked_out(f.url)

    def die_mid_stream(self, sent):
        def answer(request):
            play.send_head(request)
            play.send_chunk(request, sent)
            play.cut(request)
        spare = self.worker()
        f = self.frontend(self.worker(answer), spare)
        with play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True},
                         {"x-worker-instance-id": "1"}) as s:
            self.assertEqual(s.head(), 200)
            text, whole = s.rest()
        self.assertFalse(whole, "the connection must be cut")
        self.assertEqual(text[:len(sent)], sent)
        self.assertEqual(spare.posts(), [], "never sent again after a byte was relayed")
        jr.wait_booked_out(f.url)
        return text[len(sent):]

    def test_worker_dies_between_events(self):
        rest = self.die_mid_stream(b'data: {"choices":[{"text":"a"}]}\n\n')
        head, comment, data = rest.decode().split("\n")[:3]
        self.assertEqual(head, "event: error")
        error = json.loads(data[len("data: "):])
        self.assertEqual(comment, ": " + error["message"])
        self.assertEqual((error["code"], error["error"]["message"]), (502, error["message"]))
        self.assertTrue(rest.endswith(b"\n\n"))

    def test_worker_dies_within_an_event(self):
        rest = self.die_mid_stream(b'data: {"choices":[{"te')
        self.assertTrue(rest.startswith(b"\n\nevent: error\n: the worker"), rest)

    def test_worker_dies_within_a_whole_answer(self):
        def answer(request):
            play.send_head(request, "application/json", 1000)
            request.wfile.write(b'{"id"')
            play.cut(request)
        f = self.frontend(self.worker(answer))
        with play.Stream(f.url + "/v1/completions", COMPLETION) as s:
            self.assertEqual(s.head(), 200)
            self.assertEqual(s.rest(), (b'{"id"', False))

    def test_mocker_killed_mid_stream(self):
        m = self.procs.mocker("worker", model_name="tiny", speedup_ratio=1)
        f = self.frontend(m.urls[0])
        with play.Stream(f.url + "/v1/completions",
                         {**COMPLETION, "stream": True, "max_tokens": 4000}) as s:
            self.assertEqual(s.head(), 200)
            self.assertTrue(s.line().startswith(b"data: "))
            m.kill()
            text, whole = s.rest()
        self.assertFalse(whole)
        self.assertIn(b"event: error\n", text)

    def test_client_gone_in_each_state(self):
        """While the prompt is tokenized, before the head, in the stream: the upstream is cancelled
        and the booking freed."""
        gone, block = [], {"at": "/tokenize"}

        def answer(request):
            if request.path == "/tokenize" and block["at"] != "/tokenize":
                return play.plain(request)
            if block["at"] == "stream":
                play.send_head(request)
                play.send_chunk(request, b'data: {"choices":[{"text":"a"}]}\n\n')
            gone.append(play.wait_gone(request))
            return None
        w = self.worker(answer)
        f = self.frontend(w, router_mode="kv", kv_cache_block_size=4)
        for at in ("/tokenize", "head", "stream"):
            with self.subTest(at):
                block["at"], before = at, len(w.requests)
                s = play.Stream(f.url + "/v1/completions",
                                {**COMPLETION, "prompt": "x" * 40, "stream": True})
                if at == "stream":
                    self.assertEqual(s.head(), 200)
                    s.line()
                path = "/tokenize" if at == "/tokenize" else "/v1/completions"
                jr.wait_for(lambda: any(r.path == path for r in w.requests[before:]), "asked")
                if at != "/tokenize":
                    self.assertEqual(jr.pool(f.url)["bookings"], 1)
                s.close()
                if s.reply is not None:
                    s.reply.close()
                jr.wait_for(lambda: jr.get_json(f.url + "/state")["replica"]["inflight"] == 0,
                            "ended")
                jr.wait_booked_out(f.url)
        jr.wait_for(lambda: len(gone) == 3, "the worker's side has ended")
        self.assertEqual(gone, [True] * 3)
        self.assertEqual(jr.metric(f.url, "dynamo_frontend_disconnected_clients"), 3)

    def test_client_gone_frees_the_mocker(self):
        m = self.procs.mocker("worker", model_name="tiny", speedup_ratio=1)
        f = self.frontend(m.urls[0])
        s = play.Stream(f.url + "/v1/completions",
                        {**COMPLETION, "stream": True, "max_tokens": 4000})
        s.head()
        s.line()
        self.assertEqual(jr.get_json(m.urls[0] + "/load"), {"server_load": 1})
        s.close()
        s.reply.close()
        jr.wait_for(lambda: jr.get_json(m.urls[0] + "/load") == {"server_load": 0}, "cancelled")
        jr.wait_booked_out(f.url)


class Admin(Case):
    def test_loopback(self):
        f = self.frontend(self.worker())
        for what in ("snapshot", "reset"):
            status, text = jr.post(f.url + "/admin/" + what)
            self.assertEqual((status, json.loads(text)["accepted"].split(",")[0]), (202, what))
        self.assertEqual(jr.post(f.url + "/admin/reset", b"{nonsense")[0], 400)
        self.assertEqual(jr.post(f.url + "/admin/reset", {"token": "t" * 64})[0], 400)
        self.assertEqual(jr.get(f.url + "/admin/reset")[0], 405)

    def test_token(self):
        with tempfile.NamedTemporaryFile("w", suffix=".token") as token:
            token.write("s3cret\n")
            token.flush()
            f = self.frontend(self.worker(), admin_token_file=token.name)
            for header, want in ((None, 403), ("Bearer wrong1", 403), ("Bearer s3cre", 403),
                                 ("s3cret", 403), ("Bearer", 403), ("Bearer s3cret", 202)):
                headers = {"Authorization": header} if header else {}
                with self.subTest(header):
                    status, text = jr.post(f.url + "/admin/snapshot", headers=headers)
                    self.assertEqual(status, want, text)

            def answered(value):
                return jr.post(f.url + "/admin/snapshot", headers={"Authorization": "Bearer " + value})[0]

            # Another file of the name, as a Secret is renewed: it counts at once, one without a token does not.
            for text, good in (("n3wer\n", "n3wer"), ("\n", "n3wer"), ("two\nlines\n", "n3wer"), ("x" * 513, "n3wer"), ("x" * 512, "x" * 512)):
                with open(token.name + ".new", "w") as new:
                    new.write(text)
                os.replace(token.name + ".new", token.name)
                self.assertEqual([answered(v) for v in ("s3cret", "", "two", good)], [403, 403, 403, 202], text)
            self.assertNotIn("n3wer", f.tail(1000))
            with open(token.name, "w") as same:  # written to in its place
                same.write("again\n")
            self.assertEqual([answered(v) for v in ("x" * 512, "again")], [403, 202])

    def test_drain(self):
        """A tail that is open does not hold it up."""
        f = self.frontend(self.worker())
        with socket.create_connection(("127.0.0.1", f.port)) as s:
            s.sendall(b"GET /admin/tail HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b"200 OK", s.recv(4096))
            self.assertEqual(jr.post(f.url + "/admin/drain")[0], 202)
            self.assertEqual(f.popen.wait(30), 0, f.tail())


class Ends(Case):
    def held(self):
        """A worker that streams one token, then waits for go."""
        go = threading.Event()
        self.addCleanup(go.set)

        def answer(request):
            play.send_head(request)
            play.send_chunk(request, b'data: {"choices":[{"text":"a"}]}\n\n')
            go.wait(60)
            play.send_chunk(request, b"data: [DONE]\n\n")
            request.wfile.write(b"0\r\n\r\n")
        return self.worker(answer), go

    def streaming(self, f):
        s = play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True})
        self.addCleanup(s.close)
        self.assertEqual(s.head(), 200)
        s.line()
        return s

    def refused(self, f):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", f.port)) != 0

    def test_sigterm_drains_a_stream(self):
        w, go = self.held()
        f = self.frontend(w)
        s = self.streaming(f)
        f.send(signal.SIGTERM)
        jr.wait_for(lambda: self.refused(f), "no new connections")
        self.assertTrue(f.running())
        go.set()
        text, whole = s.rest()
        self.assertTrue(whole)
        self.assertTrue(text.endswith(b"data: [DONE]\n\n"))
        self.assertEqual(f.popen.wait(30), 0, f.tail())

    def test_not_ready_but_serving_during_the_delay(self):
        f = self.frontend(self.worker(), drain_delay_secs=30)
        f.send(signal.SIGTERM)
        jr.wait_http(f.url + "/ready", lambda status, text: status == 503, proc=f)
        self.assertEqual(json.loads(jr.get(f.url + "/ready")[1])["because"], "draining")
        self.assertEqual(jr.get(f.url + "/live")[0], 200)
        status, head, _ = self.ask(f)
        self.assertEqual((status, head["connection"]), (200, "close"))
        f.send(signal.SIGTERM)
        self.assertEqual(f.popen.wait(20), 0, f.tail())

    def test_second_signal_ends_at_once(self):
        w, _ = self.held()
        f = self.frontend(w)
        s = self.streaming(f)
        f.send(signal.SIGTERM)
        jr.wait_for(lambda: self.refused(f), "draining")
        f.send(signal.SIGINT)
        self.assertEqual(f.popen.wait(20), 0, f.tail())
        self.assertFalse(s.rest()[1])

    def test_second_signal_does_not_wait_for_nats(self):
        nats = self.procs.nats()
        f = self.frontend(ready=False, nats=nats.url)
        self.procs.wait_ready(f)
        nats.send(signal.SIGSTOP)
        self.addCleanup(nats.send, signal.SIGCONT)
        with socket.create_connection(("127.0.0.1", f.port)) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            jr.wait_for(lambda: jr.metric(f.url, "jetrouter_http_connections") >= 2, "one is under way")
            f.send(signal.SIGTERM)
            jr.wait_for(lambda: self.refused(f), "draining, and waiting for it")
            f.send(signal.SIGTERM)
            self.assertEqual(f.popen.wait(30), 0, f.tail())
        self.wait_log(f, "frontend.second_signal")

    def test_drain_timeout(self):
        w, _ = self.held()
        f = self.frontend(w, drain_timeout_secs=0.3)
        s = self.streaming(f)
        f.send(signal.SIGTERM)
        self.assertEqual(f.popen.wait(20), 0, f.tail())
        self.assertFalse(s.rest()[1])
        self.wait_log(f, "drain.timeout")

    def test_drain_waits_for_a_slow_reader(self):
        """The worker's answer is complete here, but not at the client."""
        size = 24 << 20  # more than the buffers of two sockets hold
        data = b"x" * 65536

        def answer(request):
            if request.path == "/tokenize":
                return play.plain(request)
            play.send_head(request, "application/octet-stream", size)
            for _ in range(size // len(data)):
                request.wfile.write(data)
            return None
        f = self.frontend(self.worker(answer))
        with socket.create_connection(("127.0.0.1", f.port)) as s:
            body = json.dumps(COMPLETION).encode()
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                      % (len(body), body))
            s.settimeout(30)
            got = len(s.recv(1000).partition(b"\r\n\r\n")[2])
            f.send(signal.SIGTERM)
            self.wait_log(f, "frontend.drain")
            while piece := s.recv(1 << 20):
                got += len(piece)
        self.assertEqual(got, size)
        self.assertEqual(f.popen.wait(30), 0, f.tail())

    def test_last_request_fails_while_draining(self):
        """The last request ends within a step of the driver that is closed after it."""
        cut = threading.Event()
        self.addCleanup(cut.set)

        def answer(request):
            cut.wait(60)
            play.cut(request)
        f = self.frontend(self.worker(answer))
        with play.Stream(f.url + "/v1/completions", COMPLETION) as s:
            jr.wait_for(lambda: jr.pool(f.url)["bookings"] == 1, "booked")
            f.send(signal.SIGTERM)
            jr.wait_for(lambda: self.refused(f), "draining")
            cut.set()
            self.assertEqual(s.head(), 503)
            self.assertTrue(s.rest()[1])
        self.assertEqual(f.popen.wait(30), 0, f.tail(40))

    def test_an_engine_that_is_late_with_its_health(self):
        """While it computes it may be: requests go on, until that is so three times in a row."""
        w = self.worker()
        f = self.frontend(w)
        w.hang_health = threading.Event()
        self.addCleanup(w.hang_health.set)
        began = time.monotonic()

        def state(wanted):
            found = jr.pool(f.url)["workers"][0]["state"]
            if found == "live" and wanted == "down":
                status, _, reply = self.ask(f)
                # It may have become so just now.
                self.assertTrue(status == 200 or jr.pool(f.url)["workers"][0]["state"] == "down", reply)
            return found == wanted
        jr.wait_for(lambda: state("down"), "it is found to be down", 60, every=0.2)
        self.assertGreater(time.monotonic() - began, 6)  # three times two seconds
        w.hang_health.set()
        jr.wait_for(lambda: state("live"), "it is back", 30)
        self.assertEqual(self.ask(f)[0], 200)

    def test_probe_without_an_answer_does_not_hold_up_the_end(self):
        w = self.worker()
        w.hang_health = threading.Event()
        self.addCleanup(w.hang_health.set)
        f = self.frontend(w, ready=False)
        jr.wait_http(f.url + "/live", proc=f)
        f.send(signal.SIGTERM)
        self.assertEqual(f.popen.wait(30), 0, f.tail())

    def test_tokenizer_without_an_answer_does_not_either(self):
        go = threading.Event()
        self.addCleanup(go.set)
        w = self.worker(lambda request: go.wait(60))
        f = self.frontend(w, router_mode="kv", kv_cache_block_size=4)
        for _ in range(2):  # one client stays, one has gone
            s = play.Stream(f.url + "/v1/completions", COMPLETION)
            self.addCleanup(s.close)
            jr.wait_for(lambda: w.posts("/tokenize"), "asked")
        s.close()
        f.send(signal.SIGTERM)
        jr.wait_for(lambda: self.refused(f), "draining")
        f.send(signal.SIGTERM)
        self.assertEqual(f.popen.wait(20), 0, f.tail())


class Starts(Case):
    """Bad starts: one line on stderr that says what is wrong and what to do, and a code of its
    own."""

    def run_one(self, *args, env=None, timeout=60):
        base = {k: v for k, v in os.environ.items() if not k.startswith(("DYN_", "NATS_"))}
        return subprocess.run([jr.JETROUTER, "frontend", "--http-host", "127.0.0.1",
                               "--log-level", "error", *args], capture_output=True, text=True,
                              timeout=timeout, env={**base, **(env or {})},
                              stdin=subprocess.DEVNULL)

    def test_table(self):
        plain_nats = self.procs.nats("no-js", jetstream=False).url
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port = str(taken.getsockname()[1])
        nowhere = "nats://127.0.0.1:%d" % jr.free_port()
        worker = "http://127.0.0.1:1"
        empty = tempfile.TemporaryDirectory()
        self.addCleanup(empty.cleanup)
        token = os.path.join(empty.name, "token")
        with open(token, "w"):
            pass
        lines = os.path.join(empty.name, "lines")
        with open(lines, "w") as f:
            f.write("s3cret\nmore\n")
        rows = (
            ("unknown flag", ["--no-such-flag"], 64, "--no-such-flag"),
            ("bad number", ["--http-port", "eighty"], 65, "--http-port"),
            ("bad address", ["--http-host", "nowhere", "--worker", worker], 65, "nowhere"),
            ("bad worker", ["--worker", "ftp://x"], 65, "http://"),
            ("port in use", ["--http-port", port, "--worker", worker], 73, port),
            ("no NATS", ["--http-port", "0", "--ready-timeout-secs", "0", "--nats-server", nowhere],
             80, "--embedded-nats"),
            ("no JetStream", ["--http-port", "0", "--nats-server", plain_nats], 81, "-js"),
            ("token file missing", ["--http-port", "0", "--worker", worker, "--admin-token-file",
                                    "/no/such"], 78, "/no/such"),
            ("token file empty", ["--http-port", "0", "--worker", worker, "--admin-token-file",
                                  token], 78, token),
            ("token file of two lines", ["--http-port", "0", "--worker", worker, "--admin-token-file",
                                         lines], 78, "one token"),
            ("bad folder", ["--http-port", "0", "--embedded-nats", "/proc/no"], 74, "/proc/no"),
        )
        for name, args, code, word in rows:
            with self.subTest(name):
                p = self.run_one(*args)
                self.assertEqual(p.returncode, code, p.stderr)
                self.assertEqual(p.stdout, "")
                self.assertEqual(p.stderr.count("\n"), 1, p.stderr)
                self.assertTrue(p.stderr.startswith("jetrouter frontend: "), p.stderr)
                self.assertIn(word, p.stderr)

    def test_no_nats_server_on_path(self):
        if os.path.exists("/usr/sbin/nats-server") or os.path.exists("/usr/local/bin/nats-server"):
            # The places beside PATH that are looked at have one here: hide them.
            unshare = shutil.which("unshare")
            hide = "mount --bind /dev/null /usr/sbin/nats-server && exec \"$@\""
            probe = [unshare, "-rm", "sh", "-c", hide, "sh"]
            if not unshare or subprocess.run(probe + ["true"], capture_output=True,
                                             check=False).returncode:
                self.skipTest("no namespaces here to hide /usr/sbin/nats-server in")
        else:
            probe = []
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder, True)
        p = subprocess.run(probe + [jr.JETROUTER, "frontend", "--http-port", "0", "--log-level",
                                    "error", "--embedded-nats", folder], capture_output=True,
                           text=True, timeout=60, env={**os.environ, "PATH": "/nowhere:/bin"})
        self.assertEqual(p.returncode, 66, p.stderr)
        self.assertEqual(p.stderr.count("\n"), 1, p.stderr)
        self.assertIn("nats-server", p.stderr)

    def test_nats_away_then_degraded(self):
        """It waits, says so, and is ready in degraded mode after the time-out."""
        nats = "nats://127.0.0.1:%d" % jr.free_port()
        waits = self.frontend(ready=False, name="waits", nats=nats, ready_timeout_secs=3600)
        text = jr.wait_http(waits.url + "/ready", lambda status, text: status == 503, proc=waits)
        self.assertIn("NATS", json.loads(text)["because"])
        self.assertEqual(jr.get_json(waits.url + "/health")["status"], "degraded")
        self.assertEqual(jr.get(waits.url + "/live")[0], 200)
        f = self.frontend(ready=False, nats=nats, ready_timeout_secs=0.5)
        self.procs.wait_ready(f)
        status, head, reply = self.ask(f)
        self.assert_error(status, reply, 503, "no worker")
        self.assertEqual(head["retry-after"], "1")
        self.assertFalse(jr.get_json(f.url + "/state")["nats"]["connected"])

    def test_streams_that_nats_refuses(self):
        """The words of NATS are the reason that is told, and the log has them once, not each second."""
        nats, began = self.procs.nats(), time.monotonic()
        waits, f = [self.frontend(ready=False, name=name, nats=nats.url, nats_replicas=3, ready_timeout_secs=secs)
                    for name, secs in (("waits", 3600), ("front", 3))]
        said = lambda text: "10074" in (json.loads(text).get("because") or "")
        jr.wait_http(waits.url + "/ready", lambda status, text: status == 503 and said(text), proc=waits)
        self.procs.wait_ready(f)
        health = json.loads(jr.wait_http(f.url + "/health", lambda status, text: said(text), proc=f))
        self.assertIn("the streams cannot be opened: ", health["because"])
        self.assertIn("replicas > 1", health["because"])
        state = jr.get_json(f.url + "/state")
        self.assertEqual(state["nats"]["because"], health["because"])
        self.assertEqual(state["pools"][0]["open_failed_because"], health["because"])
        with open(f.log, errors="replace") as log:
            told = log.read().count("nats.open_failed")
        self.assertLessEqual(told, 1 + (time.monotonic() - began) // 60)
        self.assertGreater(told, 0)

    def test_jetstream_missing_is_seen_late_too(self):
        port = jr.free_port()
        f = self.frontend(ready=False, nats="nats://127.0.0.1:%d" % port)
        jr.wait_http(f.url + "/live", proc=f)
        program = jr.find_program("nats-server", "nats-server")
        self.procs.start("late", [program, "-a", "127.0.0.1", "-p", str(port)])
        self.codes = (81,)
        self.assertEqual(f.popen.wait(30), 81, f.tail())
        self.assertIn("-js", f.tail(1))

    def test_nats_too_slow_is_no_refusal(self):
        """A server that does not answer in time while one connects is asked again, however often."""
        link = Link(self.procs.nats().port)
        self.addCleanup(link.close)
        link.freeze("down")
        f = self.frontend(ready=False, nats=link.url, ready_timeout_secs=2)
        self.procs.wait_ready(f, 60)
        self.assertEqual(jr.get_json(f.url + "/health")["status"], "degraded")
        self.wait_log(f, "nats.unreachable")
        link.heal()
        jr.wait_for(lambda: jr.get_json(f.url + "/state")["nats"]["connected"], "NATS after all", 60)
        jr.wait_for(lambda: jr.pool(f.url)["recovery_state"] == "ready", "the log", 60)

    def test_nats_comes_late(self):
        port = jr.free_port()
        f = self.frontend(ready=False, nats="nats://127.0.0.1:%d" % port)
        jr.wait_http(f.url + "/live", proc=f)
        program = jr.find_program("nats-server", "nats-server")
        self.procs.start("late", [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd",
                                  os.path.join(self.procs.folder, "late-store")])
        self.procs.wait_ready(f)
        self.assertEqual(jr.pool(f.url)["recovery_state"], "ready")


class Embedded(Case):
    def embedded(self, **kw):
        folder = os.path.join(self.procs.folder, "state", "nats")
        f = self.frontend(ready=False, embedded_nats=folder, **kw)
        self.procs.wait_ready(f)
        return f, folder

    def children(self, f):
        with open("/proc/%d/task/%d/children" % (f.pid, f.pid)) as c:
            return [int(pid) for pid in c.read().split()]

    def test_end_to_end(self):
        f, folder = self.embedded()
        state = jr.get_json(f.url + "/state")
        self.assertTrue(state["nats"]["connected"])
        self.assertEqual(state["pools"][0]["recovery_state"], "ready")
        self.assertTrue(os.path.isdir(os.path.join(folder, "jetstream")))
        created = state["pools"][0]["stream_created"]
        self.assertEqual(f.stop(), 0, f.tail())
        f = self.procs.restart(f)
        self.frontends.append(f)
        self.procs.wait_ready(f)
        self.assertEqual(jr.pool(f.url)["stream_created"], created)

    def test_server_dies(self):
        f, _ = self.embedded()
        (child,) = self.children(f)
        os.kill(child, signal.SIGKILL)
        self.codes = (82,)
        self.assertEqual(f.popen.wait(30), 82, f.tail())
        self.assertIn("nats-server was ended by signal 9", f.tail(1))

    def test_stopped_while_it_starts(self):
        folder = os.path.join(self.procs.folder, "nats")
        f = self.frontend(ready=False, embedded_nats=folder)
        jr.wait_for(lambda: self.children(f), "the child")
        self.assertEqual(f.stop(), 0, f.tail())

    def test_server_listens_after_the_stop_began(self):
        """Nothing is begun for a server that is found ready while the frontend drains."""
        folder, go = self.procs.folder, os.path.join(self.procs.folder, "go")
        os.mkdir(os.path.join(folder, "bin"))
        late = os.path.join(folder, "bin", "nats-server")
        with open(late, "w") as script:
            script.write('#!/bin/sh\nuntil [ -e "%s" ]; do sleep 0.02; done\nexec "%s" "$@"\n' %
                         (go, jr.find_program("nats-server", "nats-server")))
        os.chmod(late, 0o755)
        path = os.path.dirname(late) + os.pathsep + os.environ["PATH"]
        f = self.frontend(ready=False, embedded_nats=os.path.join(folder, "nats"),
                          drain_delay_secs=1, env={"PATH": path})
        jr.wait_for(lambda: self.children(f), "the child")
        f.popen.send_signal(signal.SIGTERM)
        self.wait_log(f, "frontend.drain")
        open(go, "w").close()
        self.assertEqual(f.popen.wait(30), 0, f.tail())
        self.assertNotIn("nats.embedded", f.tail(60))


if __name__ == "__main__":
    unittest.main()
