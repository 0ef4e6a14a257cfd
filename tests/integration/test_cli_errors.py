#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line as a process: exit codes, one line on stderr, help and dumps."""
import json
import os
import socket
import subprocess
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JETROUTER = os.environ["JETROUTER"]
COMMANDS = ["frontend", "router", "bridge", "mocker", "replay", "ctl"]


def run(*args, env=None):
    base = {k: v for k, v in os.environ.items() if not k.startswith(("DYN_", "NATS_", "JETROUTER_"))}
    return subprocess.run([JETROUTER, *args], env={**base, **(env or {})}, capture_output=True,
                          text=True, timeout=20, stdin=subprocess.DEVNULL)


class Lines(unittest.TestCase):
    def assert_fails(self, args, code, *words, env=None):
        p = run(*args, env=env)
        with self.subTest(args=args, stderr=p.stderr):
            self.assertEqual(p.returncode, code)
            self.assertEqual(p.stdout, "")
            self.assertEqual(p.stderr.count("\n"), 1, "one line")
            self.assertTrue(p.stderr.startswith("jetrouter"))
            self.assertTrue(p.stderr.endswith(".\n"))
            for word in words:
                self.assertIn(word, p.stderr)


class Errors(Lines):
    def test_commands(self):
        self.assert_fails([], 64, "a command is missing", "frontend")
        self.assert_fails(["frontned"], 64, "'frontned'", "'frontend'")
        self.assert_fails(["foo"], 64, "unknown command 'foo'. ")
        self.assert_fails(["docs", "nothing"], 64, "config, metrics, errors, man")

    def test_options(self):
        self.assert_fails(["frontend", "--htpp-port", "1"], 64, "jetrouter frontend: ",
                          "--htpp-port", "--http-port", "See --help")
        self.assert_fails(["frontend", "--bogus"], 64, "unknown option --bogus. ")
        self.assert_fails(["frontend", "--http-port"], 64, "needs a value")
        self.assert_fails(["frontend", "word"], 64, "'word'")
        self.assert_fails(["bridge"], 78, "--engine-url", "required", "--engines-dir")
        self.assert_fails(["replay"], 64, "--trace", "required")
        self.assert_fails(["router"], 64, "--endpoint", "required")

    def test_values(self):
        self.assert_fails(["frontend", "--http-port", "70000"], 65, "--http-port", "'70000'",
                          "0..65535")
        self.assert_fails(["mocker", "--num-workers", "0"], 65, "--num-workers", "'0'", "1..1024")
        self.assert_fails(["frontend", "--router-mode=best"], 65, "'best'", "round-robin")
        self.assert_fails(["frontend"], 65, "DYN_HTTP_PORT", "'many'", "0..65535",
                          env={"DYN_HTTP_PORT": "many"})
        self.assert_fails(["frontend", "--namespace", "a\nb" * 100], 65, "--namespace")

    def test_rules(self):
        self.assert_fails(["frontend", "--no-router-kv-events", "--durable-kv-events"], 78,
                          "--router-kv-events", "docs/configuration.md")
        self.assert_fails(["mocker", "--bridge"], 78, "--zmq-kv-events-ports")
        self.assert_fails(["frontend", "--admin-port", "8000"], 78, "--admin-port and --http-port")
        for servers in ("foo:bar:baz", "http://x", " ", ",", "nats://", "nats://u:p@", "nats://x:0", "nats://x:y",
                        "x:4222,x y:70000", "[::1", "tls://x/path", "::1"):
            self.assert_fails(["frontend", "--check-config", "--nats-server", servers], 78, "--nats-server")
            self.assert_fails(["bridge", "--engine-url", "http://x:1", "--kv-events-endpoint", "tcp://x:2"], 78,
                              "--nats-server", env={"NATS_SERVER": servers})

    def test_ports_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            host = ["--http-host", "127.0.0.1", "--worker", "http://127.0.0.1:1"]
            self.assert_fails(["frontend", *host, "--http-port", port], 73,
                              "frontend: --http-port: port %s on 127.0.0.1 is in use. Choose another port" % port)
            self.assert_fails(["frontend", *host, "--http-port", "0", "--admin-port", port], 73,
                              "frontend: --admin-port: port %s on 127.0.0.1 is in use. Choose another port" % port)

    def test_dump_to_nowhere(self):
        self.assert_fails(["mocker", "--dump-config-to", "/no/such/folder/x"], 74,
                          "/no/such/folder/x", "No such file")


