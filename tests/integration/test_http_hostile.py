# SPDX-License-Identifier: Apache-2.0
"""Clients that mean harm, or die: the frontend as a process, with workers that this test plays and
with mockers. Whatever they do, others are served meanwhile, and afterwards nothing is left: no
booking, no connection, no descriptor.

JR_CUT_ROUNDS: how often 32 streams are cut at the same moment (60)."""
import json
import os
import re
import resource
import select
import selectors
import socket
import ssl
import struct
import threading
import time
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import COMPLETION, Case

LOOPS = int(os.environ.get("JETROUTER_HTTP_THREADS", "1"))
ROUNDS = int(os.environ.get("JR_CUT_ROUNDS", "60"))
HOST = b"Host: x\r\n"
LIVE = b"GET /live HTTP/1.1\r\n" + HOST + b"\r\n"
PATIENCE = 120
SANITIZED = jr.sanitizer() != ""
PAIR = {"tls_cert_path": jr.tls_file("server.pem"), "tls_key_path": jr.tls_file("server.key")}


def post(prompt, **more):
    body = json.dumps({**COMPLETION, "prompt": prompt, **more}).encode()
    return (b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body)


def dial(f):
    s = socket.create_connection(("127.0.0.1", f.port), timeout=PATIENCE)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def read_all(s):
    data = b""
    try:
        while piece := s.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def read_until(s, end):
    data = b""
    while end not in data:
        piece = s.recv(65536)
        if not piece:
            break
        data += piece
    return data


def status(data):
    return int(data.split(b" ", 2)[1]) if data.startswith(b"HTTP/1.1 ") else 0


def descriptors(f):
    return len(os.listdir("/proc/%d/fd" % f.pid))


def first_free(f):
    """A limit of open files that lets it open no more."""
    used = {int(fd) for fd in os.listdir("/proc/%d/fd" % f.pid)}
    return next(fd for fd in range(len(used) + 1) if fd not in used)


def resident_kib(f):
    with open("/proc/%d/status" % f.pid, encoding="ascii") as text:
        return int(next(x for x in text if x.startswith("VmRSS")).split()[1])


