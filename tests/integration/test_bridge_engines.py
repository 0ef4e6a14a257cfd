# SPDX-License-Identifier: Apache-2.0
"""One bridge process for the engines that a directory names, and what its own HTTP endpoint says."""
import http.client
import json
import os
import re
import resource
import signal
import unittest

import jr_procs as jr

BLOCK = 16
N = 3
WAIT = 60


class Engines(unittest.TestCase):
    def setUp(self):
        self.procs = jr.procs_of(self)
        self.nats = self.procs.nats()
        self.folder = os.path.join(self.procs.folder, "engines")
        os.mkdir(self.folder)
        kv, replay = jr.free_port(N), jr.free_port(N)
        self.mocker = self.procs.mocker("engines", n=N, block_size=BLOCK, num_gpu_blocks_override=300, speedup_ratio=1,
                                        zmq_kv_events_ports=kv, zmq_replay_ports=replay)
        self.specs = [{"engine_url": self.mocker.urls[i], "kv_events_endpoint": "tcp://127.0.0.1:%d" % (kv + i),
                       "kv_events_replay_endpoint": "tcp://127.0.0.1:%d" % (replay + i), "worker_id": i + 1}
                      for i in range(N)]

    def bridge(self, **kw):
        port = jr.free_port()
        p = self.procs.start_jetrouter("bridge", "bridge", nats_server=self.nats.url, system_host="127.0.0.1",
                                       system_port=port, **{"lease_ttl_secs": 2, **kw})
        p.url = "http://127.0.0.1:%d" % port
        jr.wait_http(p.url + "/live", proc=p, timeout=WAIT)
        return p

    def write(self, name, text):
        """As a whole, or not at all."""
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w") as f:
            f.write(text if isinstance(text, str) else json.dumps(text))
        os.rename(path + ".new", path)

    def ready(self, p):
        """The status of /ready, and the engines by their worker ids."""
        status, text = jr.try_get(p.url + "/ready")
        return status, {e["worker_id"]: e for e in json.loads(text)["engines"]} if status in (200, 503) else {}

    def wait_registered(self, p, ids):
        def registered():
            status, engines = self.ready(p)
            return status == 200 and sorted(i for i, e in engines.items() if e["registered"]) == sorted(ids)
        jr.wait_for(registered, lambda: "registered %s, but %s" % (ids, self.ready(p)), timeout=WAIT)

    def complete(self, i, first):
        body = {"model": "mock-model", "prompt": [first + k for k in range(4 * BLOCK)], "max_tokens": 1}
        self.assertEqual(jr.call("POST", self.mocker.urls[i] + "/v1/completions", json.dumps(body))[0], 200)

    def test_come_change_and_go(self):
        self.write("a.json", self.specs[0])
        self.write("notes.txt", "no engine")
        bridge = self.bridge(engines_dir=self.folder)
        self.wait_registered(bridge, [1])
        router = self.procs.frontend("r", nats=self.nats.url, router_mode="kv", lease_ttl_secs=2)
        self.procs.wait_ready(router, timeout=WAIT)

        def live():
            return sorted(w["worker_id"] for w in jr.pool(router.url)["workers"] if w["state"] == "live")
        jr.wait_for(lambda: len(live()) == 1, "one live worker", timeout=WAIT)
        # More engines.
        self.write("b.json", self.specs[1])
        self.write("c.json", self.specs[2])
        self.wait_registered(bridge, [1, 2, 3])
        jr.wait_for(lambda: len(live()) == 3, "three live workers", timeout=WAIT)
        for i in range(N):
            self.complete(i, 1000 * i)
        jr.wait_for(lambda: jr.pool(router.url)["entries"] >= 4 * N, "blocks of all three", timeout=WAIT)
        # What cannot be read takes nothing away; it is told once, with its words.
        self.write("b.json", "{\"engine_url\":")
        jr.wait_for(lambda: "bridge.engine_file" in bridge.tail(1000), "a complaint", timeout=WAIT)
        self.wait_registered(bridge, [1, 2, 3])
        # Another text is another worker.
        self.write("b.json", dict(self.specs[1], worker_id=22))
        self.wait_registered(bridge, [1, 3, 22])
        # Two files of one worker: the second is refused.
        self.write("d.json", dict(self.specs[2], worker_id=1))
        bridge.send(signal.SIGHUP)
        jr.wait_for(lambda: "is of the same worker" in bridge.tail(1000), "a complaint", timeout=WAIT)
        self.assertEqual(sorted(self.ready(bridge)[1]), [1, 3, 22])
        os.unlink(os.path.join(self.folder, "d.json"))
        # One leaves: its worker does at once, the others stay.
        os.unlink(os.path.join(self.folder, "a.json"))
        self.wait_registered(bridge, [3, 22])
        jr.wait_for(lambda: len(live()) == 2, "two live workers", timeout=WAIT)
        self.assertEqual(self.procs.stop(bridge), 0)
        jr.wait_for(lambda: live() == [], "no worker", timeout=WAIT)

    def slow(self, factor):
        status, _, body = jr.call("POST", self.mocker.urls[0] + "/mock/faults?slow=%g" % factor)
        self.assertEqual(status, 200, body)

    def test_requests_outlive_their_bridge(self):
        """SIGTERM: the worker leaves the registry, and what runs on it goes on to its end."""
        spec = self.specs[0]
        bridge = self.bridge(engine_url=spec["engine_url"], kv_events_endpoint=spec["kv_events_endpoint"],
                             kv_events_replay_endpoint=spec["kv_events_replay_endpoint"], worker_id=7)
        self.wait_registered(bridge, [7])
        router = self.procs.frontend("r", nats=self.nats.url, router_mode="kv", lease_ttl_secs=2)
        self.procs.wait_ready(router, timeout=WAIT)

        def live():
            return [w["worker_id"] for w in jr.pool(router.url)["workers"] if w["state"] == "live"]
        jr.wait_for(live, "a live worker", timeout=WAIT)
        self.slow(50)
        body = {"model": "mock-model", "prompt": list(range(2 * BLOCK)), "max_tokens": 100, "stream": True,
                "stream_options": {"include_usage": True}}
        conn = http.client.HTTPConnection("127.0.0.1", router.port, timeout=WAIT)
        conn.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = conn.getresponse()
        self.assertEqual(reply.status, 200)
        first = reply.readline()
        self.assertEqual(self.procs.stop(bridge), 0)
        jr.wait_for(lambda: not live(), "no live worker", timeout=WAIT)
        self.slow(1)
        text = (first + reply.read()).decode()
        conn.close()
        self.assertTrue(text.rstrip().endswith("data: [DONE]"), text[-300:])
        self.assertIn('"completion_tokens":100', text.replace(" ", ""))
        self.assertNotEqual(jr.call("POST", router.url + "/v1/completions", dict(body, stream=False))[0], 200)

    def test_too_many_files(self):
        for i in range(N):
            self.write("%d.json" % i, self.specs[i])
        bridge = self.bridge(engines_dir=self.folder)
        self.wait_registered(bridge, [1, 2, 3])
        for i in range(2000):  # more than are looked at, in whatever order the directory has
            self.write("junk%d.json" % i, "{}")
        jr.wait_for(lambda: "too many files" in bridge.tail(100000), "told", timeout=WAIT)
        for i in range(2000):
            os.unlink(os.path.join(self.folder, "junk%d.json" % i))
        self.write("0.json", dict(self.specs[0], worker_id=11))
        self.wait_registered(bridge, [2, 3, 11])
        self.assertEqual(bridge.tail(100000).count("bridge.engine_removed"), 1)

    def test_metrics(self):
        spec = self.specs[0]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        bridge = self.bridge(engine_url=spec["engine_url"], kv_events_endpoint=spec["kv_events_endpoint"],
                             kv_events_replay_endpoint=spec["kv_events_replay_endpoint"], worker_id=7,
                             lease_ttl_secs=10)
        self.wait_registered(bridge, [7])
        self.assertEqual(resource.prlimit(bridge.pid, resource.RLIMIT_NOFILE), (hard, hard))  # an engine takes some
        self.complete(0, 1000)

        def value(name, labels):
            status, text = jr.try_get(bridge.url + "/metrics")
            found = re.search(r"^jetrouter_bridge_%s\{%s\} (\S+)" % (name, re.escape(labels)), text.decode(), re.M)
            return float(found.group(1)) if status == 200 and found else None
        rank = 'worker_id="7",dp_rank="0"'
        jr.wait_for(lambda: (value("mirror_blocks", rank) or 0) >= 4 and value("pending_events", rank) == 0,
                    "blocks", timeout=WAIT)
        self.assertGreaterEqual(value("engine_events_total", rank + ',type="stored"'), 1)
        self.assertEqual(value("begins_total", rank + ',reason="start"'), 1)
        self.assertEqual(value("begins_total", rank + ',reason="lease"'), 0)
        self.assertGreaterEqual(value("batches_total", rank), 2)
        self.assertEqual(value("acks_total", rank), value("batches_total", rank))
        self.assertGreaterEqual(value("batch_events_total", rank), 2)
        self.assertGreaterEqual(value("ack_seconds_count", rank), 2)
        self.assertGreaterEqual(value("replays_total", rank + ',result="filled"'), 1)
        self.assertEqual(value("engine_healthy", 'worker_id="7"'), 1)
        self.assertEqual(value("registered", 'worker_id="7"'), 1)
        for name in ("gaps_total", "retries_total"):
            self.assertIsNotNone(value(name, rank))
        # Without its engine it is not ready, and says why; it lives.
        self.mocker.kill()

        def left():
            status, engines = self.ready(bridge)
            return status == 503 and not engines[7]["registered"] and engines[7]["because"]
        jr.wait_for(left, "not ready", timeout=WAIT)
        self.assertEqual(value("engine_healthy", 'worker_id="7"'), 0)
        self.assertEqual(jr.try_get(bridge.url + "/live")[0], 200)
        self.assertEqual(jr.try_get(bridge.url + "/nothing")[0], 404)
        self.assertEqual(jr.call("POST", bridge.url + "/metrics", "")[0], 405)


if __name__ == "__main__":
    unittest.main()
