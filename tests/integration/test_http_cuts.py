# SPDX-License-Identifier: Apache-2.0
"""A request and an answer in two pieces, cut at every byte: what reaches the worker, the client and
the counters of the frontend is the same."""
import json
import socket
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import COMPLETION, Case

EVENTS = b"".join(b"data: %s\n\n" % json.dumps(x).encode() for x in (
    {"id": "x", "object": "text_completion", "model": "tiny",
     "choices": [{"index": 0, "text": "a\u20ac"}]},
    {"id": "x", "object": "text_completion", "model": "tiny",
     "choices": [{"index": 0, "text": "\n\n", "finish_reason": "stop"}]},
    {"id": "x", "object": "text_completion", "model": "tiny", "choices": [],
     "usage": play.usage(8, 2)})) + b": comment\r\n\r\ndata: [DONE]\n\n"


def dechunk(raw):
    """(body, whole) of a chunked answer."""
    _, _, rest = raw.partition(b"\r\n\r\n")
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        n = int(size, 16)
        body, rest = body + rest[:n], rest[n + 2:]
        if n == 0:
            return body, rest == b""


class Cuts(Case):
    def setUp(self):
        super().setUp()
        self.cut, self.bodies = len(EVENTS), []

        def answer(request):
            self.bodies.append(request.body)
            play.send_head(request)
            for piece in (EVENTS[:self.cut], EVENTS[self.cut:]):
                if piece:
                    play.send_chunk(request, piece)
            request.wfile.write(b"0\r\n\r\n")
        self.f = self.frontend(self.worker(answer))
        self.sock = socket.create_connection(("127.0.0.1", self.f.port), timeout=60)
        self.addCleanup(self.sock.close)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def converse(self, request, cut):
        for piece in (request[:cut], request[cut:]):
            self.sock.sendall(piece)
        raw = b""
        while not raw.endswith(b"\r\n0\r\n\r\n"):
            piece = self.sock.recv(65536)
            self.assertTrue(piece, raw)
            raw += piece
        return dechunk(raw)

    def request(self, chunked=False):
        body = json.dumps({**COMPLETION, "prompt": "h\u00e9 \u20ac", "stream": True}).encode()
        if chunked:
            framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            framed = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        return body, b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + framed

    def test_request(self):
        for chunked in (False, True):
            body, request = self.request(chunked)
            for cut in range(1, len(request)):
                self.assertEqual(self.converse(request, cut), (EVENTS, True), cut)
                self.assertEqual(self.bodies.pop(), body, cut)

    def test_answer(self):
        _, request = self.request()
        for cut in range(1, len(EVENTS)):
            self.cut = cut
            self.assertEqual(self.converse(request, len(request)), (EVENTS, True), cut)
        n = len(EVENTS) - 1
        tokens = 'dynamo_frontend_output_sequence_tokens_sum{model="tiny"}'
        self.assertEqual(jr.metric(self.f.url, tokens), 2 * n)
        jr.wait_booked_out(self.f.url)


if __name__ == "__main__":
    unittest.main()
