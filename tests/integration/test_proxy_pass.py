# SPDX-License-Identifier: Apache-2.0
"""Other paths of the workers, several models and pools behind one address, and names for models."""
import json
import threading
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import COMPLETION, Case

EMBED = {"model": "tiny", "input": ["a", [1, 2]], "encoding_format": "base64", "max_tokens": "any"}


def echo(request):
    """What arrived, as JSON."""
    if request.path == "/tokenize":
        return play.plain(request)
    return play.send_json(request, 200, {"path": request.path, "model": model_of(request)})


def model_of(request):
    try:
        return json.loads(request.body)["model"]
    except (ValueError, KeyError, UnicodeDecodeError):
        return None


class Pass(Case):
    def test_bytes_go_through(self):
        """Body and answer as they are, whatever the fields are; and the endpoint is counted."""
        w = self.worker(lambda r: play.send_json(r, 200, {"object": "list", "data": [[0.5]]}))
        f = self.frontend(w)
        body = json.dumps(EMBED, indent=3).encode()
        status, head, text = jr.call("POST", f.url + "/v1/embeddings?x=1", body, {"Authorization": "Bearer k"})
        self.assertEqual((status, json.loads(text)), (200, {"object": "list", "data": [[0.5]]}))
        (got,) = w.posts("/v1/embeddings?x=1")
        self.assertEqual((got.body, got.headers["Authorization"]), (body, "Bearer k"))
        self.assertIn(b'endpoint="embeddings"', jr.get(f.url + "/metrics")[1])

    def test_spread_by_load_and_booked(self):
        go = threading.Event()
        self.addCleanup(go.set)

        def slow(request):
            go.wait(60)
            return echo(request)
        workers = [self.worker(slow) for _ in range(3)]
        f = self.frontend(*workers, router_mode="kv", router_kv_events=False)
        threads = [threading.Thread(target=jr.post, args=(f.url + "/v1/embeddings", EMBED), kwargs={"timeout": 90})
                   for _ in range(6)]
        for t in threads:
            t.start()
        jr.wait_for(lambda: sum(len(w.posts("/v1/embeddings")) for w in workers) == 6, "all arrived", 60)
        self.assertEqual([len(w.posts("/v1/embeddings")) for w in workers], [2, 2, 2])
        self.assertEqual(jr.pool(f.url)["bookings"], 6)
        self.assertEqual([r.path for w in workers for r in w.requests if r.path == "/tokenize"], [])
        go.set()
        for t in threads:
            t.join(60)
        jr.wait_booked_out(f.url)

    def test_streams_are_relayed(self):
        parts = [b"event: response.created\ndata: {}\n\n", b"event: response.output_text.delta\ndata: {\"x\":1}\n\n"]
        seen = threading.Event()

        def answer(request):
            play.send_head(request)
            play.send_chunk(request, parts[0])
            self.assertTrue(seen.wait(60))
            play.send_chunk(request, parts[1])
            request.wfile.write(b"0\r\n\r\n")
        f = self.frontend(self.worker(answer))
        with play.Stream(f.url + "/v1/responses", {"model": "tiny", "input": "x", "stream": True}) as s:
            self.assertEqual(s.head(), 200)
            first = s.line() + s.line() + s.line()
            self.assertEqual(first, parts[0])  # before the second was sent
            seen.set()
            self.assertEqual(s.rest(), (parts[1], True))
        jr.wait_booked_out(f.url)

    def test_what_is_no_json(self):
        w = self.worker(echo)
        f = self.frontend(w)
        body = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ntiny\r\n--b--\r\n\xff\x00"
        status, text = jr.post(f.url + "/v1/audio/transcriptions", body,
                               headers={"Content-Type": "multipart/form-data; boundary=b"})
        self.assertEqual(status, 200, text)
        (got,) = w.posts("/v1/audio/transcriptions")
        self.assertEqual((got.body, got.headers["Content-Type"]), (body, "multipart/form-data; boundary=b"))

    def test_get_and_other_methods(self):
        w = self.worker()
        f = self.frontend(w)
        status, text = jr.get(f.url + "/v1/nothing/here")  # the worker's answer to any GET
        self.assertEqual((status, text), (200, b"{}"))
        for method in ("DELETE", "PUT", "HEAD"):
            status, head, _ = jr.call(method, f.url + "/v1/embeddings")
            self.assertEqual((status, head["allow"]), (405, "GET, POST"), method)

    def test_what_changes_an_engine(self):
        w = self.worker()
        f = self.frontend(w)
        for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            with self.subTest(path=path):
                status, _, body = self.ask(f, {"lora_name": "x", "lora_path": "/x"}, path)
                self.assert_error(status, body, 403, "engine itself")
                self.assertEqual(list(w.posts(path)), [])

    def test_errors(self):
        f = self.frontend(self.worker(play.cut))
        status, _, body = self.ask(f, {**EMBED, "model": "other"}, "/v1/embeddings")
        self.assert_error(status, body, 404, "/v1/models")
        self.assertEqual(body["error"]["code"], "model_not_found")
        status, _, body = self.ask(f, EMBED, "/v1/embeddings")
        self.assert_error(status, body, 503, "every worker failed")
        status, _, body = self.ask(f, {**EMBED, "model": "x" * 3000}, "/v1/embeddings")
        self.assert_error(status, body, 404, "not served")

    def test_request_timeout(self):
        go = threading.Event()
        self.addCleanup(go.set)
        f = self.frontend(self.worker(lambda request: go.wait(60)), request_timeout_secs=0.3)
        status, _, body = self.ask(f, EMBED, "/v1/embeddings")
        self.assert_error(status, body, 504, "--request-timeout-secs")

    def test_retried_elsewhere(self):
        f = self.frontend(self.worker(play.cut), self.worker(echo))
        for _ in range(4):
            self.assertEqual(self.ask(f, EMBED, "/v1/embeddings")[0], 200)


