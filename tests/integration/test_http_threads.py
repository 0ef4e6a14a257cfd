# SPDX-License-Identifier: Apache-2.0
"""Several HTTP loops in one frontend. Connections are spread over them by the kernel, so each test uses
many: whichever loop has one, its answers are the same, and whenever its client goes away nothing
stays booked. The suites of the proxy run with JETROUTER_HTTP_THREADS=4 beside this."""
import json
import os
import random
import re
import signal
import threading
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import COMPLETION
from test_http_hostile import HOST, LIVE, PATIENCE, PAIR, Base, dial, post, read_until, \
    reset, status

THREADS, MANY = 4, 48
SEED = int(os.environ.get("JR_SEED", random.SystemRandom().getrandbits(32)))


class Several(Base):
    def several(self, *workers, **kw):
        return self.frontend(*workers, http_threads=THREADS, **kw)

    def settled(self, f):
        """No booking, no request, no load at any worker."""
        def left():
            pool = jr.pool(f.url)
            return {"bookings": pool["bookings"],
                    "inflight": jr.metric(f.url, "jetrouter_http_requests_inflight"),
                    "active": sum(w["active_requests"] for w in pool["workers"])}
        jr.wait_for(lambda: not any(left().values()), lambda: "nothing left: %s" % left(),
                    timeout=PATIENCE)

    def listeners(self, f):
        """Each loop has its own socket that listens on the port."""
        with open("/proc/net/tcp", encoding="ascii") as table:
            return sum(line.split()[1].endswith(":%04X" % f.port) and line.split()[3] == "0A"
                       for line in table)


class Serving(Several):
    def test_every_path_from_every_loop(self):
        f = self.several(self.worker(), self.worker())
        self.assertEqual(self.listeners(f), THREADS)
        for _ in range(MANY):
            for path in ("/health", "/live", "/ready", "/state", "/metrics", "/v1/models",
                         "/v1/models/tiny", "/busy_threshold"):
                self.assertEqual(jr.get(f.url + path)[0], 200, path)
            self.assertEqual(jr.get(f.url + "/v1/models/none")[0], 404)
            self.assertEqual(jr.get(f.url + "/nothing")[0], 404)
            self.assertEqual(jr.call("DELETE", f.url + "/health")[0], 405)
        self.settled(f)

    def test_counters_are_the_sum(self):
        workers = [self.worker(), self.worker()]
        f = self.several(*workers)
        for i in range(MANY):
            self.assertEqual(self.ask(f)[0], 200)
            self.assertEqual(self.ask(f, {**COMPLETION, "model": "none"})[0], 404)
        text = jr.get(f.url + "/metrics")[1].decode()

        def total(name, *words):
            return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                       if line.startswith(name + "{") and all(w in line for w in words))
        self.assertEqual(total("dynamo_frontend_requests_total", 'status="success"'), MANY)
        self.assertEqual(total("dynamo_frontend_requests_total", 'error_type="not_found"'), MANY)
        self.assertEqual(total("dynamo_frontend_request_duration_seconds_count", 'model="tiny"'), MANY)
        self.assertEqual(total("jetrouter_http_errors_total", '"404"'), MANY)
        self.assertEqual(sum(len(w.posts()) for w in workers), MANY)
        self.settled(f)

    def test_a_model_that_is_said_late_is_a_label_from_then_on(self):
        """What a loop remembers of the time before does not keep its requests without a model."""
        said = threading.Event()
        self.addCleanup(said.set)
        w = self.worker()
        w.hang_models = said
        f = self.several(w, ready=False)
        self.procs.wait_ready(f)

        def ask_many():
            for _ in range(MANY):
                self.assertEqual(self.ask(f, {**COMPLETION, "prompt": [1, 2, 3]})[0], 200)

        def by_model():
            """Requests and prompts."""
            text = jr.get(f.url + "/metrics")[1].decode()
            return {m: [sum(float(n) for n in re.findall(
                r'^dynamo_frontend_%s\{.*\bmodel="%s".*\} (\S+)$' % (name, m), text, re.M))
                for name in ("requests_total", "input_sequence_tokens_count")] for m in ("", "tiny")}
        ask_many()
        self.assertEqual(by_model(), {"": [MANY] * 2, "tiny": [0] * 2})
        said.set()
        jr.wait_for(lambda: all(w["model"] for w in jr.pool(f.url)["workers"]), "its model",
                    timeout=PATIENCE)
        ask_many()
        self.assertEqual(by_model(), {"": [MANY] * 2, "tiny": [MANY] * 2})
        self.settled(f)

    def test_the_second_to_ask_for_the_port_is_refused(self):
        f = self.several(self.worker())
        for n in (1, THREADS):
            other = self.procs.frontend("second%d" % n, port=f.port, worker=[self.worker().url],
                                        http_threads=n)
            self.assertNotEqual(other.popen.wait(PATIENCE), 0)
            self.assertIn("is in use", other.tail())
        self.serves(f)

    def test_tails_from_every_loop(self):
        f = self.several(self.worker())
        tails = [dial(f) for _ in range(MANY)]
        for s in tails:
            s.sendall(b"GET /admin/tail HTTP/1.1\r\n" + HOST + b"\r\n")
            self.assertEqual(status(read_until(s, b"\r\n\r\n")), 200)
        for s in tails[::2]:
            reset(s)
        self.serves(f)
        self.assertEqual(f.stop(), 0)  # in order, with those that are left
        for s in tails[1::2]:
            s.close()

    def test_one_limit_of_connections(self):
        f = self.several(self.worker(), http_connections_max=30)
        socks = [dial(f) for _ in range(20)]
        for s in socks:
            s.sendall(LIVE)
            self.assertEqual(status(read_until(s, b"}")), 200)
        more = [dial(f) for _ in range(30)]
        jr.wait_for(lambda: sum(self.is_closed(s) for s in more) >= 20, "those beyond are closed",
                    timeout=PATIENCE)
        for s in socks:
            s.sendall(LIVE)
            self.assertEqual(status(read_until(s, b"}")), 200)
        for s in socks + more:
            s.close()
        jr.wait_for(lambda: jr.try_get(f.url + "/live")[0] == 200, "it has room again", timeout=PATIENCE)

    @staticmethod
    def is_closed(s):
        s.setblocking(False)
        try:
            return s.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def test_certificate_of_every_loop(self):
        f = self.several(self.worker(), **PAIR)
        for _ in range(MANY):
            self.assertEqual(jr.get(f.url + "/live")[0], 200)
            self.serves(f)
        f.send(signal.SIGHUP)
        self.wait_log(f, "tls.certificate")
        for _ in range(MANY):
            self.serves(f)


