# SPDX-License-Identifier: Apache-2.0
"""Every way into NATS: passwords, tokens, nkeys, credentials, TLS, several servers; what is wrong is said in
one line. And the least that a router and a bridge must be allowed, with which everything works."""
import json
import os
import socket
import subprocess
import unittest

import jr_procs as jr

FILES = os.path.join(jr.FIXTURES, "nats")
BLOCK = 16
# The pair of the documentation of NATS.
SEED = "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
NKEY = "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L"
OTHER_SEED = "SUABGLV2N7LEWBW3YE7GCPQAKKQL77K5V4QARYFJKNZVQPFMU7YXNJEMJI"


def file(name):
    return os.path.join(FILES, name)


def tls(cert="server", verify=False):
    return 'tls {\n  cert_file: "%s"\n  key_file: "%s"\n  ca_file: "%s"\n  verify: %s\n  timeout: 5\n}\n' % (
        file(cert + ".pem"), file(cert + "-key.pem"), file("ca.pem"), str(verify).lower())


class Access(unittest.TestCase):
    def setUp(self):
        self.procs = jr.procs_of(self)

    def opens(self, nats, env=None, url=None, **kw):
        """A replica gets to ready, so its streams, buckets and readers all work."""
        r = self.procs.frontend("right", nats=url or nats.url, env=env, namespace="access", **kw)
        self.procs.wait_ready(r)
        self.assertTrue(jr.get_json(r.url + "/state")["nats"]["connected"])
        return r

    def refused(self, nats, words, env=None, url=None, **kw):
        """It ends at once, with an exit code and one line that says what was wrong."""
        p = self.procs.frontend("wrong", nats=url or nats.url, env=env, namespace="access", **kw)
        jr.wait_for(lambda: not p.running(), lambda: "the end of a replica that was refused\n" + p.tail())
        self.assertNotEqual(p.code(), 0)
        said = p.tail()
        for word in words:
            self.assertIn(word.lower(), said.lower())
        self.procs.all.remove(p)
        return said

    def test_user_and_password(self):
        nats = self.procs.nats(config='authorization { users: [{user: router, password: "right"}] }\n')
        self.refused(nats, ["connecting to NATS", "authorization violation"],
                     env={"NATS_AUTH_USERNAME": "router", "NATS_AUTH_PASSWORD": "wrong"})
        self.refused(nats, ["connecting to NATS", "authorization violation"])
        self.opens(nats, env={"NATS_AUTH_USERNAME": "router", "NATS_AUTH_PASSWORD": "right"})

    def test_token(self):
        nats = self.procs.nats(config='authorization { token: "right" }\n')
        self.refused(nats, ["authorization violation"], env={"NATS_AUTH_TOKEN": "wrong"})
        self.opens(nats, env={"NATS_AUTH_TOKEN": "right"})

    def test_nkey(self):
        nats = self.procs.nats(config="authorization { users: [{nkey: %s}] }\n" % NKEY)
        said = self.refused(nats, ["nkey", "no user seed"], env={"NATS_AUTH_NKEY": SEED[:-1]})
        self.assertNotIn(SEED[:20], said)  # mistyped, it is still a secret
        self.refused(nats, ["authorization violation"], env={"NATS_AUTH_NKEY": OTHER_SEED})
        self.opens(nats, env={"NATS_AUTH_NKEY": SEED})

    def test_credentials_file(self):
        with open(file("operator.conf")) as f:
            nats = self.procs.nats(config=f.read())
        self.refused(nats, ["authorization violation"], env={"NATS_AUTH_CREDENTIALS_FILE": file("wrong.creds")})
        self.refused(nats, ["/nonexistent"], env={"NATS_AUTH_CREDENTIALS_FILE": "/nonexistent"})
        self.opens(nats, env={"NATS_AUTH_CREDENTIALS_FILE": file("user.creds")})

    def test_tls(self):
        nats = self.procs.nats(config=tls())
        secure = nats.url.replace("nats://", "tls://")
        self.refused(nats, ["certificate"], url=secure, nats_tls_ca=file("stranger.pem"))
        self.refused(nats, ["certificate"], url=secure)  # the system's authorities did not sign it
        self.refused(nats, ["/nonexistent"], url=secure, nats_tls_ca="/nonexistent")
        self.refused(nats, ["certificate"])  # the server wants TLS, whatever its URL says
        r = self.opens(nats, url=secure, nats_tls_ca=file("ca.pem"))

        def again(cert):
            """The server has ended and comes back with that certificate."""
            self.procs.stop(nats)
            with open(os.path.join(self.procs.folder, "nats.conf"), "w") as f:
                f.write(tls(cert))
            return self.procs.restart(nats)

        def connects():
            said = jr.get_json(r.url + "/state")["nats"]
            return said["connected"] and said["reconnects"]

        nats = again("server")
        first = jr.wait_for(connects, lambda: "the same server again\n" + r.tail(), 60)
        nats = again("elsewhere")
        jr.wait_for(lambda: "mismatch" in r.tail(1000), lambda: "what is wrong with its certificate\n" + r.tail(), 60)
        self.assertFalse(connects())
        nats = again("server")
        jr.wait_for(lambda: (connects() or 0) > first, lambda: "the right server again\n" + r.tail(), 60)

    def test_tls_to_a_server_without(self):
        nats = self.procs.nats()
        self.refused(nats, ["connecting to NATS", "secure"], url=nats.url.replace("nats://", "tls://"))

    def test_tls_with_the_certificate_of_another_name(self):
        nats = self.procs.nats(config=tls("elsewhere"))
        secure = nats.url.replace("nats://", "tls://")
        self.refused(nats, ["mismatch"], url=secure, nats_tls_ca=file("ca.pem"), nats_tls_hostname="here.example")
        # Without a name, the one of the URL.
        self.refused(nats, ["mismatch"], url=secure, nats_tls_ca=file("ca.pem"))
        self.opens(nats, url=secure, nats_tls_ca=file("ca.pem"), nats_tls_hostname="elsewhere.example")

    def test_tls_with_client_certificates(self):
        nats = self.procs.nats(config=tls(verify=True))
        secure = nats.url.replace("nats://", "tls://")
        self.refused(nats, ["connecting to NATS"], url=secure, nats_tls_ca=file("ca.pem"))
        self.opens(nats, url=secure, nats_tls_ca=file("ca.pem"), nats_tls_cert=file("client.pem"),
                   nats_tls_key=file("client-key.pem"))

    def test_several_servers(self):
        """The first is not there; later the one in use goes and the other takes over."""
        first = self.procs.nats("first")
        gone = "nats://127.0.0.1:%d" % jr.free_port()
        second_port = jr.free_port()
        urls = ",".join([gone, first.url, "nats://127.0.0.1:%d" % second_port])
        r = self.opens(first, url=urls)
        first.stop()
        jr.wait_for(lambda: not jr.get_json(r.url + "/state")["nats"]["connected"], "the loss of the server")
        second = self.procs.start("second", [first.argv[0], "-a", "127.0.0.1", "-p", str(second_port), "-js", "-sd",
                                             os.path.join(self.procs.folder, "second")])
        jr.wait_for(lambda: jr.get_json(r.url + "/state")["nats"]["connected"],
                    lambda: "the other server\n" + r.tail() + second.tail())