class CheckConfig(Lines):
    def test_good(self):
        for args in (["frontend"], ["frontend", "--router-mode", "kv"], ["router", "--endpoint", "a.b.c"],
                     ["mocker", "--num-workers", "3"]):
            p = run(*args, "--check-config")
            self.assertEqual((p.returncode, p.stderr), (0, ""))
            self.assertEqual(p.stdout, "jetrouter %s: the options are good\n" % args[0])

    def test_policy_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write("uncached_isl_buckets: [{min_tokens: 0, bucket: all}]\npolicy_classes:\n"
                    "- {name: a, policy_family: f, cache_bucket: all, queue_policy: fcfs, quantum: 1}\n"
                    "default_policy_family: f\n")
            f.flush()
            for args in (["frontend", "--router-mode", "kv"], ["router", "--endpoint", "a.b.c"]):
                p = run(*args, "--check-config", "--router-policy-config", f.name)
                self.assertEqual((p.returncode, p.stderr), (0, ""))
            p = run("frontend", "--check-config", "--router-policy-config", f.name,
                    "--router-queue-threshold", "1")
            self.assertEqual(p.returncode, 0)
            self.assertIn("--router-mode kv", p.stderr)
            self.assertIn("--router-queue-threshold", p.stderr)
            f.write("- {}\n")
            f.flush()
            name = os.path.basename(f.name)
            for more in ([], ["--check-config"]):
                self.assert_fails(["router", "--endpoint", "a.b.c", "--router-policy-config",
                                   f.name, *more], 78,
                                  "--router-policy-config", name + ", line 5: is no YAML")
            f.seek(0)
            f.truncate()
            f.write("uncached_isl_buckets: [{min_tokens: 7, bucket: all}]\n"
                    "policy_classes: []\ndefault_policy_family: f\n")
            f.flush()
            self.assert_fails(["frontend", "--router-mode", "kv", "--router-policy-config", f.name],
                              78, name + ", line 1: min_tokens: of the first bucket must be 0")
        self.assert_fails(["router", "--endpoint", "a.b.c", "--check-config"], 78, "/no/such.yaml",
                          env={"DYN_ROUTER_POLICY_CONFIG": "/no/such.yaml"})

    def test_nats_servers(self):
        for servers in ("nats", "nats:4222", "nats://a:1,nats://b:2", "tls://u:p@ss@a.b:4222/, 10.0.0.1", "[::1]:4222",
                        "nats://[fe80::1%eth0]"):
            p = run("frontend", "--check-config", "--nats-server", servers)
            self.assertEqual((p.returncode, p.stderr), (0, ""), servers)
        for args in (["frontend", "--worker", "http://x:1"], ["frontend", "--embedded-nats", "/"], ["mocker"]):
            p = run(*args, "--check-config", env={"NATS_SERVER": "foo:bar:baz"})
            self.assertEqual((p.returncode, p.stderr), (0, ""), args)

    def test_bad(self):
        self.assert_fails(["frontend", "--check-config", "--router-track-output-blocks",
                           "--no-router-track-active-blocks"], 78, "--router-track-active-blocks")
        self.assert_fails(["frontend", "--check-config", "--https-ca", "/no/such"], 78, "--https-ca",
                          "/no/such", "No such file")
        self.assert_fails(["bridge", "--check-config"], 78, "--engine-url")
        self.assert_fails(["bridge", "--engines-dir", "/", "--worker-id", "1"], 78, "--engines-dir")

    def test_what_has_no_effect_is_said_once(self):
        p = run("frontend", "--check-config", "-i", "--enforce-disagg", "--model-path", "/x",
                env={"ETCD_ENDPOINTS": "http://etcd:2379"})
        self.assertEqual(p.returncode, 0, p.stderr)
        for flag in ("interactive", "enforce-disagg", "model-path", "etcd-endpoints"):
            self.assertEqual(p.stderr.count("--%s has no effect" % flag), 1, p.stderr)
        self.assertEqual(p.stderr.count("\n"), 4, p.stderr)

    def test_commands_of_dynamos_documentation(self):
        """Each starts unchanged; the mode, ports and weights they set are those that are in effect."""
        frontend = [
            "--router-mode kv --http-port 8000",
            "--router-mode kv --router-replica-sync --router-snapshot-threshold 10000 --router-reset-states",
            "--router-mode kv --http-port 8000 --kv-overlap-score-weight 0",
            "--router-mode kv --no-kv-events --router-ttl 60 --router-max-tree-size 1000",
            "--router-mode round_robin --discovery-backend file --request-plane tcp --event-plane zmq",
            "--router-mode kv --durable-kv-events --no-track-active-blocks --kv-cache-block-size 16",
            "--enforce-disagg --namespace prod --migration-limit 3 --metrics-prefix my_frontend",
            "--active-decode-blocks-threshold 0.85 --active-prefill-tokens-threshold None "
            "--active-prefill-tokens-threshold-frac 1.5 --admission-control token-capacity",
            "--router-mode kv --router-queue-threshold 2.0 --router-queue-policy wspt --enable-cache-control",
            "--load-aware", "--router-mode kv --agentic",
            "--dyn-chat-processor vllm --dyn-tool-call-parser hermes --kserve-grpc-server",
        ]
        router = [
            "--endpoint dynamo.prefill.generate --router-block-size 64 --router-reset-states "
            "--no-router-track-active-blocks",
            "--endpoint dynamo.prefill.generate --block-size 128 --no-track-active-blocks",
        ]
        for command, lines in (("frontend", frontend), ("router", router)):
            for line in lines:
                p = run(command, *line.split(), "--check-config")
                self.assertEqual((p.returncode, line, p.stdout),
                                 (0, line, "jetrouter %s: the options are good\n" % command), p.stderr)


