# SPDX-License-Identifier: Apache-2.0
"""Leases of workers and replicas end, come back and are given up: what that does to credit, to blocks
and to loads."""
import http.client
import json
import os
import random
import re
import signal
import unittest
import unittest.mock

import jr_log
import jr_procs as jr
import jr_worker as play

TTL = 2
SEED = int(os.environ.get("JR_SEED", "0")) or int.from_bytes(os.urandom(4), "big")


class Members(unittest.TestCase):
    def setUp(self):
        print("seed: JR_SEED=%d" % SEED)
        self.rng = random.Random(SEED)
        self.procs = jr.procs_of(self)
        self.nats = self.start_nats()
        self.replicas = [self.procs.frontend(
            name, nats=self.nats.url, namespace="test", router_mode="kv", lease_ttl_secs=TTL,
            stale_worker_secs=8, drain_delay_secs=0, log_level="debug") for name in ("a", "b")]
        for f in self.replicas:
            self.procs.wait_ready(f)

    def start_nats(self):
        return self.procs.nats()

    def tearDown(self):
        for f in self.replicas:
            f.send(signal.SIGCONT)
            self.assertEqual(f.stop(), 0, f.tail(60))

    def pool(self):
        p = jr_log.Pool(self.nats.url, "test", ttl=TTL)
        self.addCleanup(p.close)
        return p

    def worker(self, answer=None):
        w = play.Worker(answer)
        self.addCleanup(w.close)
        return w

    def state(self, f, worker=1):
        """(state, credited, blocks) of a worker; None when it is not known."""
        for w in jr.pool(f.url)["workers"]:
            if w["worker_id"] == str(worker):
                return w["state"], w["credited"], w["blocks"] > 0
        return None

    def await_state(self, want, worker=1):
        for f in self.replicas:
            jr.wait_for(lambda f=f: self.state(f, worker) == want,
                        lambda f=f: "worker %d at %s is %s, it is %s" % (
                            worker, f.name, want, self.state(f, worker)), 60)

    def said(self, proc, words):
        with open(proc.log, errors="replace") as log:
            return words in log.read()

    def ask(self, f):
        return jr.call("POST", f.url + "/v1/completions", {"model": "tiny", "prompt": [3] * 40},
                       jr.EXPLAIN)

    def same(self):
        """Both have the same state."""
        def look():
            views = [jr.pool(f.url) for f in self.replicas]
            return len({(v["applied_seq"], v["digest"]) for v in views}) == 1 and views
        return jr.wait_for(look, "one digest")