class Models(Case):
    def models(self, f):
        return [m["id"] for m in jr.get_json(f.url + "/v1/models")["data"]]

    def test_several_models_in_one_pool(self):
        """A request goes to the workers of its model, in every mode and on every path."""
        for mode in ("round-robin", "kv", "random", "least-loaded", "power-of-two"):
            with self.subTest(mode):
                workers = [self.worker(echo, model=m) for m in ("big", "tiny", "big", "small")]
                f = self.frontend(*workers, router_mode=mode, name=mode,
                                  **({"router_kv_events": False} if mode == "kv" else {}))
                self.assertEqual(self.models(f), ["big", "tiny", "small"])
                for model in ("big", "tiny", "small"):
                    for path, body in (("/v1/completions", {**COMPLETION, "prompt": [1, 2, 3]}),
                                       ("/v1/embeddings", EMBED)):
                        for _ in range(4):
                            status, _, reply = self.ask(f, {**body, "model": model}, path)
                            self.assertEqual((status, reply["model"]), (200, model))
                for w in workers:
                    got = {model_of(r) for r in w.requests if r.path != "/tokenize"}
                    self.assertLessEqual(got, {w.model})
                f.stop()

    def test_only_worker_of_a_model_fails(self):
        """The others are not asked for what they do not serve."""
        f = self.frontend(self.worker(play.cut, model="big"), self.worker(echo))
        status, _, body = self.ask(f, {**COMPLETION, "model": "big"})
        self.assert_error(status, body, 503, "every worker failed")

    def test_alias(self):
        w = self.worker(echo)
        f = self.frontend(w, model_alias=["gpt-4=tiny", "small=tiny,gone=other"])
        self.assertEqual(self.models(f), ["tiny", "gpt-4", "small"])
        body = b'{ "x": {"model":"gpt-4"}, "model" : "gpt\\u002d4" ,\n "prompt":"hi" }'
        self.assertEqual(jr.post(f.url + "/v1/completions", body)[0], 200)
        want = b'{ "x": {"model":"gpt-4"}, "model" : "tiny" ,\n "prompt":"hi" }'
        self.assertEqual(w.posts()[0].body, want)
        body = b'{"input":["\\u00e9"],  "model":"small"}'
        self.assertEqual(jr.post(f.url + "/v1/embeddings", body)[0], 200)
        self.assertEqual(w.posts("/v1/embeddings")[0].body, b'{"input":["\\u00e9"],  "model":"tiny"}')
        # Without an alias not a byte is another.
        body = b'{ "model":"tiny","prompt":"hi" }'
        self.assertEqual(jr.post(f.url + "/v1/completions", body)[0], 200)
        self.assertEqual(w.posts()[1].body, body)
        status, _, reply = self.ask(f, {**COMPLETION, "model": "gone"})
        self.assert_error(status, reply, 404, "other")
        status, _, reply = self.ask(f, b'{"model":"small\\u0000","prompt":"x"}')
        self.assertEqual(status, 404)

    def test_alias_with_tokens_and_text(self):
        """Spans of what was read are those of the body that goes on."""
        for mode in ("kv", "round-robin"):
            with self.subTest(mode):
                m = self.procs.mocker("m-" + mode, model_name="tiny", block_size=4, speedup_ratio=0)
                f = self.frontend(m.urls[0], router_mode=mode, model_alias="a-longer-name=tiny", name=mode,
                                  **({"kv_cache_block_size": 4} if mode == "kv" else {}))
                for prompt in ("some words that make a few tokens", [7] * 50):
                    for path, ask in (("/v1/completions", {"prompt": prompt}),
                                      ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi there"}]})):
                        direct = jr.call("POST", m.urls[0] + path, {**ask, "model": "tiny", "max_tokens": 3})
                        through = jr.call("POST", f.url + path, {**ask, "model": "a-longer-name", "max_tokens": 3})
                        self.assertEqual(through[0], 200, through[2])
                        a, b = json.loads(direct[2]), json.loads(through[2])
                        self.assertEqual(a["choices"], b["choices"])
                        self.assertEqual(a["usage"]["prompt_tokens"], b["usage"]["prompt_tokens"])

    def test_one_model(self):
        f = self.frontend(self.worker(), model_alias="a/b=tiny")
        for name in ("tiny", "a/b"):
            got = jr.get_json(f.url + "/v1/models/" + name)
            self.assertEqual((got["id"], got["object"]), (name, "model"))
        status, text = jr.get(f.url + "/v1/models/none")
        self.assert_error(status, json.loads(text), 404, "/v1/models")

    def test_bad_aliases(self):
        for bad in ("a", "=b", "a="):
            f = self.procs.frontend("bad", worker=["http://127.0.0.1:1"], model_alias=bad)
            self.assertEqual(f.popen.wait(60), 65)
            with open(f.log) as log:
                self.assertIn("NAME=MODEL", log.read())

    def test_several_pools(self):
        nats = self.procs.nats()
        names = {"big": "pool-a", "tiny": "pool-b"}
        mockers = {m: self.procs.mocker(m, bridge=True, nats=nats.url, component=c, model_name=m, block_size=16,
                                        speedup_ratio=0) for m, c in names.items()}
        f = self.procs.frontend("front", nats=nats.url, component=list(names.values()), router_mode="kv",
                                drain_delay_secs=0)
        self.frontends.append(f)
        self.procs.wait_ready(f)
        jr.wait_for(lambda: sorted(self.models(f)) == ["big", "tiny"], "both models", 60)
        for model, m in mockers.items():
            for path in ("/v1/completions", "/v1/chat/completions"):
                body = {"model": model, "prompt": [3] * 40} if "chat" not in path else \
                    {"model": model, "messages": [{"role": "user", "content": "x"}]}
                status, _, reply = self.ask(f, body, path)
                self.assertEqual((status, reply["model"]), (200, model))
            self.assertEqual(jr.metric(m.urls[0], "vllm:request_success_total"), 2)
        pools = {p["component"]: p for p in jr.get_json(f.url + "/state")["pools"]}
        self.assertEqual({c: [w["model"] for w in pools[c]["workers"]] for c in pools}, {
            c: [m] for m, c in names.items()})


if __name__ == "__main__":
    unittest.main(verbosity=2)