class Ctl(Lines):
    """ctl against a replica that this test plays."""

    STATE = {"replica": {"id": "r1", "incarnation": "5", "version": "0.1.0", "ready": True,
                         "uptime_s": 3},
             "nats": {"connected": True, "server": "nats://x:4222", "reconnects": 0},
             "pools": [{"namespace": "n", "component": "backend", "stream": "s", "applied_seq": 41,
                        "stream_last_seq": 42, "digest": "00ff", "blocks": 7, "entries": 9,
                        "index_bytes": 4096, "workers": [], "snapshot": None, "peers": [],
                        "recovery_state": "READY"}]}

    @classmethod
    def setUpClass(cls):
        test = cls

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path == "/state":
                    self.answer(200, json.dumps(test.STATE).encode())
                elif self.path == "/admin/tail":
                    self.send_response(200)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for part in (b'{"seq":1,"kind"', b':"batch"}\n{"seq":2}\n', b""):
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                        self.wfile.flush()
                else:
                    self.answer(404, b"nothing here")

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization")
                if self.path == "/admin/drain":
                    self.answer(503, b"<html>busy</html>")
                elif token != "Bearer s3cret":
                    self.answer(403, b'{"message":"not from loopback","code":403}')
                elif self.path == "/admin/reset":
                    self.answer(202, b'{"accepted":"reset"}')
                else:
                    self.answer(202, b'{"message":"snapshot begun"}')

            def log_message(self, *args):
                pass

        cls.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        cls.url = f"http://127.0.0.1:{cls.server.server_port}"
        cls.thread = threading.Thread(target=cls.server.serve_forever, daemon=True)
        cls.thread.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def ctl(self, *args):
        p = run("ctl", "--url", self.url, *args)
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        return p.stdout

    def test_words(self):
        self.assert_fails(["ctl"], 64, "state", "tail")
        self.assert_fails(["ctl", "stat"], 64, "'stat'", "'state'")
        self.assert_fails(["ctl", "state", "more"], 64, "'more'")
        self.assert_fails(["ctl", "--url", "nowhere", "state"], 65, "--url", "http://")
        self.assert_fails(["ctl", "--admin-token-file", "/no/such", "state"], 78, "/no/such")

    def test_unreachable(self):
        self.assert_fails(["ctl", "--url", "http://127.0.0.1:1", "state"], 69, "127.0.0.1:1")
        self.assert_fails(["ctl", "--url", "http://127.0.0.1:1", "tail"], 69, "127.0.0.1:1")
        p = run("ctl", "skip", "--seq", "1", "--nats-server", "nats://127.0.0.1:1")
        self.assertEqual(p.returncode, 80, p.stderr)
        self.assertNotIn("--embedded-nats", p.stderr)

    def test_state(self):
        self.assertEqual(json.loads(self.ctl("state", "--json")), self.STATE)
        self.assertIn("READY", self.ctl("state"))
        self.assertEqual(self.ctl("workers"), "no workers\n")
        self.assertIn("00ff", self.ctl("digest"))
        self.assertIn("this one", self.ctl("replicas"))

    def test_actions(self):
        with tempfile.NamedTemporaryFile("w", suffix=".token") as f:
            f.write("s3cret\n")
            f.flush()
            token = ("--admin-token-file", f.name)
            for wait in ("--wait", "--no-wait"):
                self.assert_fails(["ctl", "--url", self.url, "snapshot", wait, *token], 75, "leads no pool")
            self.STATE["pools"][0]["leader"] = True
            self.addCleanup(self.STATE["pools"][0].pop, "leader")
            self.assertEqual(self.ctl("snapshot", "--no-wait", *token), "snapshot begun\n")
            self.assertEqual(self.ctl("reset", *token), "accepted: reset\n")
            f.write("more\n")
            f.flush()
            self.assert_fails(["ctl", "--url", self.url, "reset", *token], 78, f.name, "one token")
        self.assert_fails(["ctl", "--url", self.url, "reset"], 78, "403", "not from loopback",
                          "--admin-token-file")
        self.assert_fails(["ctl", "--url", self.url, "drain"], 75, "503", "busy")

    def test_tail(self):
        self.assertEqual(self.ctl("tail"), "seq=1 kind=batch\nseq=2\n")
        self.assertEqual(self.ctl("tail", "--json"), '{"seq":1,"kind":"batch"}\n{"seq":2}\n')


