# SPDX-License-Identifier: Apache-2.0
"""The chart's Pods as processes of this machine: three NATS servers from the rendered configuration, with TLS among
each other and to their clients, which need certificates too; two frontends, an engine and its bridge from the
environment of the rendered containers, the reset job and the request of `helm test`. Only addresses and paths are
replaced. Streams have three copies, each role may do what it must and nothing else, and a server that is lost is not
missed."""
import base64
import json
import os
import re
import socket
import ssl
import unittest

import chart
import jr_procs as jr

NAME = "rel-jetrouter"
BLOCK = 16
MINUTE = 60
VALUES = {
    "config": {"router-mode": "kv", "namespace": "Llm.EU", "drain-delay-secs": 0, "lease-ttl-secs": 15,
               "snapshot-compat": "dynamo-1.0"},
    "nats": {"tls": {"secretName": "nats-clients", "clientCertificate": True,
                     "server": {"secretName": "nats-servers", "requireClientCertificate": True}}},
    "reset": {"now": True, "token": "first"}}
# The Secrets of these names.
CLIENT, SERVER = ({key: os.path.join(jr.FIXTURES, "nats", "cluster-" + name) for key, name in (
    ("ca.crt", "ca.pem"), ("tls.crt", who + ".pem"), ("tls.key", who + "-key.pem"))} for who in ("client", "server"))
POOL = "namespace-llm-eu-component-backend"


def setUpModule():
    chart.need()


class Cluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.release = chart.Release(VALUES)
        cls.procs = jr.Procs()
        cls.addClassCleanup(cls.procs.close)
        cls.servers = cls.start_servers()
        cls.url = ",".join(s.url for s in cls.servers)
        jr.wait_for(lambda: all(cls.knows_a_leader(s) for s in cls.servers),
                    lambda: "the cluster\n" + "\n".join(s.tail() for s in cls.servers), 2 * MINUTE)
        cls.engine = cls.procs.mocker("engine", events=True, speedup_ratio=0, block_size=BLOCK)
        cls.bridge = cls.start_bridge()
        cls.replicas = [cls.start_frontend(name) for name in ("a", "b")]
        for i in range(2):
            jr.wait_for(lambda: cls.sees_the_worker(i),
                        lambda: "a live worker\n" + cls.bridge.tail() + cls.replicas[i].tail(), 3 * MINUTE, every=0.2)

    @classmethod
    def knows_a_leader(cls, server):
        """The probes of the start and of readiness, and that streams can be made."""
        probes = cls.release["StatefulSet", NAME + "-nats"]["spec"]["template"]["spec"]["containers"][0]
        if any(jr.try_get(server.monitor + probes[p]["httpGet"]["path"])[0] != 200 for p in ("startupProbe", "readinessProbe")):
            return False
        status, text = jr.try_get(server.monitor + "/jsz")
        return status == 200 and bool(json.loads(text).get("meta_cluster", {}).get("leader"))

    @classmethod
    def again(cls, proc):
        """A container that has ended is started again, as Kubernetes does it: one that meets a NATS that is slow at
        its very start ends."""
        if proc.running():
            return proc
        new = cls.procs.restart(proc, proc.env)
        for key in ("env", "url", "admin"):
            setattr(new, key, getattr(proc, key, None))
        return new

    @classmethod
    def sees_the_worker(cls, i):
        cls.bridge, cls.replicas[i] = cls.again(cls.bridge), cls.again(cls.replicas[i])
        if jr.try_get(cls.replicas[i].url + "/ready")[0] != 200:
            return False
        return [w["state"] for w in jr.pool(cls.replicas[i].url)["workers"]] == ["live"]

    @classmethod
    def secret(cls, name, key):
        return base64.b64decode(cls.release["Secret", name]["data"][key]).decode()

    @classmethod
    def env(cls, container, **replaced):
        """The environment of a container, its references resolved, as Kubernetes does it."""
        found = {}
        for name, value in chart.env(container).items():
            if isinstance(value, dict) and "secretKeyRef" in value:
                value = cls.secret(value["secretKeyRef"]["name"], value["secretKeyRef"]["key"])
            elif isinstance(value, dict):
                value = "of-this-pod"
            found[name] = re.sub(r"\$\((\w+)\)", lambda m: found[m.group(1)], value)
        assert set(replaced) <= set(found), set(replaced) - set(found)
        return {**found, **{k: str(v) for k, v in replaced.items()}}

    @classmethod
    def client_env(cls, container, **replaced):
        """Of one that speaks to NATS. The addresses are of this machine, the name in the certificates is the chart's."""
        urls = chart.env(container)["NATS_SERVER"].split(",")
        assert [u.split("//")[0] for u in urls] == ["tls:"] * 3, urls
        env = cls.env(container, NATS_SERVER=cls.url, JETROUTER_NATS_TLS_CA=CLIENT["ca.crt"],
                      JETROUTER_NATS_TLS_CERT=CLIENT["tls.crt"], JETROUTER_NATS_TLS_KEY=CLIENT["tls.key"], **replaced)
        return {**env, "JETROUTER_NATS_TLS_HOSTNAME": urls[0].split("//")[1].split(":")[0]}

    @classmethod
    def start_servers(cls):
        container = cls.release["StatefulSet", NAME + "-nats"]["spec"]["template"]["spec"]["containers"][0]
        config = os.path.join(cls.procs.folder, "nats.conf")
        with open(config, "w") as f:
            f.write(cls.release["ConfigMap", NAME + "-nats"]["data"]["nats.conf"])
        program = chart.go_program("nats-server") or jr.find_program("nats-server", "nats-server")
        port, routes, monitor = jr.free_port(3), jr.free_port(3), jr.free_port(3)
        servers = []
        for i in range(3):
            pod = "%s-nats-%d" % (NAME, i)
            env = cls.env(container, POD_NAME=pod, STORE_DIR=os.path.join(cls.procs.folder, pod),
                          CLUSTER_LISTEN="127.0.0.1:%d" % (routes + i), TLS_CA=SERVER["ca.crt"],
                          TLS_CERT=SERVER["tls.crt"], TLS_KEY=SERVER["tls.key"])
            for k in range(3):
                host = "%s-nats-%d.%s-nats.llm.svc:6222" % (NAME, k, NAME)
                assert env["ROUTE_%d" % k].endswith("@" + host)
                env["ROUTE_%d" % k] = env["ROUTE_%d" % k].replace(host, "127.0.0.1:%d" % (routes + k))
            assert container["command"] + container["args"] == ["nats-server", "-c", "/etc/nats/nats.conf"]
            p = cls.procs.start(pod, [program, "-c", config, "-a", "127.0.0.1", "-p", port + i, "-m", monitor + i], env)
            p.port, p.url, p.monitor = port + i, "tls://127.0.0.1:%d" % (port + i), "http://127.0.0.1:%d" % (monitor + i)
            servers.append(p)
        return servers

    @classmethod
    def start_bridge(cls):
        snippet = chart.yaml.safe_load(cls.release["ConfigMap", NAME + "-bridge-sidecar"]["data"]["sidecar.yaml"])
        container = snippet["initContainers"][0]
        events = int(cls.engine.argv[cls.engine.argv.index("--zmq-kv-events-ports") + 1])
        replays = int(cls.engine.argv[cls.engine.argv.index("--zmq-replay-ports") + 1])
        env = cls.client_env(container, JETROUTER_ENGINE_URL=cls.engine.urls[0], DYN_SYSTEM_PORT=0,
                             JETROUTER_KV_EVENTS_ENDPOINT="tcp://127.0.0.1:%d" % events,
                             JETROUTER_KV_EVENTS_REPLAY_ENDPOINT="tcp://127.0.0.1:%d" % replays)
        p = cls.procs.start("bridge", [cls.procs.jetrouter, *container["args"]], env)
        p.env = env
        return p

    @classmethod
    def start_frontend(cls, name):
        container = cls.release["Deployment", NAME]["spec"]["template"]["spec"]["containers"][0]
        cls.token = os.path.join(cls.procs.folder, "token")
        with open(cls.token, "w") as f:
            f.write(cls.secret(NAME + "-admin", "token"))
        port, admin = jr.free_port(), jr.free_port()
        env = cls.client_env(container, JETROUTER_REPLICA_ID=name, JETROUTER_ADMIN_PORT=admin,
                             JETROUTER_ADMIN_TOKEN_FILE=cls.token)
        env.update(DYN_HTTP_PORT=str(port), DYN_HTTP_HOST="127.0.0.1")
        p = cls.procs.start("frontend-" + name, [cls.procs.jetrouter, *container["args"]], env)
        p.env, p.url, p.admin = env, "http://127.0.0.1:%d" % port, "http://127.0.0.1:%d" % admin
        return p

    def ask(self, url, first):
        status, _, text = jr.call("POST", url + "/v1/completions", {
            "model": "mock-model", "prompt": list(range(first, first + 8 * BLOCK + 1)), "max_tokens": 2})
        self.assertEqual(status, 200, text)
        return json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"]

    def routed(self, first):
        """A prompt asked of one replica is known to both by the engine's events."""
        before = [jr.pool(r.url)["applied_seq"] for r in self.replicas]
        self.ask(self.replicas[0].url, first)
        for r, seq in zip(self.replicas, before):
            jr.wait_for(lambda: jr.pool(r.url)["applied_seq"] > seq, lambda: "the engine's events\n" + r.tail(), MINUTE)
        self.assertGreater(self.ask(self.replicas[1].url, first), 0)

    def streams(self):
        """{name: configured copies} of the account, as a server tells."""
        found = {}
        for s in self.servers:
            if s.running():
                said = jr.get_json(s.monitor + "/jsz?streams=1&config=1&accounts=1")
                for account in said.get("account_details", []):
                    self.assertEqual(account["name"], "JETROUTER")
                    for stream in account.get("stream_detail", []):
                        found[stream["name"]] = stream["config"]["num_replicas"]
        return found

    def admin(self, replica, *words):
        env = {"JETROUTER_ADMIN_TOKEN_FILE": self.token, "JETROUTER_URL": replica.admin}
        return self.procs.start("ctl", [self.procs.jetrouter, "ctl", *words], env)

    def test_1_requests_are_routed_by_what_the_log_says(self):
        self.routed(1)

    def test_2_every_stream_has_three_copies(self):
        def written():
            """The bucket of snapshots comes with the first one; only the leader writes."""
            return any(self.admin(r, "snapshot").popen.wait(MINUTE) == 0 for r in self.replicas)
        jr.wait_for(written, "a snapshot", MINUTE)
        got = self.streams()
        want = {POOL + "-kv-events", POOL + "-active-sequences", "KV_" + POOL + "-leases", "KV_" + POOL + "-state",
                "OBJ_" + POOL + "-snapshots"}
        self.assertLessEqual(want, set(got))
        self.assertEqual(set(got.values()), {3}, got)

    def test_3_roles_may_do_no_more(self):
        events, empty = POOL + "-kv-events", " 0\r\n"
        for user, line in [
                ("router", "PUB %s.batch" % events + empty), ("router", "PUB $JS.API.STREAM.DELETE.%s" % events + empty),
                ("router", "PUB $JS.API.STREAM.CREATE.OTHER" + empty), ("router", "SUB > 1"),
                ("bridge", "PUB %s.control" % events + empty), ("bridge", "PUB $JS.API.STREAM.PURGE.%s" % events + empty),
                ("bridge", "PUB $KV.%s-state.snapshots" % POOL + empty), ("bridge", "SUB > 1")]:
            said = self.violations(user, self.secret(NAME + "-nats", user + "-password"), line)
            self.assertIn("ermissions Violation", said, "%s was allowed: %s" % (user, line))
        for user, password in (("router", "wrong"), ("", ""), ("router", self.secret(NAME + "-nats", "bridge-password"))):
            self.assertIn("Authorization Violation", self.violations(user, password, "PUB x 0\r\n"))
        # Who watches the servers sees no stream of ours.
        said = self.violations("sys", self.secret(NAME + "-nats", "sys-password"), "SUB $JS.API.> 1")
        self.assertEqual(said, "")

    def connection(self, server, cert=CLIENT):
        """A socket to a server, past its greeting and the handshake."""
        s = socket.create_connection(("127.0.0.1", server.port), timeout=MINUTE)
        while s.recv(1) != b"\n":  # INFO comes in the clear
            pass
        context = ssl.create_default_context(cafile=CLIENT["ca.crt"])
        if cert:
            context.load_cert_chain(cert["tls.crt"], cert["tls.key"])
        return context.wrap_socket(s, server_hostname="127.0.0.1")

    def violations(self, user, password, line):
        """The errors a server answers this line of a user with."""
        with self.connection(self.servers[0]) as s, s.makefile("rb") as f:
            s.sendall(b'CONNECT {"verbose":false,"pedantic":false,"user":"%s","pass":"%s"}\r\n%s\r\nPING\r\n' % (
                user.encode(), password.encode(), line.encode()))
            said = ""
            while True:
                got = f.readline()
                if got.startswith(b"PONG") or not got:
                    return said
                if got.startswith(b"-ERR"):
                    said += got.decode()

    def test_3_servers_speak_tls_alone(self):
        for server in self.servers:
            said = jr.get_json(server.monitor + "/varz")
            self.assertEqual([said[k] for k in ("tls_required", "tls_verify")], [True, True])
            self.assertEqual([said["cluster"][k] for k in ("tls_required", "tls_verify")], [True, True])
            # Clients keep to the names they were given.
            self.assertNotIn("connect_urls", said)
            seen = jr.get_json(server.monitor + "/connz")["connections"]
            self.assertTrue(all(c["tls_version"] in ("1.2", "1.3") for c in seen), seen)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            with self.connection(self.servers[0], cert=None) as s:
                s.sendall(b"PING\r\n")  # TLS 1.3: the refusal comes after our part of the handshake
                if not s.recv(64):
                    raise ConnectionError("closed")

    def test_4_the_reset_job(self):
        container = self.release["Job", NAME + "-reset"]["spec"]["template"]["spec"]["containers"][0]
        env = self.env(container, JETROUTER_URL=self.replicas[0].admin, JETROUTER_ADMIN_TOKEN_FILE=self.token)

        def run(token):
            p = self.procs.start("reset", [self.procs.jetrouter, *container["args"]], {**env, "JETROUTER_RESET_TOKEN": token})
            self.assertEqual(p.popen.wait(MINUTE), 0, p.tail())

        def epochs():
            return [jr.pool(r.url)["epoch"] for r in self.replicas]

        # Each token once: the first was taken at the start of the replicas, by their environment.
        self.assertEqual(env["JETROUTER_RESET_TOKEN"], "first")
        start = epochs()[0]
        for token, n in (("first", 0), ("second", 1), ("second", 1), ("third", 2)):
            run(token)
            if n:
                jr.wait_for(lambda: epochs() == [start + n] * 2, lambda: "reset %s: %s" % (token, epochs()), MINUTE)
        env["JETROUTER_ADMIN_TOKEN_FILE"] = os.devnull
        p = self.procs.start("reset-without", [self.procs.jetrouter, *container["args"]], env)
        self.assertNotEqual(p.popen.wait(MINUTE), 0)

    def test_5_the_request_of_helm_test(self):
        container = self.release["Pod", NAME + "-test"]["spec"]["containers"][0]
        trace = os.path.join(self.procs.folder, "trace.jsonl")
        with open(trace, "w") as f:
            f.write(self.release["ConfigMap", NAME + "-test"]["data"]["trace.jsonl"])
        env = self.env(container, JETROUTER_URL=self.replicas[0].url, JETROUTER_TRACE=trace)
        p = self.procs.start("test", [self.procs.jetrouter, *container["args"]], env)
        self.assertEqual(p.popen.wait(MINUTE), 0, p.tail())
        env["JETROUTER_URL"] = "http://127.0.0.1:%d" % jr.free_port()
        p = self.procs.start("test-wrong", [self.procs.jetrouter, *container["args"]], env)
        self.assertNotEqual(p.popen.wait(MINUTE), 0)

    def test_6_one_server_less(self):
        self.servers[0].kill()
        for r in self.replicas:
            jr.wait_for(lambda: jr.get_json(r.url + "/state")["nats"]["connected"], "another server", MINUTE)
        self.routed(5000)

    def test_7_nobody_asked_for_what_is_not_allowed(self):
        for p in [self.bridge, *self.replicas]:
            with open(p.log) as f:
                self.assertNotIn("ermissions Violation", f.read(), p.name)


if __name__ == "__main__":
    chart.use_venv(__file__)
    unittest.main()
