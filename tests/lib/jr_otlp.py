# SPDX-License-Identifier: Apache-2.0
"""An OpenTelemetry collector for tests: takes OTLP/HTTP and keeps the spans. It reads protobuf field by
field with the numbers of OpenTelemetry's own files, and knows nothing of the tree's. Python standard
library only."""
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KINDS = {1: "internal", 2: "server", 3: "client"}


def fields(data):
    """(number, value) of each field of a message: an int, or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
        elif kind == 1:
            yield number, data[at:at + 8]
            at += 8
        elif kind == 5:
            yield number, data[at:at + 4]
            at += 4
        else:
            assert kind == 2, "wire type %d" % kind
            size = varint()
            assert at + size <= len(data), "a field beyond the end of its message"
            yield number, data[at:at + size]
            at += size


def one(data, number, default=None):
    found = [v for n, v in fields(data) if n == number]
    return found[-1] if found else default


def many(data, number):
    return [v for n, v in fields(data) if n == number]


def value(data):
    """AnyValue."""
    for number, v in fields(data):
        if number == 1:
            return v.decode()  # strict: bad UTF-8 is an error, as in any collector
        if number == 2:
            return bool(v)
        if number == 3:
            return v - (1 << 64) if v >> 63 else v
        if number == 4:
            return struct.unpack("<d", v)[0]
    raise AssertionError("an attribute without a value")


def attributes(items):
    return {one(i, 1).decode(): value(one(i, 2)) for i in items}


class Span:
    def __init__(self, data, resource):
        self.resource = resource
        self.trace = one(data, 1).hex()
        self.id = one(data, 2).hex()
        self.state = one(data, 3, b"").decode()
        self.parent = one(data, 4, b"").hex()
        self.name = one(data, 5).decode()
        self.kind = KINDS[one(data, 6)]
        self.start, self.end = (struct.unpack("<Q", one(data, n))[0] for n in (7, 8))
        self.attrs = attributes(many(data, 9))
        self.events = {one(e, 2).decode(): struct.unpack("<Q", one(e, 1))[0] for e in many(data, 11)}
        status = one(data, 15, b"")
        self.failed, self.words = one(status, 3, 0) == 2, one(status, 2, b"").decode()
        self.flags = struct.unpack("<I", one(data, 16))[0]

    def __repr__(self):
        return "%s %s %s" % (self.name, self.parent, self.attrs)


def spans_of(body):
    """ExportTraceServiceRequest."""
    return [Span(s, attributes(many(one(r, 1), 1)))
            for r in many(body, 1) for scope in many(r, 2) for s in many(scope, 2)]


class Collector:
    """answers: what the next requests get, (status, headers, body) each, or None: nothing before the
    end; then 200."""

    def __init__(self, port=0):
        collector = self
        self.spans, self.requests, self.answers, self.sizes = [], [], [], []
        self.lock, self.end = threading.Lock(), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with collector.lock:
                    answer = collector.answers.pop(0) if collector.answers else (200, {}, b"")
                    if answer:
                        collector.requests.append((self.path, dict(self.headers), answer[0]))
                    if answer and answer[0] == 200:
                        collector.spans += spans_of(body)
                        collector.sizes.append(len(spans_of(body)))
                if not answer:
                    self.close_connection = True
                    collector.end.wait(600)
                    return
                self.send_response(answer[0])
                for name, text in answer[1].items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(answer[2])))
                self.end_headers()
                self.wfile.write(answer[2])

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", port), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def named(self, name, trace=None):
        with self.lock:
            return [s for s in self.spans if s.name == name and trace in (None, s.trace)]

    def trace(self, trace):
        with self.lock:
            return sorted((s for s in self.spans if s.trace == trace), key=lambda s: s.start)

    def close(self):
        self.end.set()
        self.server.shutdown()
        self.server.server_close()
