# SPDX-License-Identifier: Apache-2.0
"""jetrouter replay as a process: against a mocker, and against servers that answer wrongly."""
import http.server
import itertools
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import jr_procs as jr

TRACE = os.path.join(jr.FIXTURES, "traces", "conversation-excerpt.jsonl")


def replay(*args, timeout=60):
    return subprocess.run([jr.JETROUTER, "replay", *args], capture_output=True, text=True,
                          timeout=timeout)


def report(*args, code=0):
    p = replay(*args, "--json")
    if p.returncode != code:
        raise AssertionError("exit %d: %s%s" % (p.returncode, p.stdout, p.stderr))
    return json.loads(p.stdout)


def sse(*events):
    return "".join("data: %s\n\n" % (e if isinstance(e, str) else json.dumps(e)) for e in events)


class Server:
    """Answers /v1/models properly and /v1/completions as `answer(request body)` says:
    (status, content type, text), and perhaps the tokens a router predicted."""

    def __init__(self, answer, models=("m",)):
        self.bodies = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def give(self, status, kind, text, predicted=None):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if status == 200:
                    self.send_header("x-jetrouter-worker", "w%d" % (len(server.bodies) % 2))
                if predicted is not None:
                    self.send_header("x-jetrouter-predicted-tokens", str(predicted))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self):
                self.give(200, "application/json",
                          json.dumps({"data": [{"id": m} for m in models]}))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.bodies.append(body)
                self.give(*answer(body))

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def whole(body, **changes):
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": body["max_tokens"],
             "prompt_tokens_details": {"cached_tokens": 512}}
    usage.update(changes)
    return [{"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]},
            {"choices": [], "usage": usage}, "[DONE]"]


class AgainstMocker(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.procs = jr.Procs()
        cls.urls = cls.procs.mocker("m", n=2, speedup_ratio=0).urls

    @classmethod
    def tearDownClass(cls):
        cls.procs.close()

    def setUp(self):
        for url in self.urls:
            self.assertEqual(jr.post(url + "/reset_prefix_cache")[0], 200)

    def test_report(self):
        cold = report("--trace", TRACE, "--url", self.urls[0], "--limit", "20", "--speed", "0")
        warm = report("--trace", TRACE, "--url", self.urls[0], "--limit", "20", "--speed", "0")
        for r in (cold, warm):
            self.assertEqual((r["requests"], r["errors"], r["model"]), (20, 0, "mock-model"))
            self.assertGreater(r["ttft_ms"]["p50"], 0)
            self.assertGreaterEqual(r["total_ms"]["p99"], r["ttft_ms"]["p50"])
        self.assertEqual(cold["prompt_tokens"], warm["prompt_tokens"])
        self.assertLess(cold["cached_share"], 0.5)
        self.assertGreater(warm["cached_share"], 0.95)  # the prompts are the same again

    def test_two_urls_and_compare(self):
        p = replay("--trace", TRACE, "--url", self.urls[0], "--url", self.urls[1], "--limit", "5",
                   "--speed", "0", "--label", "first", "--label", "second")
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertIn("A: first", p.stdout)
        self.assertIn("B: second", p.stdout)
        self.assertRegex(p.stdout, r"errors +0 +0")
        self.assertEqual(p.stderr, "")  # no progress bar where there is no terminal
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "old.json")
            with open(path, "w") as f:
                f.write(replay("--trace", TRACE, "--url", self.urls[0], "--limit", "5",
                               "--speed", "0", "--json").stdout)
            p = replay("--trace", TRACE, "--url", self.urls[1], "--limit", "5", "--speed", "0",
                       "--compare", path)
            self.assertIn("A: old", p.stdout)
            self.assertIn("B: " + self.urls[1], p.stdout)
            p = replay("--compare", path, "--compare", path)
            self.assertEqual(p.returncode, 0, p.stderr)
            self.assertRegex(p.stdout, r"cached tokens, % of prompts .* 1\.00")

    def test_keeps_the_times_of_the_trace(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "t.jsonl")
            with open(path, "w") as f:
                for ms in (1000, 31000, 61000):
                    f.write(json.dumps({"timestamp": ms, "input_length": 10, "output_length": 1,
                                        "hash_ids": [1]}) + "\n")
            r = report("--trace", path, "--url", self.urls[0], "--speed", "300")
            self.assertGreater(r["duration_s"], 0.19)
            self.assertLess(r["duration_s"], 60)

    def test_interrupted(self):
        p = subprocess.Popen([jr.JETROUTER, "replay", "--trace", TRACE, "--url", self.urls[0],
                              "--limit", "100", "--json"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        jr.wait_for(lambda: jr.metric(self.urls[0], "vllm:request_success_total") > 0, "a request")
        time.sleep(0.1)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 130, err)
        self.assertLess(json.loads(out)["requests"], 100)


class AgainstWrongServers(unittest.TestCase):
    def fails_with(self, answer, words, n=3):
        server = Server(answer)
        try:
            r = report("--trace", TRACE, "--url", server.url, "--limit", str(n), "--speed", "0",
                       code=1)
        finally:
            server.close()
        self.assertEqual((r["requests"], r["errors"]), (n, n), r)
        self.assertEqual(len(r["error_reasons"]), 1, r)
        self.assertIn(words, r["error_reasons"][0]["reason"])
        self.assertEqual(r["error_reasons"][0]["requests"], n)

    def test_each_fault_is_told(self):
        stream = "text/event-stream; charset=utf-8"
        self.fails_with(lambda b: (503, "application/json", '{"error":{"message":"no worker"}}'),
                        "status 503: no worker")
        self.fails_with(lambda b: (200, "application/json", sse(*whole(b))), "content type")
        self.fails_with(lambda b: (200, stream, sse(*whole(b)[:-1])), "no [DONE]")
        self.fails_with(lambda b: (200, stream, sse(*whole(b, completion_tokens=1))),
                        "completion tokens")
        self.fails_with(lambda b: (200, stream, sse(whole(b)[0], "[DONE]")), "no usage")
        self.fails_with(lambda b: (200, stream, sse("{", "[DONE]")), "not a completion")

    def test_what_is_sent(self):
        server = Server(lambda b: (200, "text/event-stream", sse(*whole(b))), ("first", "second"))
        try:
            r = report("--trace", TRACE, "--url", server.url, "--limit", "4", "--speed", "0")
        finally:
            server.close()
        self.assertEqual(len(r["workers"]), 2)  # named by the header
        self.assertEqual(sum(w["requests"] for w in r["workers"]), 4)
        bodies = sorted(server.bodies, key=lambda b: len(b["prompt"]))
        with open(TRACE) as f:
            rows = sorted((json.loads(next(f)) for _ in range(4)), key=lambda x: x["input_length"])
        for body, row in zip(bodies, rows):
            self.assertEqual(body["model"], "first")
            self.assertEqual(len(body["prompt"]), row["input_length"])
            self.assertEqual(body["max_tokens"], row["output_length"])
            self.assertTrue(body["stream"] and body["ignore_eos"])
            self.assertEqual(body["stream_options"], {"include_usage": True})
            self.assertTrue(all(0 <= t < 50000 for t in body["prompt"]))
            self.assertEqual(body["prompt"][:512], bodies[0]["prompt"][:512])  # all begin with id 0

    def test_prediction_against_truth(self):
        """Of four answers with 512 cached tokens each one is predicted too high, two too low, one not at all."""
        tokens = itertools.cycle([600, 500, 0, None])
        server = Server(lambda b: (200, "text/event-stream", sse(*whole(b)), next(tokens)))
        args = ("--trace", TRACE, "--url", server.url, "--limit", "4", "--speed", "0")
        try:
            r = report(*args)
            text = replay(*args).stdout
        finally:
            server.close()
        self.assertEqual({k: v for k, v in r.items() if k.startswith("predicted")}, {
            "predicted_answers": 3, "predicted_tokens": 1100, "predicted_answers_cached_tokens": 3 * 512,
            "predicted_too_many": 88, "predicted_too_few": 12 + 512})
        self.assertIn("predicted by the router: 1100 cached tokens where the workers had 1536 "
                      "(88 too many, 524 too few, in 3 answers)\n", text)

    def test_server_that_goes_away(self):
        server = Server(lambda b: os.abort())
        server.close()
        p = replay("--trace", TRACE, "--url", server.url)
        self.assertEqual(p.returncode, 69, p.stderr)


class BadInput(unittest.TestCase):
    def fails(self, code, words, *args):
        p = replay(*args)
        self.assertEqual(p.returncode, code, p.stderr)
        self.assertEqual(len(p.stderr.splitlines()), 1, p.stderr)
        self.assertRegex(p.stderr, "^jetrouter replay: .*" + re.escape(words))
        self.assertEqual(p.stdout, "")

    def test_one_line_each(self):
        url = "http://127.0.0.1:%d" % jr.free_port()
        self.fails(69, "cannot reach " + url, "--trace", TRACE, "--url", url)
        self.fails(66, "cannot read /no/such", "--trace", "/no/such", "--url", url)
        self.fails(64, "--trace is required", "--url", url)
        self.fails(78, "at most two", "--trace", TRACE, "--url", url, "--url", url, "--url", url)
        self.fails(66, "--compare", "--trace", TRACE, "--compare", "/no/such")
        self.fails(65, "--compare " + TRACE, "--trace", TRACE, "--compare", TRACE)
        self.fails(65, "--speed", "--trace", TRACE, "--speed", "-1")
        with tempfile.NamedTemporaryFile("w") as f:
            with open(TRACE) as trace:
                f.write(next(trace) + '{"timestamp": 0}\n')
            f.flush()
            self.fails(65, f.name + ": line 2: input_length is missing", "--trace", f.name)
            f.truncate(0)
            self.fails(65, "no request", "--trace", f.name)

    def test_no_model(self):
        server = Server(lambda b: None, ())
        try:
            self.fails(69, "serves no model", "--trace", TRACE, "--url", server.url)
        finally:
            server.close()


if __name__ == "__main__":
    unittest.main()