class Worker(Members):
    def test_a_row_that_is_stuck(self):
        """Of lower media, and of a life before: its worker has a lease, and the row ends all the same."""
        w, pool = self.worker(), self.pool()
        pool.add_worker(1, w.url)
        pool.fill(1, 8, self.rng)
        self.await_state(("live", True, True))
        seq = pool.nats.publish(pool.stream + ".batch", jr_log.batch(
            1, 77, 1, [jr_log.stored([1, 2, 3], [4, 5, 6])], begin=True, rank=64))
        jr.wait_for(lambda: self.same()[0]["applied_seq"] >= seq, "the row is there")
        held = self.same()[0]["entries"]
        jr.wait_for(lambda: self.same()[0]["entries"] == held - 3, "the row is ended", 60)
        self.await_state(("live", True, True))

    def test_a_lease_that_ends(self):
        """Its credit is gone with it; it is asked while it answers, and gone from the log after a while
        in which it does not. What it says later is of a life that ended."""
        w, other, pool = self.worker(), self.worker(), self.pool()
        incarnation = pool.add_worker(1, w.url)
        second = pool.add_worker(2, other.url)
        for i in (1, 2):
            pool.fill(i, 8, self.rng)
        self.await_state(("live", True, True))
        other.healthy = False  # of one with a lease nobody asks
        del pool.workers[1]  # as a bridge that was killed
        self.await_state(("stale", False, True))
        del pool.workers[2]
        self.await_state(("down", False, True), 2)
        for f in self.replicas:
            self.assertEqual(self.ask(f)[1]["x-jetrouter-worker"], "1")
        # The same life again, late but before anybody gave it up.
        pool.add_worker(2, other.url, incarnation=second)
        self.await_state(("live", True, True), 2)
        w.healthy = False
        for f in self.replicas:
            jr.wait_for(lambda f=f: self.state(f) in (("down", False, True), None), "worker 1 is out")
            self.assertEqual(self.ask(f)[1]["x-jetrouter-worker"], "2")
        self.await_state(None)
        views = self.same()
        self.assertEqual(views[0]["counters"]["dropped_stale"], 0)
        seq = pool.nats.publish(pool.stream + ".batch", jr_log.batch(
            1, incarnation, pool.next_id[1], [jr_log.stored([1, 2, 3], [4, 5, 6])]))
        jr.wait_for(lambda: jr.pool(self.replicas[0].url)["applied_seq"] >= seq, "the late batch")
        for view in self.same():
            self.assertEqual(view["counters"]["dropped_stale"], 1)
            self.assertNotIn("1", [x["worker_id"] for x in view["workers"] if x["blocks"]])


    def test_a_lease_whose_url_is_none(self):
        """Like one that cannot be read: no request is given to it."""
        w, pool = self.worker(), self.pool()
        for i, url in enumerate(("10.0.0.1:8000", "ftp://host/", "http://", "http://a b/"), 3):
            pool.add_worker(i, url)
        pool.add_worker(2, w.url)  # listed with or after them
        for f in self.replicas:
            jr.wait_for(lambda f=f: self.state(f, 2), "the good one", 60)
            self.assertEqual([x["worker_id"] for x in jr.pool(f.url)["workers"]], ["2"])
            with open(f.log) as text:
                self.assertIn("lease.unreadable", text.read())
            for _ in range(3):
                self.assertEqual(self.ask(f)[0], 200)


class Replica(Members):
    def held(self):
        """A worker whose streams go on until the client goes."""
        def answer(request):
            play.send_head(request)
            play.send_chunk(request, b'data: {"choices":[{"text":"a"}]}\n\n')
            play.wait_gone(request, 120)
        return self.worker(answer)

    def of_peer(self, f):
        (peer,) = jr.pool(f.url)["peers"]
        return peer["active_requests"] if peer["listed"] else 0

    def life_of_peer(self, f):
        return jr.pool(f.url)["peers"][0]["incarnation"]

    def test_paused_past_its_lease(self):
        """Its load counts until its lease ends, and again in its new life; and it says that it has one."""
        pool = self.pool()
        pool.add_worker(1, self.held().url)
        self.await_state(("live", False, False))
        a, b = self.replicas
        s = play.Stream(b.url + "/v1/completions", {"model": "tiny", "prompt": [1] * 40, "stream": True}, timeout=120)
        self.addCleanup(s.close)
        self.assertEqual(s.head(), 200)
        jr.wait_for(lambda: self.of_peer(a) == 1, "b's request at a")
        before = self.life_of_peer(a)
        for _ in range(2):
            b.send(signal.SIGSTOP)
            jr.wait_for(lambda: sum(w["active_requests"] for w in jr.pool(a.url)["workers"]) == 0,
                        "b's load is gone with its lease")
            b.send(signal.SIGCONT)
            # The lease that it renews before it knows better may be listed for a moment.
            jr.wait_for(lambda: self.of_peer(a) == 1 and self.life_of_peer(a) != before,
                        "b's request counts again, in another life")
            before = self.life_of_peer(a)
            self.await_state(("live", False, False))  # it missed nobody for having slept
        s.close()
        jr.wait_for(lambda: self.of_peer(a) == 0, "it is over")


