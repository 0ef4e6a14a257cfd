# SPDX-License-Identifier: Apache-2.0
"""Heads that pass through the frontend: to workers that this test plays, and back."""
import re
import socket
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import COMPLETION, Case

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
GIVEN = "6fa459ea-ee8a-3ca4-894e-db77e160355e"


def raw(f, lines, body=b'{"model":"tiny","prompt":"x"}'):
    """One request with exactly these lines: (status, [(name in lower case, value)], body)."""
    with socket.create_connection(("127.0.0.1", f.port), timeout=60) as s:
        s.sendall(b"POST /v1/completions?a=b&c HTTP/1.1\r\n" + b"".join(i + b"\r\n" for i in lines)
                  + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        data = b""
        while b"\r\n\r\n" not in data:
            data += s.recv(65536)
        head, rest = data.split(b"\r\n\r\n", 1)
        first, *fields = head.decode().split("\r\n")
        fields = [(k.lower(), v) for k, v in (i.split(": ", 1) for i in fields)]
        length = int(dict(fields)["content-length"])
        while len(rest) < length:
            rest += s.recv(65536)
        return int(first.split()[1]), fields, rest


class Headers(Case):
    def sent(self, f, worker, **headers):
        """What the worker got of a request with these headers, and the answer's."""
        body = headers.pop("body", COMPLETION)
        status, head, text = jr.call("POST", f.url + "/v1/completions", body,
                                     {k.replace("_", "-"): v for k, v in headers.items()})
        self.assertEqual(status, 200, text)
        return worker.posts()[-1].headers, head

    def test_what_the_client_sends_reaches_the_worker(self):
        w = self.worker()
        f = self.frontend(w)
        status, _, _ = raw(f, [
            b"Host: front", b"Authorization: Bearer k", b"x-unknown: a  b", b"X-Twice: 1", b"X-Twice: 2",
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"tracestate: a=1,b=2",
            b"Connection: close, X-Named", b"X-Named: no", b"Keep-Alive: timeout=9", b"TE: trailers",
            b"Proxy-Authorization: no", b"Upgrade: h2c", b"Trailer: x", b"X-Data-Parallel-Rank: 7",
            b"Content-Type: application/json; charset=utf-8"])
        self.assertEqual(status, 200)
        got = [r for r in w.requests if r.path != "/tokenize"][0]
        self.assertEqual(got.path, "/v1/completions?a=b&c")
        self.assertEqual(got.headers["Host"], "127.0.0.1:%d" % w.port)
        for name, value in (("Authorization", "Bearer k"), ("X-Unknown", "a  b"), ("Tracestate", "a=1,b=2"),
                            ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                            ("Content-Type", "application/json; charset=utf-8")):
            self.assertEqual(got.headers.get_all(name), [value])
        self.assertEqual(got.headers.get_all("X-Twice"), ["1", "2"])
        self.assertEqual(got.headers.get_all("X-Data-Parallel-Rank"), ["0"])
        for name in ("Connection", "X-Named", "Keep-Alive", "TE", "Proxy-Authorization", "Upgrade", "Trailer"):
            self.assertIsNone(got.headers[name], name)

    def test_what_the_worker_answers_comes_back(self):
        def answer(request):
            body = b'{"ok": true}'
            request.send_response(418)
            for name, value in (("Content-Type", "application/problem+json"), ("X-Served-By", "engine"),
                                ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Retry-After", "7"),
                                ("Connection", "close, X-Hop"), ("X-Hop", "no"), ("Keep-Alive", "x"),
                                ("Content-Length", len(body))):
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(body)
            request.close_connection = True
        f = self.frontend(self.worker(answer))
        status, head, body = raw(f, [b"Host: x"])
        self.assertEqual((status, body), (418, b'{"ok": true}'))
        got = {}
        for name, value in head:
            got.setdefault(name, []).append(value)
        self.assertEqual(got["content-type"], ["application/problem+json"])
        self.assertEqual(got["set-cookie"], ["a=1", "b=2"])
        self.assertEqual((got["x-served-by"], got["retry-after"]), (["engine"], ["7"]))
        self.assertEqual(got["content-length"], ["12"])
        for name in ("x-hop", "keep-alive", "connection", "x-jetrouter-worker"):
            self.assertNotIn(name, got)

    def test_request_ids(self):
        w = self.worker()
        f = self.frontend(w)
        sent, head = self.sent(f, w)
        self.assertRegex(sent["X-Request-Id"], "^%s$" % UUID4)
        self.assertEqual(head["x-request-id"], sent["X-Request-Id"])
        other, _ = self.sent(f, w)
        self.assertNotEqual(other["X-Request-Id"], sent["X-Request-Id"])
        for want, headers in (
                ("r-1", {"X_Request_Id": "r-1", "X_Dynamo_Request_Id": "r-2"}),
                ("any string", {"X_Dynamo_Request_Id": "any string"}),
                (GIVEN, {"body": {**COMPLETION, "user": GIVEN}}),
                ("r-3", {"X_Request_Id": "r-3", "body": {**COMPLETION, "user": GIVEN}})):
            with self.subTest(want):
                sent, head = self.sent(f, w, **headers)
                self.assertEqual(sent.get_all("X-Request-Id"), [want])
                self.assertEqual(head["x-request-id"], want)
        sent, _ = self.sent(f, w, body={**COMPLETION, "user": "someone"})
        self.assertTrue(re.fullmatch(UUID4, sent["X-Request-Id"]))

    def test_errors_carry_the_request_id(self):
        f = self.frontend(self.worker())
        status, head, _ = jr.call("POST", f.url + "/v1/completions", {**COMPLETION, "model": "other"},
                                  {"X-Request-Id": "r-9"})
        self.assertEqual((status, head["x-request-id"]), (404, "r-9"))

    def test_the_worker_is_told_on_request(self):
        w = self.worker()
        f = self.frontend(w)
        for value, told in (("1", True), ("true", True), ("0", False), (None, False)):
            _, head = self.sent(f, w, **({"X_Jetrouter_Explain": value} if value else {}))
            self.assertEqual(head.get("x-jetrouter-worker"), "1" if told else None, value)

    def test_a_compressed_stream_is_relayed(self):
        """It cannot be read on the way: nothing is written into it either, when it ends too soon."""
        half = b"\x1f\x8b\x08 no event"

        def answer(request):
            request.send_response(200)
            request.send_header("Content-Type", "text/event-stream")
            request.send_header("Content-Encoding", "gzip")
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            play.send_chunk(request, half)
            play.cut(request)
        f = self.frontend(self.worker(answer))
        with play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True}) as s:
            self.assertEqual(s.head(), 200)
            self.assertEqual(s.reply.getheader("Content-Encoding"), "gzip")
            self.assertEqual(s.rest(), (half, False))

    def test_a_target_that_is_too_long(self):
        w = self.worker()
        f = self.frontend(w)
        status, _, body = self.ask(f, path="/v1/completions?" + "q" * 5000)
        self.assert_error(status, body, 414, "4096")
        self.assertEqual(w.posts(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
