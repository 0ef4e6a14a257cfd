# SPDX-License-Identifier: Apache-2.0
"""Session affinity over a real nats-server: bound at one replica, honoured at any, through a balancer, past kill
-9 of the one that bound it, past a restart of all, past the loss of the stream; bound anew when its worker dies;
over when its TTL is."""
import random
import unittest

import jr_procs as jr

NAMESPACE = "sticky"
STREAM = "namespace-sticky-component-backend-sessions"
WORKERS = 3
BLOCK = 16


class Sessions(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(7)
        self.procs = jr.procs_of(self)
        self.nats = self.procs.nats()
        self.mockers = [self.procs.mocker("worker-%d" % i, bridge=True, nats=self.nats.url, namespace=NAMESPACE,
                                          block_size=BLOCK, speedup_ratio=0, lease_ttl_secs=2)
                        for i in range(WORKERS)]
        self.a, self.b = self.start(200)

    def start(self, ttl, workers=WORKERS):
        both = [self.procs.frontend(name, nats=self.nats.url, namespace=NAMESPACE, router_mode="kv",
                                    lease_ttl_secs=2, drain_delay_secs=0, worker_first_byte_timeout_secs=20,
                                    router_session_affinity_ttl_secs=ttl) for name in ("a", "b")]
        for f in both:
            self.up(f, workers)
        return both

    def up(self, f, workers=WORKERS):
        self.procs.wait_ready(f, 60)
        jr.wait_for(lambda: [w["state"] for w in jr.pool(f.url)["workers"]].count("live") == workers,
                    lambda: "%d live workers at %s" % (workers, f.name), 60)

    def ask(self, url, session, header="X-Dynamo-Session-ID"):
        """A prompt that nobody has seen: the worker it goes to."""
        prompt = [self.rng.randrange(1, 30000) for _ in range(3 * BLOCK)]
        status, headers, text = jr.call("POST", url + "/v1/completions", {
            "model": "mock-model", "prompt": prompt, "max_tokens": 1}, {header: session, "X-Jetrouter-Explain": "1"},
            timeout=60)
        self.assertEqual(status, 200, text)
        return headers["x-jetrouter-worker"]

    def known(self, f, n):
        """So many sessions are bound there."""
        jr.wait_for(lambda: jr.pool(f.url)["sessions"]["bound"] == n,
                    lambda: "%d sessions at %s, which has %r" % (n, f.name, jr.pool(f.url)["sessions"]), 60)

    def honoured(self, bound, *urls):
        for url in urls:
            self.assertEqual({s: self.ask(url, s) for s in bound}, bound)

    def bind(self, url, names, header="X-Dynamo-Session-ID"):
        return {s: self.ask(url, s, header) for s in names}

    def test_sessions(self):
        bound = self.survives_replicas()
        self.survives_a_worker(bound)
        self.refusals()
        self.ends()

    def survives_replicas(self):
        a, b = self.a, self.b
        # Through a balancer, wherever each lands; then at either.
        proxy = self.procs.haproxy([a.port, b.port])
        jr.wait_http(proxy.url + "/ready", timeout=60)
        bound = self.bind(proxy.url, ["s%d" % i for i in range(12)])
        self.assertGreater(len(set(bound.values())), 1, "all on one worker: nothing is seen")
        for f in (a, b):
            self.known(f, 12)
        self.honoured(bound, a.url, b.url, proxy.url)
        self.assertEqual(jr.pool(a.url)["sessions"]["moved"] + jr.pool(b.url)["sessions"]["moved"], 0)

        # The one that bound them dies: nothing of them does. It reads them back before it is ready.
        bound.update(self.bind(a.url, ["k%d" % i for i in range(6)], "x-session-id"))
        self.known(b, 18)
        a.kill()
        self.honoured(bound, b.url)
        self.a = a = self.procs.restart(a)
        self.procs.wait_ready(a, 60)
        self.assertEqual(jr.pool(a.url)["sessions"]["bound"], 18)
        self.up(a)
        self.honoured(bound, a.url)

        # The stream is gone: who lives says it again.
        jr.delete_stream(self.nats, STREAM, [a, b])
        jr.wait_for(lambda: self.stream_has(18), "what the stream had", 60)

        # All restart, with a longer TTL, for which the stream is made to keep words.
        a, b = self.all_restart(300)
        for f in (a, b):
            self.known(f, 18)
        self.honoured(bound, b.url, a.url)
        info = jr.js_api(self.nats, "STREAM.INFO." + STREAM)
        self.assertEqual(info["config"]["max_age"], 300 * 10 ** 9)
        self.assertEqual(info["config"]["max_msgs_per_subject"], 1)
        return bound

    def survives_a_worker(self, bound):
        """Its sessions go elsewhere, whoever is asked; the others stay."""
        a, b = self.a, self.b
        dead = self.mockers.pop()
        gone = {w["worker_id"] for w in jr.pool(a.url)["workers"] if w["url"] == dead.urls[0]}
        dead.kill()
        moved = self.bind(b.url, bound)
        self.assertFalse(gone & set(moved.values()))
        self.assertEqual({s: w for s, w in moved.items() if bound[s] not in gone},
                         {s: w for s, w in bound.items() if w not in gone})
        self.assertTrue(gone & set(bound.values()), "nothing was bound to the worker that died")
        heard = {s for s in bound if bound[s] in gone}
        jr.wait_for(lambda: jr.pool(a.url)["sessions"]["heard"] >= 18 + len(heard), "the moves at the other", 60)
        self.honoured(moved, a.url, b.url)
        self.moved, self.gone = moved, gone

    def refusals(self):
        """A name that is too long, and a worker named beside the session that is another one."""
        a = self.a
        status, text = jr.post(a.url + "/v1/completions", {"model": "mock-model", "prompt": [1]},
                               headers={"X-Dynamo-Session-ID": "x" * 257})
        self.assertEqual(status, 400, text)
        self.assertIn(b"X-Dynamo-Session-ID is longer than 256 bytes", text)
        (other,) = {w["worker_id"] for w in jr.pool(a.url)["workers"]} - {self.moved["s0"]} - self.gone
        status, text = jr.post(a.url + "/v1/completions", {"model": "mock-model", "prompt": [1]},
                               headers={"X-Dynamo-Session-ID": "s0", "X-Dynamo-Worker-Instance-Id": other})
        self.assertEqual(status, 400, text)
        self.assertIn(b"the session is bound to the worker", text)

    def stream_has(self, n):
        try:
            return jr.stream_state(self.nats, STREAM)["messages"] == n
        except jr.Failed:  # it is not there again yet
            return False

    def all_restart(self, ttl, workers=WORKERS):
        for f in (self.a, self.b):
            self.assertEqual(f.stop(), 0, f.tail(40))
            self.procs.all.remove(f)
        self.a, self.b = self.start(ttl, workers)
        return self.a, self.b

    def ends(self):
        self.all_restart(3, WORKERS - 1)
        for f in (self.a, self.b):
            self.known(f, 0)  # those that were bound for longer are not any more
        heard = jr.pool(self.b.url)["sessions"]["heard"]
        self.bind(self.a.url, ["t%d" % i for i in range(5)])
        jr.wait_for(lambda: jr.pool(self.b.url)["sessions"]["heard"] >= heard + 5, "the words at the other", 60)
        for f in (self.a, self.b):
            self.known(f, 0)
            self.assertGreaterEqual(jr.metric(f.url, 'jetrouter_sessions_ended_total{namespace="sticky",component="backend",'
                                                     'reason="expired"}'), 5)
        self.bind(self.b.url, ["t0"])
        self.assertEqual(jr.metric(self.b.url, 'jetrouter_session_requests_total{namespace="sticky",'
                                               'component="backend",result="bound"}'), 1)


if __name__ == "__main__":
    unittest.main()