class Engine(Members):
    """A mocker with bridges that ends."""
    TOKENS = 200
    BODY = {"model": "tiny", "prompt": [1] * 40, "max_tokens": TOKENS, "stream": True}

    def slow(self, **kw):
        """One whose answers take minutes."""
        m = self.procs.mocker("engine", bridge=True, nats=self.nats.url, namespace="test", model_name="tiny",
                              lease_ttl_secs=TTL, fault="slow=100", **kw)
        for f in self.replicas:
            jr.wait_for(lambda f=f: [w["state"] for w in jr.pool(f.url)["workers"]] == ["live"], "the worker", 60)
        return m

    def streams(self, url):
        s = play.Stream(url + "/v1/completions", self.BODY, timeout=120)
        self.addCleanup(s.close)
        self.assertEqual(s.head(), 200)
        self.assertIn(b'"text":', s.line())
        return s

    def drains(self, m):
        m.send(signal.SIGTERM)
        jr.wait_for(lambda: not jr.port_open(m.port), "no new connections", 60)

    def test_what_it_does_is_finished(self):
        m = self.slow()
        s = self.streams(self.replicas[0].url)
        spare = http.client.HTTPConnection("127.0.0.1", m.port, timeout=60)
        self.addCleanup(spare.close)
        spare.connect()
        self.drains(m)
        for f in self.replicas:
            jr.wait_for(lambda f=f: jr.pool(f.url)["workers"] == [], "the worker has left", 60)
            self.assertEqual(self.ask(f)[0], 503)
        self.assertTrue(m.running(), m.tail())
        spare.request("POST", "/mock/faults?slow=1")
        self.assertEqual(spare.getresponse().status, 200)
        text, whole = s.rest()
        self.assertTrue(whole and text.rstrip().endswith(b"data: [DONE]"), text[-200:])
        self.assertEqual(text.count(b'"text":'), self.TOKENS - 1, text[-200:])
        self.assertEqual(m.popen.wait(60), 0, m.tail())

    def test_not_for_ever(self):
        m = self.slow(drain_timeout_secs=0.2)
        s = self.streams(m.urls[0])
        self.assertEqual(m.stop(timeout=60), 0)
        self.assertTrue(self.said(m, "mocker.drain_timeout"))
        self.assertFalse(s.rest()[1])

    def test_a_second_signal(self):
        m = self.slow()
        s = self.streams(m.urls[0])
        self.drains(m)
        self.assertTrue(m.running(), m.tail())
        self.assertEqual(m.stop(timeout=60), 0)
        self.assertTrue(self.said(m, "mocker.second_signal"))
        self.assertFalse(s.rest()[1])


class Models(unittest.TestCase):
    """Names of models come and go, more of them than /metrics has room for."""
    ROOM = 256  # one of them is that of requests of no model

    def counted(self):
        """model -> its requests."""
        text = jr.get(self.f.url + "/metrics")[1].decode()
        return {m: int(float(n)) for m, n in re.findall(
            r'dynamo_frontend_request_duration_seconds_count{model="([^"]*)"} (\S+)', text)}

    def ask(self, model):
        self.assertEqual(jr.post(self.f.url + "/v1/completions", {"model": model, "prompt": [1, 2]})[0], 200)

    def test_series_go_with_their_model(self):
        """On all loops at once; those of a model that stays go on."""
        procs = jr.Procs()
        self.addCleanup(procs.close)
        nats = procs.nats()
        self.f = procs.frontend("a", nats=nats.url, namespace="test", http_threads=4, drain_delay_secs=0,
                                log_level="debug")
        procs.wait_ready(self.f)
        pool = jr_log.Pool(nats.url, "test", ttl=120)
        self.addCleanup(pool.close)
        worker = play.Worker()
        self.addCleanup(worker.close)
        names = ["m%d" % i for i in range(self.ROOM)]
        for i, name in enumerate(names):
            pool.add_worker(i + 1, worker.url, name)
        jr.wait_for(lambda: len(jr.get_json(self.f.url + "/v1/models")["data"]) == len(names), "all models", 60)
        for name in names:
            self.ask(name)
        for _ in range(8):  # on each loop, mostly
            self.ask("m0")
        before = self.counted()
        self.assertEqual(before["m0"], 9)
        self.assertEqual(len(before), self.ROOM)  # with that of no model, and without one of ours
        (without,) = set(names) - set(before)  # only the sum has no room for it
        stay = ["m0", without]
        for i, name in enumerate(names):
            if name not in stay:
                pool.drop_worker(i + 1)
        jr.wait_for(lambda: len(jr.pool(self.f.url)["workers"]) == 2, "all others have left", 60)
        for _ in range(2):  # away, and what they came to once more
            self.assertEqual(self.counted(), before)
        self.assertEqual(self.counted(), {"": 0, "m0": 9, without: 1})
        pool.add_worker(1000, worker.url, names[7])
        jr.wait_for(lambda: len(jr.get_json(self.f.url + "/v1/models")["data"]) == 3, "one is back", 60)
        for model in ("m0", without, names[7]):
            self.ask(model)
        self.assertEqual(self.counted(), {"": 0, "m0": 10, without: 2, names[7]: 1})


