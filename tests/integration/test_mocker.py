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

import jr_procs as jr

JETROUTER = os.environ["JETROUTER"]


class Mocker:
    """A mocker on free ports; its engines' ports are read from its log, which says those of some only, or
    count up from `port`."""

    def __init__(self, *args, engines=1, port=0):
        self.proc = subprocess.Popen(
            [JETROUTER, "mocker", "--http-host", "127.0.0.1", "--http-port", str(port),
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
        if port and "mocker.ready" in self.lines[-1]:
            self.ports = list(range(port, port + engines))
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

    def complete(self, prompt, max_tokens=4, path="/v1/completions", engine=0, **kw):
        return self.json("POST", path, {"model": "tiny", "prompt": prompt,
                                        "max_tokens": max_tokens, **kw}, engine=engine)

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


def threads_and_memory(pid):
    with open("/proc/%d/status" % pid) as f:
        text = f.read()
    return [int(re.search(r"^%s:\s+(\d+)" % name, text, re.M).group(1)) for name in ("Threads", "VmRSS")]


class Ranks(unittest.TestCase):
    def setUp(self):
        self.kv, self.replay = jr.free_port(4), jr.free_port(4)
        self.m = Mocker("--speedup-ratio", "0", "--block-size", "16", "--data-parallel-size", "2",
                        "--zmq-kv-events-ports", str(self.kv), "--zmq-replay-ports", str(self.replay), engines=2)

    def tearDown(self):
        self.assertEqual(self.m.stop(), 0)

    def on_rank(self, prompt, rank):
        headers = {} if rank is None else {"X-data-parallel-rank": str(rank)}
        return self.m.json("POST", "/v1/completions", {"model": "tiny", "prompt": prompt, "max_tokens": 1},
                           headers=headers)

    def blocks(self):
        ranks = self.m.json("GET", "/mock/cache")[1]["ranks"]
        self.assertEqual([r["dp_rank"] for r in ranks], [0, 1])
        return [len(r["blocks"]) for r in ranks]

    def test_each_has_a_cache_of_its_own(self):
        ids = list(range(100))
        for rank, hits in ((1, 0), (1, 96), (0, 0), (0, 96)):
            status, reply = self.on_rank(ids, rank)
            self.assertEqual((status, cached(reply)), (200, hits))
        self.assertEqual(self.blocks(), [6, 6])
        for rank in (2, -1, "x"):
            status, reply = self.on_rank(ids, rank)
            self.assertEqual(status, 400)
            self.assertIn("out of range [0, 2)", reply["error"]["message"])
        # Nobody says which: they take turns while neither has more to do.
        for i in range(4):
            self.assertEqual(self.on_rank([1000 + i] * 16, None)[0], 200)
        self.assertEqual(self.blocks(), [8, 8])
        text = self.m.call("GET", "/metrics")[2].decode()
        for name, value in (("generation_tokens_total", 4), ("num_requests_running", 0)):
            for rank in "01":
                self.assertIn('vllm:%s{engine="%s",model_name="tiny"} %d\n' % (name, rank, value), text)
        self.assertEqual(self.m.json("POST", "/reset_prefix_cache"), (200, {"success": True}))
        self.assertEqual(self.blocks(), [0, 0])
        self.on_rank(ids, 1)
        self.assertEqual(self.m.json("POST", "/mock/restart"), (200, {"restarted": True}))
        self.assertEqual(self.blocks(), [0, 0])
        self.assertEqual(self.on_rank(ids, 1)[0], 200)

    def test_ports_count_on(self):
        for engine in range(2):
            status, sources = self.m.json("GET", "/kv_event_sources", engine=engine)
            self.assertEqual((status, sorted(sources)), (200, ["0", "1"]))
            for rank in range(2):
                at = 2 * engine + rank
                self.assertEqual(sources[str(rank)]["endpoint"], "tcp://127.0.0.1:%d" % (self.kv + at))
                self.assertEqual(sources[str(rank)]["replay_endpoint"], "tcp://127.0.0.1:%d" % (self.replay + at))
                self.assertTrue(jr.port_open(self.kv + at))


class ManyEngines(unittest.TestCase):
    def test_share_their_threads(self):
        n = 200
        kv, replay = jr.free_port(n), jr.free_port(n)
        m = Mocker("--speedup-ratio", "0", "--block-size", "16", "--zmq-kv-events-ports", str(kv),
                   "--zmq-replay-ports", str(replay), engines=n, port=jr.free_port(n))
        try:
            threads, kib = threads_and_memory(m.proc.pid)
            print("%d engines: %d threads, %d MiB" % (n, threads, kib >> 10), flush=True)
            self.assertLess(threads, 16)
            for engine in (0, 1, n // 2, n - 1):
                self.assertEqual(m.complete(list(range(64)), engine=engine)[0], 200)
                blocks = m.json("GET", "/mock/cache", engine=engine)[1]["ranks"][0]["blocks"]
                self.assertEqual(len(blocks), 4)
            for engine in (0, n - 1):
                self.assertEqual(m.json("POST", "/mock/restart", engine=engine), (200, {"restarted": True}))
                self.assertTrue(jr.port_open(kv + engine))
                self.assertTrue(jr.port_open(replay + engine))
            self.assertEqual(threads_and_memory(m.proc.pid)[0], threads)
        finally:
            self.assertEqual(m.stop(), 0)


class Faults(unittest.TestCase):
    """What a real engine does on a bad day, told over HTTP while it runs."""

    def setUp(self):
        self.m = Mocker("--speedup-ratio", "100")

    def fault(self, text):
        status, said = self.m.json("POST", "/mock/faults?" + text)
        self.assertEqual(status, 200, said)
        return said

    def test_refuse_hang_slow(self):
        ids = [5] * 64
        self.assertEqual(self.m.complete(ids)[0], 200)
        self.assertEqual(self.fault("refuse=true")["refuse"], True)
        for path in ("/health", "/v1/models", "/metrics"):
            self.assertEqual(self.m.call("GET", path)[0], 503)
        self.assertEqual(self.m.call("POST", "/v1/completions", {"model": "tiny", "prompt": ids})[0], 503)
        self.fault("refuse=false")
        self.assertEqual(self.m.complete(ids)[0], 200)
        self.fault("hang=true")
        conn = http.client.HTTPConnection("127.0.0.1", self.m.ports[0], timeout=0.5)
        conn.request("GET", "/health")
        with self.assertRaises(TimeoutError):
            conn.getresponse()
        conn.close()
        self.fault("hang=false")
        self.assertEqual(self.m.call("GET", "/health")[0], 200)
        # 30 steps of 12 ms, 100 times faster, and then 100 times slower than that.
        self.fault("slow=100")
        since = time.monotonic()
        self.assertEqual(self.m.complete(ids, 30)[0], 200)
        self.assertGreater(time.monotonic() - since, 0.34)
        self.assertEqual(self.m.json("POST", "/mock/faults?slow=0")[0], 400)
        self.assertEqual(self.m.json("POST", "/mock/faults?refuse=true&nonsense=1")[0], 400)
        self.assertEqual(self.m.json("GET", "/mock/faults")[1]["refuse"], False)
        self.assertEqual(self.m.stop(), 0)

    def test_crash(self):
        conn = http.client.HTTPConnection("127.0.0.1", self.m.ports[0], timeout=30)
        conn.request("POST", "/v1/completions", json.dumps(
            {"model": "tiny", "prompt": [1] * 100, "max_tokens": 100000, "stream": True}))
        reply = conn.getresponse()
        reply.read(10)
        crash = http.client.HTTPConnection("127.0.0.1", self.m.ports[0], timeout=30)
        crash.request("POST", "/mock/crash")
        with self.assertRaises((http.client.HTTPException, OSError)):
            crash.getresponse()
        with self.assertRaises((http.client.HTTPException, OSError)):
            while reply.read(4096):
                pass
            raise http.client.IncompleteRead(b"")  # the end of the connection is the end of the body
        self.assertEqual(self.m.proc.wait(timeout=60), 1)
        self.m.drain.join()
        self.m.proc.stderr.close()
        conn.close()
        crash.close()

    def test_startup_delay(self):
        self.assertEqual(self.m.stop(), 0)
        since = time.monotonic()
        self.m = Mocker("--startup-delay-secs", "1.5")
        status = self.m.call("GET", "/health")[0]
        if time.monotonic() - since < 1.4:  # else the machine was too slow to see it
            self.assertEqual(status, 503)
        wait_for(lambda: self.m.call("GET", "/health")[0] == 200, "the engine has started")
        self.assertGreaterEqual(time.monotonic() - since, 1.5)
        self.assertEqual(self.m.complete([1, 2, 3])[0], 200)
        self.assertEqual(self.m.stop(), 0)


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
        port = jr.free_port(2)
        with socket.create_server(("127.0.0.1", port + 1)):
            self.fails(73, str(port + 1), "--http-host", "127.0.0.1", "--http-port", str(port),
                       "--num-workers", "2")

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
