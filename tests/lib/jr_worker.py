# SPDX-License-Identifier: Apache-2.0
"""A worker that a test plays itself, byte by byte, and a client that looks closely. Python standard
library only."""
import http.client
import json
import socket
import ssl
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import jr_procs as jr


class Worker:
    """answer(request) is called in a thread of the connection for each POST; the request has .path,
    .headers, .body (bytes), .wfile, and .gone, which is set when the client has closed."""

    def __init__(self, answer=None, model="tiny", port=0, tls=None):
        """tls: the name of a certificate of the fixtures."""
        worker = self
        self.answer, self.model, self.healthy = answer or plain, model, True
        self.requests, self.hang_health, self.hang_models = [], None, None
        self.connections = set()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # pieces go out as they are written

            def do_GET(self):
                if self.path == "/health" and worker.hang_health:
                    worker.hang_health.wait(60)
                if self.path == "/v1/models" and worker.hang_models:
                    worker.hang_models.wait(60)
                if self.path == "/v1/models":
                    body = {"object": "list", "data": [{"id": worker.model, "object": "model"}]}
                    return send_json(self, 200, body)
                return send_json(self, 200 if worker.healthy else 503, {})

            def do_POST(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                # A connection has one handler for all of its requests.
                worker.requests.append(SimpleNamespace(path=self.path, headers=self.headers, body=self.body))
                try:
                    worker.answer(self)
                    self.wfile.flush()
                except OSError:
                    pass

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, address):
                pass

            def process_request(self, request, address):
                worker.connections.add(request)
                super().process_request(request, address)

            def shutdown_request(self, request):
                worker.connections.discard(request)
                super().shutdown_request(request)

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.url = "%s://127.0.0.1:%d" % ("https" if tls else "http", self.port)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(jr.tls_file(tls + ".pem"), jr.tls_file(tls + ".key"))
            # The handshake is the connection's thread's, not the listener's.
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def posts(self, path="/v1/completions"):
        return [r for r in self.requests if r.path == path]

    def close(self):
        """As its process would: what is connected is cut off, too."""
        self.server.shutdown()
        self.server.server_close()
        for s in list(self.connections):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def send_json(request, status, body):
    data = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def send_head(request, content_type="text/event-stream", length=None):
    request.send_response(200)
    request.send_header("Content-Type", content_type)
    if length is None:
        request.send_header("Transfer-Encoding", "chunked")
    else:
        request.send_header("Content-Length", str(length))
    request.end_headers()


def send_chunk(request, data):
    request.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    request.wfile.flush()


def cut(request):
    """Ends the connection without ending the answer."""
    request.wfile.flush()
    request.close_connection = True
    request.connection.shutdown(socket.SHUT_RDWR)


def wait_gone(request, timeout=30):
    """Until the peer has closed; False when it did not."""
    request.connection.settimeout(timeout)
    request.close_connection = True
    try:
        return request.connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def usage(prompt=8, completion=1):
    return {"prompt_tokens": prompt, "completion_tokens": completion,
            "total_tokens": prompt + completion}


def plain(request):
    """One token, in either shape."""
    if request.path == "/tokenize":
        tokens = list(range(len(json.loads(request.body).get("prompt") or "")))
        return send_json(request, 200, {"count": len(tokens), "max_model_len": 4096,
                                        "tokens": tokens})
    return send_json(request, 200, {"id": "x", "object": "text_completion", "model": "tiny",
                                    "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}],
                                    "usage": usage()})


class Stream:
    """A POST whose answer is read piece by piece."""

    def __init__(self, url, body, headers=None, timeout=30):
        parts = urllib.parse.urlsplit(url)
        self.conn = jr.connection(parts, timeout)
        data = body if isinstance(body, bytes) else json.dumps(body)
        self.conn.request("POST", parts.path, data,
                          {"Content-Type": "application/json", **(headers or {})})
        self.reply = None

    def head(self):
        self.reply = self.conn.getresponse()
        return self.reply.status

    def line(self):
        return self.reply.readline()

    def rest(self):
        """(bytes, was the answer whole)."""
        data = b""
        try:
            while True:
                piece = self.reply.read1(65536)
                if not piece:
                    return data, not self.reply.length
                data += piece
        except http.client.IncompleteRead as e:
            return data + e.partial, False
        except (http.client.HTTPException, OSError):
            return data, False

    def close(self):
        self.conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