def cpu_seconds(f):
    with open("/proc/%d/stat" % f.pid, encoding="ascii") as text:
        fields = text.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def counter(s, name):
    """Of /metrics, asked for on a connection that is there: for when there can be no other."""
    s.sendall(b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n")
    head, _, text = read_until(s, b"\r\n\r\n").partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
    while len(text) < length:
        text += s.recv(65536)
    return float(re.search(rb"(?m)^%s ([0-9.e+]+)" % name.encode(), text)[1])


def raise_limit():
    """Open files that a child, and this process, may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 25000), max(hard, 25000)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Base(Case):
    def nothing_left(self, f, before):
        """As before: descriptors, connections (the one that asks counts), requests, bookings. Of
        several loops, each may have come to an idle connection to each worker since, the main one
        to two: it asks how they are."""
        idle = (LOOPS + 1) * len(jr.pool(f.url)["workers"]) if LOOPS > 1 else 0

        def left():
            return {"descriptors": descriptors(f) - before - idle,
                    "connections": jr.metric(f.url, "jetrouter_http_connections") - 1,
                    "requests": jr.metric(f.url, "jetrouter_http_requests_inflight"),
                    "bookings": jr.pool(f.url)["bookings"]}
        jr.wait_for(lambda: all(v <= 0 for v in left().values()), lambda: "nothing left: %s" % left(),
                    timeout=PATIENCE)

    def serves(self, f):
        self.assertEqual(self.ask(f)[0], 200)


class Limits(Base):
    def setUp(self):
        super().setUp()
        self.f = self.frontend(self.worker(), http_body_limit_mb=1)

    def answer(self, *pieces):
        with dial(self.f) as s:
            try:
                for piece in pieces:
                    s.sendall(piece)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before all was sent
            return read_all(s)

    def assert_refused(self, code, *pieces):
        text = self.answer(*pieces)
        self.assertEqual(status(text), code, text[:200])
        self.assertEqual(text.count(b"HTTP/1.1 "), 1, text[:500])  # nothing behind it
        head, _, body = text.partition(b"\r\n\r\n")
        self.assertIn(b"Connection: close", head)
        self.assertEqual(json.loads(body)["code"], code)

    def test_heads(self):
        start = b"GET /live HTTP/1.1\r\n" + HOST
        self.assert_refused(431, start, b"X: " + b"v" * (1 << 20) + b"\r\n\r\n", LIVE)
        self.assert_refused(431, start, b"X: y\r\n" * 200 + b"\r\n", LIVE)
        self.assert_refused(431, start, b"X" * (1 << 17))
        self.assert_refused(431, b"GET /" + b"p" * (1 << 17))
        self.assertEqual(status(self.answer(start, b"X: " + b"v" * 60000 + b"\r\n\r\n")), 200)
        self.serves(self.f)

    def test_bodies(self):
        limit = 1 << 20
        head = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
        empty = b'{"model":"tiny","prompt":"","max_tokens":1}'
        full = empty.replace(b'""', b'"%s"' % (b"a" * (limit - len(empty))))
        self.assertEqual(len(full), limit)
        # Declared, one byte more: refused before a byte of it is sent.
        self.assert_refused(413, head, b"Content-Length: %d\r\n\r\n" % (limit + 1))
        self.assert_refused(400, head, b"Content-Length: 99999999999999999999\r\n\r\n")
        # Not declared: when the byte comes.
        chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        self.assert_refused(413, head, b"Transfer-Encoding: chunked\r\n\r\n", chunk * 17)
        with dial(self.f) as s:
            s.sendall(head + b"Content-Length: %d\r\n\r\n" % limit + full)
            self.assertEqual(status(read_until(s, b"\r\n\r\n")), 200)
        self.serves(self.f)

    def test_pipelined_behind_an_error(self):
        behind = LIVE * 5 + post("smuggled")
        for bad in (b"GET /live HTTP/1.1\r\n\r\n",  # no Host
                    b"GET /live HTTP/1.1\r\n" + HOST + b"A B: c\r\n\r\n",
                    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
                    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
                    b"Content-Length: 5\r\n\r\n0\r\n\r\n",
                    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with self.subTest(bad):
                before = jr.metric(self.f.url, 'jetrouter_http_bad_requests_total{reason="malformed"}')
                text = self.answer(LIVE + bad + behind)
                self.assertEqual(text.count(b"HTTP/1.1 200"), 1, text)
                self.assertEqual(text.count(b"HTTP/1.1 "), 2, text)
                self.assertEqual(
                    jr.metric(self.f.url, 'jetrouter_http_bad_requests_total{reason="malformed"}'),
                    before + 1)
        self.serves(self.f)

    def test_an_error_of_ours_does_not_end_the_connection(self):
        with dial(self.f) as s:
            s.sendall(b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n" + post("x", model="none") + LIVE)
            jr.wait_for(lambda: b"HTTP/1.1 200" in s.recv(65536, socket.MSG_PEEK), "the last answer")
            text = s.recv(65536)
            self.assertEqual([int(x[:3]) for x in text.split(b"HTTP/1.1 ")[1:]], [404, 404, 200], text)


class Slow(Base):
    def drip(self, f, pieces):
        """Each connection sends its piece again and again until it is told 408, while others are served: how often."""
        served, end = 0, time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as sel:
            for s, piece in pieces.items():
                sel.register(s, selectors.EVENT_READ, piece)
            while sel.get_map() and time.monotonic() < end:
                for key, _ in sel.select(0.05):
                    self.assertEqual(status(read_all(key.fileobj)), 408)
                    sel.unregister(key.fileobj)
                    key.fileobj.close()
                for key in list(sel.get_map().values()):
                    try:
                        key.fileobj.send(key.data)
                    except OSError:
                        pass  # its answer is there to be read
                self.serves(f)
                served += 1
            self.assertFalse(sel.get_map())
        return served

    def test_slowloris(self):
        """Heads that never end, a byte at a time: each has its time, whatever it sends meanwhile."""
        f = self.frontend(self.worker(), http_header_timeout_secs=2)
        before = descriptors(f)
        slow = [dial(f) for _ in range(200)]
        for s in slow:
            s.sendall(b"GET /live HTTP/1.1\r\n" + HOST + b"X: ")
        served = self.drip(f, {s: b"y" for s in slow})
        self.assertGreater(served, 2)
        self.assertGreaterEqual(
            jr.metric(f.url, 'jetrouter_http_bad_requests_total{reason="header_timeout"}'), 200)
        self.nothing_left(f, before)

    def test_bodies_that_stop(self):
        f = self.frontend(self.worker(), http_idle_timeout_secs=2)
        before = descriptors(f)
        stopped = [dial(f) for _ in range(50)]
        for i, s in enumerate(stopped):
            s.sendall(post("x" * 100)[:-1 - i])
        idle = dial(f)
        for s in stopped:
            self.assertEqual(status(read_all(s)), 408)
            s.close()
        self.assertEqual(read_all(idle), b"")
        idle.close()
        self.serves(f)
        self.nothing_left(f, before)

    def test_bodies_that_drip(self):
        """They always move on, a byte at a time: each has its time all the same."""
        f = self.frontend(self.worker(), http_body_timeout_secs=2)
        before = descriptors(f)
        slow = [dial(f) for _ in range(50)]
        head = b"POST /v1/completions HTTP/1.1\r\n" + HOST
        for i, s in enumerate(slow):
            s.sendall(head + (b"Content-Length: 100000\r\n\r\n" if i % 2 else
                              b"Transfer-Encoding: chunked\r\n\r\n"))
        self.drip(f, {s: b"x" if i % 2 else b"1\r\nx\r\n" for i, s in enumerate(slow)})
        self.assertEqual(
            jr.metric(f.url, 'jetrouter_http_bad_requests_total{reason="body_timeout"}'), 50)
        self.nothing_left(f, before)

    def test_bodies_that_fill_the_memory(self):
        """All connections together: more is told to come again, small requests are served, and once
        the bodies are gone there is room."""
        f = self.frontend(self.worker(), http_body_limit_mb=1, http_bodies_max_mb=2)
        before = descriptors(f)
        head = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 700000\r\n"
        held, refused = [], 0
        for _ in range(20):
            s = dial(f)
            s.sendall(head + b"Expect: 100-continue\r\n\r\n")
            answer = s.recv(25)
            if status(answer) == 100:  # it has its room
                s.sendall(b"x" * 600000)
                held.append(s)
                continue
            self.assertEqual(status(answer), 503)
            head_, _, body = (answer + read_all(s)).partition(b"\r\n\r\n")
            self.assertIn(b"\r\nRetry-After: 1\r\n", head_ + b"\r\n")
            self.assertEqual(json.loads(body)["error"]["code"], "overloaded")
            s.close()
            refused += 1
        self.assertEqual((len(held), refused), (2, 18))  # across all loops
        self.assertEqual(jr.metric(f.url, "jetrouter_http_bodies_refused_total"), refused)
        self.assertGreater(jr.metric(f.url, "jetrouter_http_bodies_bytes"), 1200000)
        self.serves(f)
        for s in held:
            reset(s)
        jr.wait_for(lambda: jr.metric(f.url, "jetrouter_http_bodies_bytes") == 0, "they are gone",
                    timeout=PATIENCE)
        with dial(f) as s:
            s.sendall(post("x" * 600000))
            self.assertEqual(status(read_until(s, b"\r\n\r\n")), 200)
        self.nothing_left(f, before)

    def test_handshakes_that_stop(self):
        f = self.frontend(self.worker(), http_header_timeout_secs=2, **PAIR)
        before = descriptors(f)
        stopped = [dial(f) for _ in range(50)]
        for i, s in enumerate(stopped):
            s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[:i % 12])
        for s in stopped:
            self.assertEqual(read_all(s), b"")
            s.close()
        self.serves(f)
        self.nothing_left(f, before)

    def test_a_slow_reader_throttles_its_worker(self):
        """What waits for a client is bounded; the worker is made to wait, and nobody else."""
        sent = [0]

        def answer(request):
            if json.loads(request.body)["prompt"] != "flood":
                return play.plain(request)
            play.send_head(request)
            try:
                for _ in range(2000):
                    play.send_chunk(request, b"data: " + b"z" * 65536 + b"\n\n")
                    sent[0] += 65536
            finally:
                request.close_connection = True
            return None
        f = self.frontend(self.worker(answer))
        before, rss = descriptors(f), resident_kib(f)
        s = dial(f)
        s.sendall(post("flood", stream=True))
        steady = [-1, 0]

        def stands():
            steady[1] = steady[1] + 1 if steady[0] == sent[0] > 0 else 0
            steady[0] = sent[0]
            return steady[1] > 10
        jr.wait_for(stands, "the worker waits", timeout=PATIENCE, every=0.1)
        self.assertLess(sent[0], 64 << 20)  # the kernel's buffers, and our bounded one
        if not SANITIZED:
            self.assertLess(resident_kib(f) - rss, 16 << 10)
        self.serves(f)
        reset(s)
        self.nothing_left(f, before)


class Deaths(Base):
    """A client goes away at each stage, by a reset, an end, or a half-close."""

    def setUp(self):
        super().setUp()
        self.seen, self.gone = threading.Semaphore(0), threading.Semaphore(0)

        def answer(request):
            prompt = json.loads(request.body)["prompt"]
            if prompt not in ("wait", "stream"):
                return play.plain(request)
            if prompt == "stream":
                play.send_head(request)
                play.send_chunk(request, b'data: {"choices":[{"index":0,"text":"a"}]}\n\n')
            self.seen.release()
            if play.wait_gone(request, PATIENCE):
                self.gone.release()
            return None
        self.f = self.frontend(self.worker(answer))
        self.serves(self.f)
        self.before = descriptors(self.f)

    def stage_head(self, s):
        s.sendall(post("x")[:60])

    def stage_body(self, s):
        s.sendall(post("x" * 1000)[:-10])

    def stage_chunked_body(self, s):
        s.sendall(b"POST /v1/completions HTTP/1.1\r\n" + HOST +
                  b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel")

    def stage_waiting(self, s):
        s.sendall(post("wait"))
        self.assertTrue(self.seen.acquire(timeout=PATIENCE))

    def stage_answer(self, s):
        s.sendall(post("stream", stream=True))
        read_until(s, b"data: ")
        self.assertTrue(self.seen.acquire(timeout=PATIENCE))

    def stage_behind_an_answer(self, s):
        s.sendall(post("x") + post("wait"))
        read_until(s, b"usage")
        self.assertTrue(self.seen.acquire(timeout=PATIENCE))

    def stage_between(self, s):
        s.sendall(LIVE)
        read_until(s, b"}")

    def run_stage(self, stage, end, n=12):
        socks = [dial(self.f) for _ in range(n)]
        for s in socks:
            stage(s)
        for s in socks:
            end(s)
        if stage in (self.stage_waiting, self.stage_answer, self.stage_behind_an_answer):
            for _ in socks:  # the worker is told at once
                self.assertTrue(self.gone.acquire(timeout=PATIENCE))
        self.nothing_left(self.f, self.before)
        self.serves(self.f)
        for s in socks:
            s.close()

    def test_all(self):
        def half(s):
            s.shutdown(socket.SHUT_WR)
        n = 0
        for name in sorted(dir(self)):
            for end in (reset, socket.socket.close, half):
                if name.startswith("stage_"):
                    with self.subTest(stage=name, end=end.__name__):
                        self.run_stage(getattr(self, name), end)
                        n += 1
        self.assertEqual(n, 21)


class Crowd(Base):
    def crowd(self, n, most_kib, **kw):
        """n connections, every other one after a request; KiB that each of them costs."""
        limit = raise_limit()
        n = min(n, limit - 500)
        f = self.frontend(self.worker(), http_idle_timeout_secs=600, **kw)
        self.serves(f)
        before, rss = descriptors(f), resident_kib(f)
        context = ssl.create_default_context(cafile=jr.tls_file("ca.pem")) if kw else None
        socks = []
        for i in range(n):
            s = dial(f)
            if context:
                s = context.wrap_socket(s, server_hostname="localhost")
            socks.append(s)
            if i % 2:
                s.sendall(LIVE)
                self.assertEqual(status(read_until(s, b"}")), 200)
        jr.wait_for(lambda: jr.metric(f.url, "jetrouter_http_connections") > n, "all are there",
                    timeout=PATIENCE)
        each = (resident_kib(f) - rss) / n
        print("%d idle connections%s: %.2f KiB each (limit of open files: %d)"
              % (n, " with TLS" if kw else "", each, limit))
        self.serves(f)
        for s in socks[:: max(1, n // 100)]:  # they are alive
            s.sendall(LIVE)
            self.assertEqual(status(read_until(s, b"}")), 200)
        for i, s in enumerate(socks):
            if i % 3 == 0:
                reset(s)
            else:
                s.close()
        self.nothing_left(f, before)
        self.serves(f)
        self.assertTrue(each < most_kib or SANITIZED, each)

    def test_ten_thousand_idle(self):
        self.crowd(10000, most_kib=4)

    def test_two_thousand_idle_with_tls(self):
        self.crowd(2000, most_kib=32, **PAIR)

    def test_more_than_allowed(self):
        f = self.frontend(self.worker(), http_connections_max=50)
        before = descriptors(f)
        socks = [dial(f) for _ in range(40)]  # what we asked with may still be closing
        for s in socks:
            s.sendall(LIVE)
            self.assertEqual(status(read_until(s, b"}")), 200)
        more = [dial(f) for _ in range(30)]
        with selectors.DefaultSelector() as sel:
            for s in more:
                sel.register(s, selectors.EVENT_READ)
            while len(sel.get_map()) > 10:
                ready = sel.select(PATIENCE)
                self.assertTrue(ready)
                for key, _ in ready:
                    self.assertEqual(read_all(key.fileobj), b"")
                    sel.unregister(key.fileobj)
        for s in socks:
            s.sendall(LIVE)
            self.assertEqual(status(read_until(s, b"}")), 200)
        for s in socks + more:
            s.close()
        self.nothing_left(f, before)
        self.assertGreaterEqual(jr.metric(f.url, "jetrouter_http_connections_refused_total"), 20)
        self.serves(f)


    def test_no_descriptors_left(self):
        """Whom there is no descriptor for waits, and is served once there are some again; who is
        connected is served on. Meanwhile no loop spins."""
        f = self.frontend(self.worker())
        self.serves(f)
        before = descriptors(f)
        old = dial(f)
        old.sendall(LIVE)
        self.assertEqual(status(read_until(old, b"}")), 200)
        limits = resource.prlimit(f.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(f.pid, resource.RLIMIT_NOFILE, (descriptors(f) + 10, limits[1]))
        socks = [dial(f) for _ in range(100)]
        for s in socks:
            s.sendall(LIVE)

        def pauses():
            return counter(old, "jetrouter_http_accept_pauses_total")
        jr.wait_for(lambda: pauses() > 2 * LOOPS, "pauses", timeout=PATIENCE)
        used = cpu_seconds(f)
        n = pauses()
        jr.wait_for(lambda: pauses() > n + 10, "more pauses", timeout=PATIENCE)
        print("%.2f s of CPU in %d pauses of %d loops" % (cpu_seconds(f) - used, pauses() - n, LOOPS))
        for s in socks[50:]:
            s.close()
        resource.prlimit(f.pid, resource.RLIMIT_NOFILE, limits)
        for s in socks[:50]:  # none was lost
            self.assertEqual(status(read_until(s, b"}")), 200)
            s.close()
        old.close()
        self.nothing_left(f, before)
        self.serves(f)


    def test_no_descriptor_for_a_connection_to_a_worker(self):
        """That is this replica's want: the client is told to come again, and no worker is thought ill of."""
        release = threading.Event()
        self.addCleanup(release.set)

        def slow(request):
            release.wait(PATIENCE)
            play.plain(request)
        worker = self.worker(slow)
        f = self.frontend(worker)
        control, waiting = dial(f), [dial(f) for _ in range(4 * LOOPS + 2)]  # some for each loop
        for s in [control, *waiting]:
            s.sendall(LIVE)
            self.assertEqual(status(read_until(s, b"}")), 200)
        limits = resource.prlimit(f.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(f.pid, resource.RLIMIT_NOFILE, (first_free(f), limits[1]))
        refused = 0
        end = time.monotonic() + 3  # in which the worker's health is asked for, too
        for s in waiting:
            s.sendall(post("hello"))
        while refused == 0 or time.monotonic() < end:  # those for whom there is a connection wait with the worker
            for s in select.select(waiting, [], [], PATIENCE)[0]:
                answer = read_until(s, b"}}")
                self.assertEqual(status(answer), 503, answer)
                self.assertIn(b"\r\nRetry-After: 1\r\n", answer)
                refused += 1
                s.sendall(post("hello"))
        counted = counter(control, 'jetrouter_proxy_failures_total{reason="no_descriptor"}')
        self.assertTrue(refused <= counted <= refused + len(waiting), (refused, counted))
        resource.prlimit(f.pid, resource.RLIMIT_NOFILE, limits)
        release.set()
        self.assertEqual([w["state"] for w in jr.pool(f.url)["workers"]], ["live"])
        self.assertEqual(jr.metric(f.url, "jetrouter_proxy_retries_total"), 0)
        self.serves(f)
        for s in [control, *waiting]:
            s.close()


class Worker(Base):
    def test_first_byte_timeout(self):
        """A worker that takes a request and says nothing is given up for another one."""
        def mute(request):
            play.wait_gone(request, PATIENCE)
        silent = [self.worker(mute), self.worker()]
        f = self.frontend(*silent, worker_first_byte_timeout_secs=2)
        for _ in range(2):
            self.serves(f)
        self.assertEqual(len(silent[0].posts()) + len(silent[1].posts()),
                         2 + jr.metric(f.url, "jetrouter_proxy_retries_total"))
        self.assertGreaterEqual(len(silent[0].posts()), 1)
        jr.wait_booked_out(f.url)


class Storm(Base):
    def test_32_streams_cut_at_the_same_moment(self):
        """Over and over: nothing stuck, leaked or booked."""
        mocker = self.procs.mocker("workers", n=4, model_name="tiny", block_size=16)
        f = self.frontend(*mocker.urls, router_mode="kv", kv_cache_block_size=16)
        for _ in range(8):
            self.serves(f)
        before, rss = descriptors(f), 0
        for round_ in range(ROUNDS):
            socks = [dial(f) for _ in range(32)]
            for i, s in enumerate(socks):
                s.sendall(post("round %d of client %d " % (round_ % 7, i) * 20, stream=True,
                               max_tokens=2000))
            for s in socks:
                self.assertIn(b"data: ", read_until(s, b"data: "))
            for s in socks:
                reset(s)
            if round_ % 20 == 0:
                self.nothing_left(f, before)
                self.serves(f)
            if round_ == ROUNDS // 4:
                rss = resident_kib(f)
        self.nothing_left(f, before)
        self.serves(f)
        gone = jr.metric(f.url, "dynamo_frontend_disconnected_clients")
        self.assertEqual(gone, 32 * ROUNDS)
        for url in mocker.urls:
            jr.wait_for(lambda u=url: jr.metric(u, "vllm:num_requests_running") in (0, None),
                        "the engines are idle", timeout=PATIENCE)
        print("%d rounds of 32 streams: %d cut; resident %d KiB a quarter of the way, %d at the end"
              % (ROUNDS, gone, rss, resident_kib(f)))


if __name__ == "__main__":
    unittest.main()