class Refused(Members):
    """A server that refuses our bridges and replicas for a while."""

    def setUp(self):
        self.login("first")
        super().setUp()

    def login(self, password):
        """What is started from now on says."""
        env = unittest.mock.patch.dict(os.environ, NATS_AUTH_USERNAME="u", NATS_AUTH_PASSWORD=password)
        env.start()
        self.addCleanup(env.stop)

    def start_nats(self):
        self.port = jr.free_port()
        return self.secured("first")

    def secured(self, password):
        p = self.procs.start("nats-" + password, [
            jr.find_program("nats-server", "nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js",
            "-sd", os.path.join(self.procs.folder, "store"), "--user", "u", "--pass", password])
        p.port, p.url = self.port, "nats://127.0.0.1:%d" % self.port
        jr.wait_for(lambda: jr.port_open(self.port), "nats-server")
        return p

    def test_bridges_and_replicas_come_back(self):
        mocker = self.procs.mocker("workers", n=2, bridge=True, nats=self.nats.url, namespace="test",
                                   model_name="tiny", lease_ttl_secs=TTL)
        a, b = self.replicas
        for f in self.replicas:
            jr.wait_for(lambda f=f: [(w["state"], w["credited"]) for w in jr.pool(f.url)["workers"]]
                        == [("live", True)] * 2, "workers")
        self.procs.stop(self.nats)
        other = self.secured("second")
        for f in self.replicas:
            jr.wait_for(lambda f=f: self.said(f, "nats.refused"), "the library has given up")
            self.assertEqual(jr.get_json(f.url + "/health")["status"], "degraded")
            self.assertEqual(jr.get(f.url + "/ready")[0], 200)
            self.assertEqual(self.ask(f)[0], 200)
        jr.wait_for(lambda: mocker.running() and self.said(mocker, "uthoriz"), "bridges are refused, too")
        self.procs.stop(other)
        self.secured("first")
        for f in self.replicas:
            jr.wait_http(f.url + "/health",
                         lambda status, text: json.loads(text)["status"] == "healthy", 60, proc=f)
            jr.wait_for(lambda f=f: jr.pool(f.url)["recovery_state"] == "ready", "ready again", 60)
        # Past a lease's time everybody's lease is a new one: so all of them write again.
        for f in self.replicas:
            jr.wait_for(lambda f=f: [p["listed"] and p["base_read"] for p in jr.pool(f.url)["peers"]] == [True],
                        "the peer's new base", 60)
        at = jr.pool(a.url)["applied_seq"]
        for n in range(6):
            status, _, text = jr.call("POST", a.url + "/v1/completions",
                                      {"model": "tiny", "prompt": [n + 1] * 200, "max_tokens": 2})
            self.assertEqual(status, 200, text)
        jr.wait_for(lambda: jr.pool(b.url)["applied_seq"] > at, "events again", 60)
        self.same()

    def test_wrong_credentials_at_start(self):
        self.login("wrong")
        p = self.procs.start_jetrouter("c", "frontend", http_host="127.0.0.1", http_port=0,
                                       nats_server=self.nats.url, log_level="error")
        self.assertEqual(p.popen.wait(30), 77, p.tail())
        with open(p.log) as log:
            text = log.read()
        self.assertEqual(text.count("\n"), 1, text)
        self.assertIn("uthoriz", text)


if __name__ == "__main__":
    unittest.main()