# ---------------------------------------------------------------- least privilege

# What docs/operations.md lists, with the names of this pool; the test holds the page to it.
NAMESPACE, COMPONENT = "least", "backend"
POOL = "namespace-%s-component-%s" % (NAMESPACE, COMPONENT)


def permissions(role):
    """The list of the page: lines between its markers, `publish` and `subscribe`."""
    with open(os.path.join(jr.ROOT, "docs", "operations.md")) as f:
        text = f.read()
    part = text.split("<!-- permissions of a %s -->" % role)[1].split("```text\n")[1].split("```")[0]
    found = {"publish": [], "subscribe": []}
    for line in part.strip().splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] in found:
            found[words[0]].append(words[1].replace("POOL", POOL))
    return found


def user(name, role, but=None):
    """But: what of its role it may not."""
    allowed = permissions(role)
    if but:
        allowed = {way: [s for s in subjects if but not in s] for way, subjects in allowed.items()}
    return '{user: %s, password: "%s", permissions: {publish: %s, subscribe: %s}}' % (
        name, name, json.dumps(allowed["publish"]), json.dumps(allowed["subscribe"]))


def violations(nats, name, line):
    """What the server says to a user who sends that line."""
    with socket.create_connection(("127.0.0.1", nats.port), timeout=10) as s, s.makefile("rb") as f:
        f.readline()
        s.sendall(b'CONNECT {"verbose":false,"pedantic":false,"user":"%s","pass":"%s"}\r\n%s\r\nPING\r\n' % (
            name.encode(), name.encode(), line.encode()))
        said = []
        while True:
            got = f.readline()
            if got.startswith(b"PONG") or not got:
                return said
            if got.startswith(b"-ERR"):
                said.append(got.decode())