class Output(unittest.TestCase):
    def test_help(self):
        for args in (["help"], ["--help"], ["-h"]):
            p = run(*args)
            self.assertEqual((p.returncode, p.stderr), (0, ""))
            for command in COMMANDS:
                self.assertIn(f"\n  {command} ", p.stdout)
        actions = run("ctl", "--help").stdout
        self.assertIn("; or NATS: skip", actions)
        self.assertIn("1..18014398509481984", actions)
        for command in COMMANDS:
            p = run(command, "--no-such", "--help")
            self.assertEqual((p.returncode, p.stderr), (0, ""))
            self.assertEqual(p.stdout, run("help", command).stdout)
            self.assertIn("--log-level", p.stdout)
            self.assertLessEqual(max(map(len, p.stdout.splitlines())), 130)

    def test_version(self):
        p = run("--version")
        self.assertEqual(p.returncode, 0)
        self.assertRegex(p.stdout, r"^jetrouter \d+\.\d+\.\d+\n$")

    def test_version_of_a_command(self):
        for command in COMMANDS:
            self.assertEqual(run(command, "--version").stdout, run("--version").stdout)

    def test_dump_config(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "config.json")
            # The last word is refused by ctl itself, after the dump: nothing is started.
            p = run("ctl", "--json", "--dump-config-to", path, "no-such-action",
                    env={"JETROUTER_URL": "http://me:1", "DYN_LOG": "trace"})
            self.assertEqual(p.returncode, 64, p.stderr)
            with open(path, encoding="utf-8") as f:
                dump = json.load(f)
        self.assertEqual(dump["command"], "ctl")
        options = dump["options"]
        self.assertEqual(options["url"], {"value": ["http://me:1"], "source": "env"})
        self.assertEqual(options["json"], {"value": True, "source": "cli"})
        self.assertEqual(options["log-level"], {"value": "debug", "source": "env"})
        self.assertEqual(options["log-format"], {"value": "text", "source": "default"})
        self.assertNotIn("http-port", options)


if __name__ == "__main__":
    unittest.main()