class Leaving(Several):
    """Clients that go away at each stage of their requests, on all loops."""

    def setUp(self):
        super().setUp()
        self.seen, self.go = threading.Semaphore(0), threading.Event()
        self.addCleanup(self.go.set)

        def answer(request):
            if request.path == "/tokenize":
                self.seen.release()
                self.go.wait(PATIENCE)
                return play.plain(request)
            prompt = json.loads(request.body)["prompt"]
            if prompt not in ("wait", "stream"):
                return play.plain(request)
            if prompt == "stream":
                play.send_head(request)
                for _ in range(40):
                    play.send_chunk(request, b'data: {"choices":[{"index":0,"text":"a"}]}\n\n')
            self.seen.release()
            play.wait_gone(request, PATIENCE)
            return None
        self.worker_ = self.worker(answer)

    def leave(self, f, text, n_seen, until=None):
        for end in (reset, lambda s: s.close()):
            socks = [dial(f) for _ in range(MANY)]
            for s in socks:
                s.sendall(text)
            for s in socks:
                if until:
                    read_until(s, until)
            for _ in range(n_seen):
                self.assertTrue(self.seen.acquire(timeout=PATIENCE))
            for s in socks:
                end(s)
            self.settled(f)

    def test_while_it_waits_for_the_head(self):
        f = self.several(self.worker_)
        self.leave(f, post("wait"), MANY)
        self.serves(f)

    def test_within_the_answer(self):
        f = self.several(self.worker_)
        self.leave(f, post("stream", stream=True), MANY, b"data: ")
        self.serves(f)

    def test_while_it_is_tokenized(self):
        f = self.several(self.worker_, router_mode="kv", kv_cache_block_size=4,
                         tokenizer_timeout_secs=PATIENCE)
        self.leave(f, post("tokens"), 1)
        self.go.set()
        self.serves(f)
        self.settled(f)

    def test_at_any_moment(self):
        """Reset as soon as it was sent, or a little later: while it is read, placed, decided, sent."""
        rng = random.Random(SEED)
        print("seed", SEED)
        f = self.several(self.worker_, self.worker())
        for _ in range(40):
            socks = [dial(f) for _ in range(MANY)]
            for s in socks:
                s.sendall(post(rng.choice(("x", "x", "wait", "stream")), stream=rng.random() < 0.5))
                if rng.random() < 0.5:
                    reset(s)
            self.serves(f)
            for s in socks:
                if s.fileno() >= 0:
                    reset(s)
        self.settled(f)
        self.serves(f)


class Ending(Several):
    def streams(self, go):
        def answer(request):
            play.send_head(request)
            play.send_chunk(request, b'data: {"choices":[{"index":0,"text":"a"}]}\n\n')
            go.wait(PATIENCE)
            play.send_chunk(request, b"data: [DONE]\n\n")
            request.wfile.write(b"0\r\n\r\n")
        f = self.several(self.worker(answer), drain_timeout_secs=PATIENCE)
        socks = [dial(f) for _ in range(MANY)]
        for s in socks:
            s.sendall(post("x", stream=True))
            read_until(s, b"data: ")
        return f, socks

    def test_drain_lets_all_loops_finish(self):
        go = threading.Event()
        self.addCleanup(go.set)
        f, socks = self.streams(go)
        idle = [dial(f) for _ in range(MANY)]
        for s in idle:
            s.sendall(LIVE)
            read_until(s, b"}")
        f.send(signal.SIGTERM)
        for s in idle:  # none of them is kept
            self.assertEqual(s.recv(1), b"")
            s.close()
        go.set()
        for s in socks:
            self.assertIn(b"[DONE]", read_until(s, b"0\r\n\r\n"))
        self.assertEqual(f.popen.wait(PATIENCE), 0)

    def test_a_second_signal_ends_all_loops(self):
        go = threading.Event()
        self.addCleanup(go.set)
        f, socks = self.streams(go)
        f.send(signal.SIGTERM)
        self.wait_log(f, "frontend.drain")
        f.send(signal.SIGTERM)
        self.assertEqual(f.popen.wait(PATIENCE), 0)
        for s in socks:
            s.close()


if __name__ == "__main__":
    unittest.main()
