# SPDX-License-Identifier: Apache-2.0
"""TLS on both sides of the frontend, beside Python's ssl module."""
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import CHAT, COMPLETION, FAST, Case, neutral

PAIR = {"tls_cert_path": jr.tls_file("server.pem"), "tls_key_path": jr.tls_file("server.key")}
GET = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


def trust(name="ca.pem", alpn=None, version=None):
    context = ssl.create_default_context(cafile=jr.tls_file(name))
    if alpn:
        context.set_alpn_protocols(alpn)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def dial(f, context=None, session=None):
    raw = socket.create_connection(("127.0.0.1", f.port), timeout=30)
    return (context or trust()).wrap_socket(raw, server_hostname="localhost", session=session)


def ask(conn):
    """One GET on a kept connection."""
    conn.sendall(GET)
    data = b""
    while b"\r\n\r\n" not in data:
        data += conn.recv(65536)
    assert data.startswith(b"HTTP/1.1 200"), data
    return data


def serial(conn):
    return conn.getpeercert()["serialNumber"]


class Server(Case):
    def test_versions_and_alpn(self):
        f = self.frontend(self.worker(), **PAIR)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with dial(f, trust(alpn=["h2", "http/1.1"], version=version)) as conn:
                self.assertEqual(conn.selected_alpn_protocol(), "http/1.1")
                self.assertEqual(conn.version(), version.name.replace("_", "."))
                for _ in range(3):
                    ask(conn)
        with dial(f) as conn:
            self.assertIsNone(conn.selected_alpn_protocol())
            ask(conn)
        with self.assertRaises(ssl.SSLError):
            dial(f, trust(alpn=["h2"]))
        with self.assertRaises(ssl.SSLError):
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.load_verify_locations(jr.tls_file("ca.pem"))
            old.set_ciphers("ALL:@SECLEVEL=0")
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            dial(f, old)
        with self.assertRaises(ssl.SSLCertVerificationError):
            dial(f, trust("other-ca.pem"))
        failed = 'jetrouter_tls_handshakes_total{result="failed"}'
        jr.wait_for(lambda: jr.metric(f.url, failed) >= 3, "three failures counted")
        self.assertGreaterEqual(jr.metric(f.url, 'jetrouter_tls_handshakes_total{result="ok"}'), 4)

    def test_sessions_are_resumed(self):
        f = self.frontend(self.worker(), **PAIR)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trust(version=version)
            with dial(f, context) as conn:
                ask(conn)  # of TLS 1.3 the ticket comes along with it
                session = conn.session
                self.assertFalse(conn.session_reused)
            with dial(f, context, session) as conn:
                ask(conn)
                self.assertTrue(conn.session_reused)

    def test_answers_are_the_plain_ones(self):
        mocker = self.procs.mocker("workers", model_name="tiny", block_size=16, speedup_ratio=50)
        plain = self.frontend(*mocker.urls, name="plain")
        tls = self.frontend(*mocker.urls, name="tls", **PAIR)
        for path, body in (("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)):
            for more in ({}, {"stream": True}):
                answers = []
                for f in (plain, tls):
                    jr.post(mocker.urls[0] + "/reset_prefix_cache")
                    status, head, text = jr.call("POST", f.url + path, {**body, **more})
                    answers.append((status, head["content-type"], neutral(text)))
                self.assertEqual(answers[0], answers[1])

    def test_large_bodies_both_ways(self):
        text = os.urandom(5 << 20).hex().encode()

        def answer(request):
            play.send_head(request, "text/plain", len(request.body))
            request.wfile.write(request.body)
        f = self.frontend(self.worker(answer), **PAIR)
        body = b'{"model":"tiny","prompt":"x","user":"' + text + b'"}'
        status, _, back = jr.call("POST", f.url + "/v1/completions", body, timeout=120)
        self.assertEqual((status, len(back)), (200, len(body)))
        self.assertEqual(back, body)

    def test_cut_is_not_an_end(self):
        """Without a length only close_notify tells a whole answer from a cut one."""
        f = self.frontend(self.worker(), **PAIR)
        with dial(f) as conn:
            conn.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while True:
                piece = conn.recv(65536)
                if not piece:
                    break
                data += piece
            self.assertTrue(data.startswith(b"HTTP/1.1 200"), data)
            conn.unwrap()

    def test_plain_http_on_the_port(self):
        f = self.frontend(self.worker(), **PAIR)
        with socket.create_connection(("127.0.0.1", f.port), timeout=30) as raw:
            raw.sendall(GET)
            data = b""
            try:
                while piece := raw.recv(65536):
                    data += piece
            except ConnectionResetError:
                pass
            self.assertNotIn(b"HTTP/1.1 200", data)
        with dial(f) as conn:
            ask(conn)


class Reload(Case):
    def setUp(self):
        super().setUp()
        self.cert = os.path.join(self.procs.folder, "cert.pem")
        self.key = os.path.join(self.procs.folder, "key.pem")
        self.put("server", "server")
        self.f = self.frontend(self.worker(), tls_cert_path=self.cert, tls_key_path=self.key)

    def put(self, cert, key):
        shutil.copyfile(jr.tls_file(cert + ".pem"), self.cert)
        shutil.copyfile(jr.tls_file(key + ".key"), self.key)

    def reloads(self, result):
        return jr.metric(self.f.url, 'jetrouter_tls_reloads_total{result="%s"}' % result) or 0

    def reload(self, result):
        n = self.reloads(result) + 1
        self.f.send(signal.SIGHUP)
        jr.wait_for(lambda: self.reloads(result) == n, "a reload that is " + result)

    def test_new_pair(self):
        with dial(self.f) as old:
            before = serial(old)
            ask(old)
            self.put("second", "second")
            self.reload("ok")
            with dial(self.f) as new:
                self.assertNotEqual(serial(new), before)
                ask(new)
            ask(old)  # what was connected goes on

    def test_bad_pairs_change_nothing(self):
        with dial(self.f) as conn:
            before = serial(conn)
        for cert, key in (("second", "server"), ("server", "second")):
            self.put(cert, key)
            self.reload("failed")
        with open(self.key, "w", encoding="ascii") as out:
            out.write("no key\n")
        self.reload("failed")
        os.unlink(self.cert)
        self.reload("failed")
        self.wait_log(self.f, "tls.not_reloaded")
        self.wait_log(self.f, "does not belong to the certificate")
        with dial(self.f) as conn:
            self.assertEqual(serial(conn), before)
            ask(conn)
        self.put("second", "second")
        self.reload("ok")
        with dial(self.f) as conn:
            self.assertNotEqual(serial(conn), before)


class Workers(Case):
    """https:// URLs of workers, and of the router for ctl."""
    CA = {"https_ca": jr.tls_file("ca.pem")}

    def test_pooled_and_streamed(self):
        ports = set()

        def answer(request):
            ports.add(request.client_address[1])
            if not json.loads(request.body).get("stream"):
                return play.plain(request)
            play.send_head(request)
            for i in range(20):
                play.send_chunk(request, b'data: {"i":%d}\n\n' % i)
            play.send_chunk(request, b"data: [DONE]\n\n")
            return request.wfile.write(b"0\r\n\r\n")
        f = self.frontend(self.worker(answer, tls="server"), **self.CA)
        for _ in range(10):
            self.assertEqual(self.ask(f)[0], 200)
        with play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True}) as s:
            self.assertEqual(s.head(), 200)
            text, whole = s.rest()
        self.assertTrue(whole)
        self.assertEqual(text.count(b"data: "), 21)
        self.assertLess(len(ports), 5)  # of 11 requests; probes have connections, too

    def test_both_sides(self):
        text = os.urandom(3 << 20).hex().encode()

        def answer(request):
            play.send_head(request, "text/plain", len(request.body))
            request.wfile.write(request.body)
        f = self.frontend(self.worker(answer, tls="server"), **self.CA, **PAIR)
        body = b'{"model":"tiny","prompt":"x","user":"' + text + b'"}'
        status, _, back = jr.call("POST", f.url + "/v1/completions", body, timeout=120)
        self.assertEqual((status, back), (200, body))

    def test_wrong_name_is_passed_over(self):
        wrong, right = self.worker(tls="elsewhere"), self.worker(tls="server")
        f = self.frontend(wrong, right, ready=False, **self.CA)
        self.procs.wait_ready(f)
        for _ in range(6):
            self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual(wrong.posts(), [])
        self.wait_log(f, "tls.peer_failed")
        self.wait_log(f, "IP address mismatch")

    def test_insecure(self):
        f = self.frontend(self.worker(tls="elsewhere"), https_insecure=True)
        self.assertEqual(self.ask(f)[0], 200)
        self.wait_log(f, "tls.insecure")

    def test_death_within_a_stream(self):
        def answer(request):
            play.send_head(request)
            play.send_chunk(request, b'data: {"i":1}\n\n')
            play.cut(request)
        f = self.frontend(self.worker(answer, tls="server"), **self.CA)
        with play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True}) as s:
            s.head()
            self.assertIn(b'{"i":1}', s.rest()[0])

    def test_ctl(self):
        f = self.frontend(self.worker(), **PAIR)
        ok = self.ctl(f, "--https-ca", jr.tls_file("ca.pem"))
        self.assertEqual(ok.returncode, 0, ok.stderr)
        refused = self.ctl(f)
        self.assertEqual(refused.returncode, 69, refused.stderr)
        self.assertIn("tls.peer_failed", refused.stderr)
        missing = self.ctl(f, "--https-ca", "/no/such.pem")
        self.assertEqual(missing.returncode, 78, missing.stderr)
        self.assertIn("--https-ca", missing.stderr)

    def ctl(self, f, *args):
        return subprocess.run([jr.JETROUTER, "ctl", "workers", "--url", f.url, *args],
                              capture_output=True, text=True, timeout=60, check=False)


class Starts(unittest.TestCase):
    def test_table(self):
        rows = (
            ("no key", ["--tls-cert-path", PAIR["tls_cert_path"]], "--tls-key-path"),
            ("no certificate", ["--tls-key-path", PAIR["tls_key_path"]], "--tls-cert-path"),
            ("missing", ["--tls-cert-path", "/no/such.pem", "--tls-key-path", "/no/such.key"],
             "/no/such.pem: No such file"),
            ("authority", ["--https-ca", "/no/such.pem"], "--https-ca"),
            ("of two", ["--tls-cert-path", PAIR["tls_cert_path"], "--tls-key-path",
                        jr.tls_file("second.key")], "does not belong"),
        )
        for name, args, words in rows:
            with self.subTest(name):
                p = subprocess.run([jr.JETROUTER, "frontend", "--http-port", "0", "--worker",
                                    "http://127.0.0.1:1", "--log-level", "error", *args],
                                   capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual(p.returncode, 78, p.stderr)
                self.assertEqual(p.stderr.count("\n"), 1, p.stderr)
                self.assertIn(words, p.stderr)


if __name__ == "__main__":
    unittest.main()
