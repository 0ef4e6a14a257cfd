# SPDX-License-Identifier: Apache-2.0
"""The mocker as a process: what vLLM's HTTP server answers, and what a wrong start says."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

JETROUTER = os.environ["JETROUTER"]


class Mocker:
    """A mocker on free ports; its engines' ports are read from its log."""

    def __init__(self, *args, engines=1):
        self.proc = subprocess.Popen(
            [JETROUTER, "mocker", "--http-host", "127.0.0.1", "--http-port", "0",
             "--num-workers", str(engines), "--model-name", "tiny", *args],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.ports, self.lines = [], []
        for line in self.proc.stderr:
            self.lines.append(line)
            m = re.search(r"mocker\.engine .*url=http://127\.0\.0\.1:(\d+)", line)
            if m:
                self.ports.append(int(m.group(1)))
            if "mocker.ready" in line:
                break
        if len(self.ports) != engines:
            raise AssertionError("no start: " + "".join(self.lines))
        self.drain = threading.Thread(target=lambda: [None for _ in self.proc.stderr])
        self.drain.start()

    def stop(self, signum=signal.SIGTERM):
        self.proc.send_signal(signum)
        code = self.proc.wait(timeout=20)
        self.drain.join()
        self.proc.stderr.close()
        return code

    def call(self, method, path, body=None, engine=0, headers=None):
        conn = http.client.HTTPConnection("127.0.0.1", self.ports[engine], timeout=30)
        data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        conn.request(method, path, data, headers or {})
        reply = conn.getresponse()
        text = reply.read()
        conn.close()
        return reply.status, dict((k.lower(), v) for k, v in reply.getheaders()), text

    def json(self, method, path, body=None, **kw):
        status, _, text = self.call(method, path, body, **kw)
        return status, json.loads(text)

    def complete(self, prompt, max_tokens=4, path="/v1/completions", **kw):
        return self.json("POST", path, {"model": "tiny", "prompt": prompt,
                                        "max_tokens": max_tokens, **kw})

    def metric(self, name):
        text = self.call("GET", "/metrics")[2].decode()
        m = re.search(r'^vllm:%s\{[^}]*\} (\S+)$' % name, text, re.M)
        return float(m.group(1))


def events(text):
    out = text.decode().split("\n\n")
    assert out[-1] == "" and out[-2] == "data: [DONE]", out[-3:]
    return [json.loads(e[len("data: "):]) for e in out[:-2]]


def cached(reply):
    return reply["usage"]["prompt_tokens_details"]["cached_tokens"]


def wait_for(fn, what):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if fn():
            return
        time.sleep(0.01)
    raise AssertionError("never came: " + what)


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.m = Mocker("--speedup-ratio", "50", "--block-size", "16", "--max-model-len", "2048",
                       "--num-gpu-blocks-override", "500")

    @classmethod
    def tearDownClass(cls):
        code = cls.m.stop()
        assert code == 0, code

    def setUp(self):
        self.assertEqual(self.m.json("POST", "/reset_prefix_cache"), (200, {"success": True}))

    def test_completion_and_cached_tokens(self):
        ids = list(range(1000, 1100))
        status, r = self.m.complete(ids)
        self.assertEqual(status, 200)
        self.assertEqual(r["object"], "text_completion")
        self.assertRegex(r["id"], "^cmpl-[0-9a-f]{16}$")
        self.assertEqual(r["model"], "tiny")
        self.assertEqual(r["choices"][0]["finish_reason"], "length")
        self.assertEqual(len(r["choices"][0]["text"]), 4 * 4)
        self.assertEqual(r["usage"]["prompt_tokens"], 100)
        self.assertEqual(r["usage"]["completion_tokens"], 4)
        self.assertEqual(r["usage"]["total_tokens"], 104)
        self.assertEqual(cached(r), 0)
        again = self.m.complete(ids)[1]
        self.assertEqual(cached(again), 96)
        self.assertEqual(again["choices"], r["choices"])
        self.assertEqual(cached(self.m.complete(ids[:40] + [7] * 60)[1]), 32)
        self.assertEqual(cached(self.m.complete(ids, cache_salt="tenant-a")[1]), 0)
        self.assertEqual(cached(self.m.complete(ids, cache_salt="tenant-a")[1]), 96)
        self.m.call("POST", "/reset_prefix_cache")
        self.assertEqual(cached(self.m.complete(ids)[1]), 0)

    def test_stream(self):
        body = {"model": "tiny", "prompt": "one two three", "max_tokens": 5, "stream": True,
                "stream_options": {"include_usage": True}}
        status, headers, text = self.m.call("POST", "/v1/completions", body)
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("text/event-stream"))
        got = events(text)
        self.assertEqual(len(got), 6)
        self.assertEqual([e["choices"][0]["finish_reason"] for e in got[:5]], [None] * 4 + ["length"])
        self.assertEqual(got[5]["choices"], [])
        self.assertEqual(got[5]["usage"]["completion_tokens"], 5)
        whole = self.m.complete("one two three", 5)[1]
        self.assertEqual("".join(e["choices"][0]["text"] for e in got[:5]),
                         whole["choices"][0]["text"])
        del body["stream_options"]
        got = events(self.m.call("POST", "/v1/completions", body)[2])
        self.assertEqual(len(got), 5)
        self.assertNotIn("usage", got[4])

    def test_chat(self):
        messages = [{"role": "system", "content": "be kind"},
                    {"role": "user", "content": [{"type": "text", "text": "tokens " * 20}]}]
        body = {"model": "tiny", "messages": messages, "max_tokens": 40}
        status, r = self.m.json("POST", "/v1/chat/completions", body)
        self.assertEqual(status, 200)
        self.assertEqual(r["object"], "chat.completion")
        self.assertTrue(r["id"].startswith("chatcmpl-"))
        answer = r["choices"][0]["message"]
        self.assertEqual(answer["role"], "assistant")
        _, t = self.m.json("POST", "/tokenize", {"model": "tiny", "messages": messages})
        self.assertEqual(t["count"], r["usage"]["prompt_tokens"])
        # The next turn finds the prompt and the answer of this one.
        body["messages"] = messages + [answer, {"role": "user", "content": "and"}]
        r2 = self.m.json("POST", "/v1/chat/completions", body)[1]
        self.assertEqual(cached(r2), (r["usage"]["total_tokens"] - 1) // 16 * 16)
        body.update(stream=True, max_tokens=3)
        got = events(self.m.call("POST", "/v1/chat/completions", body)[2])
        self.assertEqual(got[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertEqual(len(got), 4)
        self.assertEqual(got[3]["choices"][0]["finish_reason"], "length")
        del body["max_tokens"]
        got = events(self.m.call("POST", "/v1/chat/completions", body)[2])
        self.assertEqual(got[-1]["choices"][0]["finish_reason"], "stop")

    def test_lists_and_n(self):
        r = self.m.complete(["a b c", "d e f g"], 2, n=2)[1]
        self.assertEqual([c["index"] for c in r["choices"]], [0, 1, 2, 3])
        self.assertEqual(r["usage"]["completion_tokens"], 8)
        counts = [self.m.json("POST", "/tokenize", {"prompt": p})[1]["count"]
                  for p in ("a b c", "d e f g")]
        self.assertEqual(r["usage"]["prompt_tokens"], sum(counts))
        r = self.m.complete([[5, 6, 7], [8, 9]], 1)[1]
        self.assertEqual(len(r["choices"]), 2)
        self.assertEqual(r["usage"]["prompt_tokens"], 5)

    def test_tokenize_and_back(self):
        text = "The quick brown fox, ünïcode \\ \"quoted\""
        status, t = self.m.json("POST", "/tokenize", {"model": "tiny", "prompt": text})
        self.assertEqual(status, 200)
        self.assertEqual(t["count"], len(t["tokens"]))
        self.assertEqual(t["max_model_len"], 2048)
        self.assertIsNone(t["token_strs"])
        self.assertEqual(t["tokens"][0], 0)
        bare = self.m.json("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})[1]
        self.assertEqual(bare["tokens"], t["tokens"][1:])
        back = self.m.json("POST", "/detokenize", {"tokens": bare["tokens"]})[1]
        self.assertEqual(back["prompt"], text)
        strs = self.m.json("POST", "/tokenize", {"prompt": "a the", "return_token_strs": True})[1]
        self.assertEqual(strs["token_strs"], ["<s>", "a", " the"])
        # Text and its ids are the same prompt.
        self.m.complete("kv cache " * 20)
        ids = self.m.json("POST", "/tokenize", {"prompt": "kv cache " * 20})[1]["tokens"]
        self.assertEqual(cached(self.m.complete(ids)[1]), (len(ids) - 1) // 16 * 16)

    def test_small_routes(self):
        for path in ("/health", "/ping"):
            self.assertEqual(self.m.call("GET", path)[0], 200)
        self.assertEqual(self.m.json("GET", "/version")[1], {"version": "0.32.0"})
        self.assertEqual(self.m.json("GET", "/load")[1], {"server_load": 0})
        self.assertEqual(self.m.json("GET", "/kv_event_sources")[1], {})
        models = self.m.json("GET", "/v1/models")[1]
        self.assertEqual([d["id"] for d in models["data"]], ["tiny"])
        self.assertEqual(models["data"][0]["max_model_len"], 2048)

    def test_metrics(self):
        queries = self.m.metric("prefix_cache_queries_total")
        hits = self.m.metric("prefix_cache_hits_total")
        self.m.complete([9] * 33)
        self.m.complete([9] * 33)
        self.assertEqual(self.m.metric("prefix_cache_queries_total") - queries, 66)
        self.assertEqual(self.m.metric("prefix_cache_hits_total") - hits, 32)
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
            self.assertEqual(self.m.metric(name), 0)
        text = self.m.call("GET", "/metrics")[2].decode()
        self.assertRegex(text, r'vllm:cache_config_info\{block_size="16",.*num_gpu_blocks="500"')

    def error(self, status, path, body, word, param=None):
        got, r = self.m.json("POST", path, body)
        self.assertEqual(got, status, r)
        self.assertEqual(set(r["error"]), {"message", "type", "param", "code"})
        self.assertEqual(r["error"]["code"], status)
        self.assertIn(word, r["error"]["message"])
        if param is not None:
            self.assertEqual(r["error"]["param"], param)

    def test_errors(self):
        c = "/v1/completions"
        self.error(404, c, {"model": "nope", "prompt": [1]}, "`nope` does not exist", "model")
        self.error(400, c, {"model": "tiny", "prompt": [1] * 2048}, "2048 tokens", "input_tokens")
        self.error(400, c, {"model": "tiny", "prompt": [1] * 2048, "stream": True}, "2048 tokens")
        self.error(400, c, '{"model": "tiny", ', "")
        self.error(400, c, {"model": "tiny"}, "prompt")
        self.error(400, c, {"model": "tiny", "prompt": []}, "")
        self.error(400, c, {"model": "tiny", "prompt": [[1], []]}, "")
        self.error(400, c, {"model": "tiny", "prompt": [1], "max_tokens": 0}, "max_tokens")
        self.error(400, c, {"model": "tiny", "prompt": [1], "max_tokens": "many"}, "max_tokens")
        self.error(400, c, {"model": "tiny", "prompt": [1], "n": 5000}, "")
        self.error(400, "/v1/chat/completions", {"model": "tiny", "messages": []}, "")
        self.error(400, "/v1/chat/completions",
                   {"model": "tiny", "messages": [{"content": "x"}]}, "role")
        self.error(400, "/tokenize", {"model": "tiny"}, "prompt")
        self.error(400, "/tokenize", "{", "")
        self.error(400, "/detokenize", {"tokens": ["x"]}, "")
        self.assertEqual(self.m.json("GET", "/nope"), (404, {"detail": "Not Found"}))
        status, headers, _ = self.m.call("GET", c)
        self.assertEqual((status, headers["allow"]), (405, "POST"))
        # Longer than the model allows, prompt and output together: cut short, as vLLM 0.32 does.
        r = self.m.complete([1] * 2040, 100)[1]
        self.assertEqual(r["usage"]["completion_tokens"], 8)

    def test_headers_of_routers(self):
        status, r = self.m.json("POST", "/v1/completions",
                                {"model": "tiny", "prompt": [1, 2], "max_tokens": 1},
                                headers={"X-data-parallel-rank": "0", "X-Request-Id": "abc"})
        self.assertEqual((status, r["id"]), (200, "cmpl-abc"))


class Load(unittest.TestCase):
    def test_client_gone_cancels(self):
        m = Mocker("--speedup-ratio", "1", "--max-num-seqs", "1")
        try:
            for stream in (True, False):
                conns = []
                for i in range(2):
                    conn = http.client.HTTPConnection("127.0.0.1", m.ports[0], timeout=30)
                    conn.request("POST", "/v1/completions", json.dumps(
                        {"model": "tiny", "prompt": [i + 1] * 100, "max_tokens": 100000,
                         "stream": stream}))
                    conns.append(conn)
                wait_for(lambda: m.metric("num_requests_running") == 1, "running")
                wait_for(lambda: m.metric("num_requests_waiting") == 1, "waiting")
                self.assertEqual(m.json("GET", "/load")[1], {"server_load": 2})
                self.assertGreater(m.metric("kv_cache_usage_perc"), 0)
                self.assertEqual(m.json("POST", "/reset_prefix_cache")[1], {"success": False})
                for conn in conns:
                    conn.close()
                wait_for(lambda: m.json("GET", "/load")[1] == {"server_load": 0}, "nobody waits")
                wait_for(lambda: m.metric("kv_cache_usage_perc") == 0, "blocks free")
        finally:
            self.assertEqual(m.stop(), 0)

    def test_simulated_time_passes(self):
        m = Mocker("--speedup-ratio", "1")
        try:
            start = time.monotonic()
            m.complete([3] * 2000, 20)  # 12 + 200 + … ms, then 19 steps of 12 ms
            took = time.monotonic() - start
            self.assertGreater(took, 0.43)
            self.assertLess(took, 5)
        finally:
            m.stop()

    def test_many_at_once_and_many_engines(self):
        m = Mocker("--speedup-ratio", "0", engines=5)
        try:
            replies = []

            def client(i):
                for k in range(5):
                    replies.append(m.complete([i] * 50 + [k] * 20, 10, engine=i % 5)[0])
            threads = [threading.Thread(target=client, args=(i,)) for i in range(20)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(replies, [200] * 100)
            self.assertEqual(len(set(m.ports)), 5)
        finally:
            self.assertEqual(m.stop(signal.SIGINT), 0)

    def test_stops_with_requests_under_way(self):
        m = Mocker("--speedup-ratio", "1")
        conn = http.client.HTTPConnection("127.0.0.1", m.ports[0], timeout=30)
        conn.request("POST", "/v1/completions", json.dumps(
            {"model": "tiny", "prompt": [1] * 100, "max_tokens": 100000, "stream": True}))
        conn.getresponse().read(10)
        self.assertEqual(m.stop(), 0)
        conn.close()


class Start(unittest.TestCase):
    def fails(self, code, word, *args):
        p = subprocess.run([JETROUTER, "mocker", *args], capture_output=True, text=True, timeout=30)
        self.assertEqual(p.returncode, code, p.stderr)
        line = p.stderr.strip().splitlines()[-1]
        self.assertIn(word, line)
        self.assertTrue(line.startswith("jetrouter mocker: "), line)

    def test_port_in_use(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            port = s.getsockname()[1]
            self.fails(73, str(port), "--http-host", "127.0.0.1", "--http-port", str(port))

    def test_second_port_in_use(self):
        for tries in range(5, 0, -1):  # the port below may be, or become, somebody else's
            with socket.socket() as s, socket.socket() as below:
                s.bind(("127.0.0.1", 0))
                s.listen()
                port = s.getsockname()[1]
                try:
                    below.bind(("127.0.0.1", port - 1))
                    below.close()
                    self.fails(73, str(port), "--http-host", "127.0.0.1",
                               "--http-port", str(port - 1), "--num-workers", "2")
                    return
                except (AssertionError, OSError):
                    if tries == 1:
                        raise

    def test_bad_options(self):
        self.fails(78, "65536", "--http-port", "65535", "--num-workers", "2")
        self.fails(78, "--zmq-kv-events-ports", "--http-port", "0", "--num-workers", "3",
                   "--zmq-kv-events-ports", "20001,20002")
        self.fails(78, "--zmq-replay-ports", "--http-port", "0", "--num-workers", "2",
                   "--zmq-replay-ports", "65535")
        self.fails(65, "--num-gpu-blocks-override", "--http-port", "0",
                   "--num-gpu-blocks-override", "1")


if __name__ == "__main__":
    unittest.main()