class LeastPrivilege(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.procs = jr.Procs()
        cls.addClassCleanup(cls.procs.close)
        users = [user("router", "router"), user("bridge", "bridge"), user("sessionless", "router", "-sessions"),
                 "{user: admin, password: admin}"]
        cls.nats = cls.procs.nats(config="authorization { users: [%s] }\n" % ", ".join(users))

    def login(self, name):
        return {"NATS_AUTH_USERNAME": name, "NATS_AUTH_PASSWORD": name}

    def replica(self, name, login="router", **kw):
        return self.procs.frontend(name, nats=self.nats.url, env=self.login(login), namespace=NAMESPACE,
                                   router_mode="kv", router_snapshot_threshold=1000, lease_ttl_secs=2,
                                   snapshot_compat="dynamo-1.0", drain_delay_secs=0.1,
                                   router_session_affinity_ttl_secs=300, **kw)

    def test_everything_works(self):
        # The bridge makes streams and buckets it needs; either may come first.
        mocker = self.procs.mocker("workers", n=2, bridge=True, nats=self.nats.url, env=self.login("bridge"),
                                   namespace=NAMESPACE, block_size=BLOCK, speedup_ratio=0)
        a, b = self.replica("a"), self.replica("b")
        for r in (a, b):
            self.procs.wait_ready(r)
            jr.wait_for(lambda: [w["state"] for w in jr.pool(r.url)["workers"]] == ["live"] * 2, "two live workers")
        prompt = list(range(1, 8 * BLOCK + 2))
        cached = 0
        for url in (a.url, b.url, a.url):
            status, _, text = jr.call("POST", url + "/v1/completions", {
                "model": "mock-model", "prompt": prompt, "max_tokens": 2})
            self.assertEqual(status, 200, text)
            jr.wait_for(lambda: all(jr.pool(r.url)["blocks"] >= 8 for r in (a, b)), "its blocks at both")
            cached = json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertGreater(cached, 0)
        status, _, text = jr.call("POST", a.url + "/v1/completions", {
            "model": "mock-model", "prompt": prompt, "max_tokens": 2}, {"X-Dynamo-Session-ID": "s"})
        self.assertEqual(status, 200, text)
        jr.wait_for(lambda: jr.pool(b.url)["sessions"]["bound"] == 1, "the session at the other replica")
        # Twice: the second overwrites nothing, collects what is left over and purges. One at the same sequence
        # would not be written.
        for n in (1, 2):
            leader = jr.wait_for(lambda: next((r for r in (a, b) if jr.pool(r.url)["leader"]), None), "a leader")
            seen = jr.pool(leader.url)["applied_seq"]
            status, _, text = jr.call("POST", a.url + "/v1/completions", {
                "model": "mock-model", "prompt": [n * 1000 + t for t in prompt], "max_tokens": 2})
            self.assertEqual(status, 200, text)
            jr.wait_for(lambda: jr.pool(leader.url)["applied_seq"] > seen, "what the prompt left in the log")
            before = jr.metric(leader.url, "jetrouter_snapshots_total")
            done = self.procs.ctl(leader.url, "snapshot")
            self.assertEqual(done.returncode, 0, done.stderr)
            jr.wait_for(lambda: jr.metric(leader.url, "jetrouter_snapshots_total") > before, lambda: leader.tail())
            jr.wait_for(lambda: jr.metric(leader.url, "jetrouter_dynamo_snapshots_total") >= n, lambda: leader.tail())
        self.assertEqual(jr.metric(leader.url, "jetrouter_dynamo_snapshot_left_out"), 0)
        done = self.procs.ctl(leader.url, "reset")
        self.assertEqual(done.returncode, 0, done.stderr)
        jr.wait_for(lambda: all(jr.pool(r.url)["epoch"] > 0 for r in (a, b)), "the reset")
        self.assertEqual(a.stop(), 0)
        self.procs.all.remove(a)
        self.procs.wait_ready(self.replica("c"))
        for p in self.procs.all:
            with open(p.log) as f:
                said = f.read()
            if p.name != "nats":
                self.assertNotIn("ermissions Violation", said, p.name)
        self.assertTrue(mocker.running())

    def test_routing_does_not_rest_on_sessions(self):
        """One that may not touch their stream takes part in all else."""
        r = self.replica("sessionless", "sessionless", ready_timeout_secs=3)
        self.procs.wait_ready(r)
        jr.wait_for(lambda: jr.pool(r.url)["recovery_state"] == "ready", lambda: "the log being read\n" + r.tail())
        jr.wait_for(lambda: "sessions.lost" in r.tail(200), lambda: "a word about the sessions\n" + r.tail())
        self.assertEqual(r.stop(), 0)
        self.procs.all.remove(r)

    def test_what_is_not_allowed_is_refused(self):
        events, empty = POOL + "-kv-events", " 0\r\n"
        for name, line in [
                ("router", "PUB %s.batch" % events + empty),
                ("router", "PUB %s.kv-events" % events + empty),
                ("router", "PUB $JS.API.STREAM.DELETE.%s" % events + empty),
                ("router", "PUB $JS.API.STREAM.DELETE.OBJ_%s-radix-bucket" % POOL + empty),
                ("bridge", "PUB $O.%s-radix-bucket.M.cmFkaXgtc3RhdGU=" % POOL + empty),
                ("bridge", "PUB $JS.API.STREAM.MSG.GET.OBJ_%s-radix-bucket" % POOL + empty),
                ("router", "PUB $JS.API.STREAM.UPDATE.%s" % events + empty),
                ("router", "PUB $JS.API.STREAM.PURGE.KV_%s-leases" % POOL + empty),
                ("router", "PUB $JS.API.STREAM.CREATE.OTHER" + empty),
                ("router", "SUB %s.> 1" % events),
                ("bridge", "PUB %s.control" % events + empty),
                ("bridge", "PUB $JS.API.STREAM.PURGE.%s" % events + empty),
                ("bridge", "PUB $JS.API.STREAM.DELETE.%s" % events + empty),
                ("bridge", "PUB $KV.%s-leases.leader" % POOL + empty),
                ("bridge", "PUB $KV.%s-state.snapshots" % POOL + empty),
                ("bridge", "PUB $O.%s-snapshots.M.x" % POOL + empty),
                ("bridge", "SUB > 1"),
        ]:
            self.assertTrue(any("ermissions Violation" in s for s in violations(self.nats, name, line)),
                            "%s was allowed: %s" % (name, line))
        self.assertEqual(violations(self.nats, "admin", "PUB %s.batch" % events + empty), [])


if __name__ == "__main__":
    unittest.main()
