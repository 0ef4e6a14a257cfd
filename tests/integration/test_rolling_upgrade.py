# SPDX-License-Identifier: Apache-2.0
"""Three replicas behind haproxy, upgraded one after the other under streams: no request fails, and no
worker is sent one twice."""
import collections
import json
import os
import random
import signal
import threading
import time
import unittest

import jr_log
import jr_procs as jr
import jr_worker as play

TTL = 2
EVENTS = 8
CLIENTS = 24
SEED = int(os.environ.get("JR_SEED", "0")) or int.from_bytes(os.urandom(4), "big")


class Clients:
    """Closed loops, each request with an id of its own; every answer is read to its end."""

    def __init__(self, url):
        self.url, self.stop = url, threading.Event()
        self.lock = threading.Lock()
        self.sent, self.failed = [], []
        self.threads = [threading.Thread(target=self._run, args=(random.Random(SEED + i), i), daemon=True)
                        for i in range(CLIENTS)]
        for t in self.threads:
            t.start()

    def _run(self, rng, client):
        n = 0
        while not self.stop.is_set():
            name = "%d-%d" % (client, n)
            n += 1
            why = self._one(name, [rng.randrange(1, 9)] * rng.randrange(4, 40))
            with self.lock:
                self.sent.append(name)
                if why:
                    self.failed.append((name, why))

    def _one(self, name, prompt):
        """"" or how it failed."""
        body = {"model": "tiny", "prompt": prompt, "stream": True}
        try:
            with play.Stream(self.url + "/v1/completions", body, {"X-Request-Id": name}) as s:
                status = s.head()
                data, whole = s.rest()
        except OSError as e:
            return str(e)
        events = data.count(b'"choices"')
        good = status == 200 and whole and data.endswith(b"data: [DONE]\n\n") and events == EVENTS
        return "" if good else "status %d, %d events, %r" % (status, events, data[-80:])

    def count(self):
        with self.lock:
            return len(self.sent)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(60)


class RollingUpgrade(unittest.TestCase):
    def setUp(self):
        print("seed: JR_SEED=%d" % SEED)
        self.procs = jr.procs_of(self)
        self.arrived = collections.Counter()
        self.lock = threading.Lock()
        nats = self.procs.nats()
        self.replicas = [self.procs.frontend(name, nats=nats.url, namespace="test", router_mode="kv",
                                             lease_ttl_secs=TTL, drain_delay_secs=1, log_level="debug")
                         for name in ("a", "b", "c")]
        for f in self.replicas:
            self.procs.wait_ready(f)
        pool = jr_log.Pool(nats.url, "test", ttl=TTL)
        self.addCleanup(pool.close)
        rng = random.Random(SEED)
        for i in (1, 2, 3):
            w = play.Worker(self.answer)
            self.addCleanup(w.close)
            pool.add_worker(i, w.url)
            pool.fill(i, 5, rng)
        for f in self.replicas:
            self.knows_workers(f)

    def knows_workers(self, f):
        jr.wait_for(lambda: [w["state"] for w in jr.pool(f.url)["workers"]] == ["live"] * 3, "workers")

    def answer(self, request):
        with self.lock:
            self.arrived[request.headers["X-Request-Id"]] += 1
        play.send_head(request)
        for _ in range(EVENTS):
            play.send_chunk(request, b'data: {"choices":[{"text":"a"}]}\n\n')
            time.sleep(0.05)  # a stream that takes its time
        play.send_chunk(request, b"data: [DONE]\n\n")
        request.wfile.write(b"0\r\n\r\n")

    def some_more(self, clients):
        at = clients.count() + 3 * CLIENTS
        jr.wait_for(lambda: clients.count() >= at, "answers", 60)

    def upgrade(self, i):
        """SIGTERM, an end in order, the next life ready and among those that are asked."""
        old = self.replicas[i]
        old.send(signal.SIGTERM)
        jr.wait_http(old.url + "/ready", lambda status, text: status in (0, 503))
        self.assertEqual(old.popen.wait(60), 0, old.tail(40))
        self.replicas[i] = new = self.procs.restart(old)
        self.procs.wait_ready(new)
        self.knows_workers(new)
        jr.wait_for(lambda: jr.metric(new.url, "jetrouter_decisions_total") > 0, "haproxy asks it", 60)

    def test_no_request_fails_and_none_is_sent_twice(self):
        haproxy = self.procs.haproxy([f.port for f in self.replicas])
        jr.wait_http(haproxy.url + "/ready", proc=haproxy)
        clients = Clients(haproxy.url)
        self.addCleanup(clients.end)
        self.some_more(clients)
        for i in range(3):
            self.upgrade(i)
            self.some_more(clients)
        clients.end()
        self.assertEqual(clients.failed, [], "seed %d" % SEED)
        self.assertEqual(set(self.arrived), set(clients.sent))
        self.assertEqual([k for k, n in self.arrived.items() if n != 1], [])
        for f in self.replicas:
            jr.wait_for(lambda f=f: sum(w["active_requests"] for w in jr.pool(f.url)["workers"]) == 0,
                        "no load is left at " + f.name)
            state = json.loads(jr.get(f.url + "/state")[1])
            self.assertEqual(sorted(p["id"] for p in state["pools"][0]["peers"] if p["listed"]),
                             sorted(g.name for g in self.replicas if g is not f))
        for f in self.replicas:
            self.assertEqual(f.stop(), 0, f.tail(40))
        print("%d requests, none failed, none twice" % len(clients.sent))


if __name__ == "__main__":
    unittest.main()
