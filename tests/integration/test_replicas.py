# SPDX-License-Identifier: Apache-2.0
"""Two replicas over a real nats-server: one log and one order, snapshots, crashes, resets, shared
load. The test itself plays the bridges and the workers."""
import base64
import json
import os
import random
import re
import shutil
import signal
import threading
import time
import unittest

import jr_log
import jr_otlp
import jr_procs as jr
import jr_worker as play

TTL = 2
SYNC = "namespace-test-component-backend-active-sequences"
ADMIT, FIRST_TOKEN, DONE = 1, 2, 4  # types of what is said there
SEED = int(os.environ.get("JR_SEED", "0")) or int.from_bytes(os.urandom(4), "big")


class Fleet(unittest.TestCase):
    threshold = 1000000

    def setUp(self):
        self.rng = random.Random(SEED)
        self.procs = jr.procs_of(self)
        self.nats = self.start_nats()
        self.replicas = [self.replica(name) for name in ("a", "b")]
        for f in self.replicas:
            self.procs.wait_ready(f)

    def start_nats(self):
        return self.procs.nats()

    def tearDown(self):
        for f in self.replicas:
            code = f.stop() if f.running() else f.code()
            self.assertEqual(code, 0, f.tail(60))

    def replica(self, name, **kw):
        return self.procs.frontend(name, nats=self.nats.url, namespace="test", router_mode="kv",
                                   lease_ttl_secs=TTL, drain_delay_secs=0, log_level="debug",
                                   router_snapshot_threshold=self.threshold, **kw)

    def pool(self, **kw):
        p = jr_log.Pool(self.nats.url, "test", ttl=TTL)
        self.addCleanup(p.close)
        return p

    def worker(self, answer=None):
        w = play.Worker(answer)
        self.addCleanup(w.close)
        return w

    def views(self):
        return [jr.pool(f.url) for f in self.replicas]

    def same_at(self, seq, timeout=30):
        """Both have applied seq and have the same digest; the digest."""
        def views_at_one_seq():
            views = self.views()
            at = [v["applied_seq"] for v in views]
            return at[0] == at[1] >= seq and views
        views = jr.wait_for(views_at_one_seq, "both at %d" % seq, timeout)
        self.assertEqual(views[0]["digest"], views[1]["digest"], "seed %d" % SEED)
        for key in ("blocks", "entries", "epoch"):
            self.assertEqual(views[0][key], views[1][key], key)
        self.assertFalse(any(v["digest_mismatch"] for v in views))
        return views[0]["digest"]

    def leader(self, among=None):
        """The one replica that leads, once there is exactly one."""
        among = among or self.replicas
        return jr.wait_for(lambda: (lambda l: l[0] if len(l) == 1 else None)(
            [f for f in among if jr.pool(f.url)["leader"]]), "one leader")

    def known(self, n, f=None):
        for r in [f] if f else self.replicas:
            jr.wait_for(lambda: [w["state"] for w in jr.pool(r.url)["workers"]] == ["live"] * n,
                        "%d workers at %s" % (n, r.name))


class Log(Fleet):
    threshold = 40

    def test_snapshots_crash_and_reset(self):
        w, pool = self.worker(), self.pool()
        for i in (1, 2):
            pool.add_worker(i, w.url)
            pool.fill(i, 30, self.rng)
        seq = pool.info()["state"]["last_seq"]
        digest = self.same_at(seq)
        self.assertGreater(self.views()[0]["entries"], 50)

        # At the threshold the leader writes a snapshot; the first purges nothing.
        def newest():
            return jr.pool(self.leader().url)["snapshot"]
        first = jr.wait_for(newest, "a snapshot")
        self.assertEqual(first["object"], "snapshot-a")
        self.assertLessEqual(first["seq"], seq)
        self.assertEqual(pool.info()["state"]["first_seq"], 1)

        # The second goes to the other object; what the first covers, and nothing else, goes.
        seq = pool.fill(1, 45, self.rng, begin=False)
        second = jr.wait_for(lambda: (lambda s: s if s["object"] == "snapshot-b" else None)(
            newest()), "the second snapshot", 40)
        self.assertGreater(second["seq"], first["seq"])
        self.assertEqual(second["previous_seq"], first["seq"])
        jr.wait_for(lambda: pool.info()["state"]["first_seq"] > 1, "the purge", 30)
        self.assertEqual(pool.info()["state"]["first_seq"], first["seq"])
        digest = self.same_at(seq)

        # The leader is killed: the other leads when the lease has ended, the state stands.
        dead = self.leader()
        (other,) = [f for f in self.replicas if f is not dead]
        dead.kill()
        began = time.monotonic()
        self.assertIs(self.leader([other]), other)
        self.assertLess(time.monotonic() - began, 4 * TTL + 5)
        seq = pool.fill(2, 20, self.rng, begin=False)

        # It comes back from the snapshot and the rest of the log: the same state.
        back = self.procs.restart(dead)
        self.replicas[self.replicas.index(dead)] = back
        self.procs.wait_ready(back)
        at_ready = jr.pool(back.url)
        self.assertGreaterEqual(at_ready["applied_seq_at_ready"], seq)
        self.assertLessEqual(at_ready["counters"]["log_messages"],
                             at_ready["applied_seq"] - second["seq"], "from the snapshot")
        self.assertNotEqual(self.same_at(seq), digest)
        self.assertEqual(jr.pool(back.url)["counters"]["undecodable"], 0)

        # A reset asked of either clears both at one sequence.
        p = self.procs.ctl(back.url, "reset")
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        jr.wait_for(lambda: all(v["epoch"] > 0 for v in self.views()), "the reset")
        reset_at = pool.info()["state"]["last_seq"]
        self.same_at(reset_at)
        views = self.views()
        self.assertEqual([(v["blocks"], v["epoch"]) for v in views], [(0, 1)] * 2)
        # Bridges begin anew.
        for i in (1, 2):
            incarnation = int(pool.workers[i]["ranks"][0]["incarnation"]) + 1
            pool.workers[i]["ranks"][0]["incarnation"] = str(incarnation)
            seq = pool.fill(i, 10, self.rng)
        self.same_at(seq)
        self.assertGreater(self.views()[0]["blocks"], 0)

    def test_worker_that_leaves_takes_its_blocks_along(self):
        def of_model(text, i):
            return re.findall(r'^dynamo_frontend_model_(\w+)\{model="model-%d"\}' % i, text, re.M)
        w, pool = self.worker(), self.pool()
        for i in (1, 2):
            pool.add_worker(i, w.url, model="model-%d" % i)
            seq = pool.fill(i, 8, self.rng)
        self.known(2)
        self.same_at(seq)
        for f in self.replicas:
            text = jr.get(f.url + "/metrics")[1].decode()
            self.assertIn('worker_id="1"', text)
            self.assertEqual(of_model(text, 1), ["migration_limit", "kv_cache_block_size"])
        pool.drop_worker(1)
        jr.wait_for(lambda: all([w["worker_id"] for w in v["workers"]] == ["2"]
                                for v in self.views()), "worker 1 has left both", 30)
        self.same_at(seq + 1)
        for f in self.replicas:
            text = jr.get(f.url + "/metrics")[1].decode()
            self.assertNotIn('worker_id="1"', text)
            self.assertEqual(of_model(text, 1), [])  # nobody serves it
            self.assertEqual(of_model(text, 2), ["migration_limit", "kv_cache_block_size"])


class Load(Fleet):
    def held(self):
        """A worker whose answers wait."""
        go = threading.Event()
        self.addCleanup(go.set)

        def answer(request):
            if request.path == "/tokenize":
                return play.plain(request)
            play.send_head(request)
            play.send_chunk(request, b'data: {"choices":[{"text":"a"}]}\n\n')
            go.wait(120)
            play.send_chunk(request, b"data: [DONE]\n\n")
            request.wfile.write(b"0\r\n\r\n")
            return None
        return self.worker(answer), go

    def stream(self, f):
        s = play.Stream(f.url + "/v1/completions",
                        {"model": "tiny", "prompt": list(range(40)), "stream": True})
        self.addCleanup(s.close)
        self.assertEqual(s.head(), 200)
        s.line()
        return s

    def active(self, f):
        return jr.pool(f.url)["workers"][0]["active_requests"]

    def last_words(self, pool, f):
        """Of what f said last of its load, as NATS has it: is it a base, and the types of its deltas."""
        last = pool.nats.api("STREAM.MSG.GET." + SYNC, {"last_by_subj": "%s.%s" % (SYNC, f.name)})
        data = base64.b64decode(last["message"]["data"])
        return bool(jr_otlp.many(data, 5)), {jr_otlp.one(d, 1) for d in jr_otlp.many(data, 7)}

    def test_bookings_are_shared_and_die_with_their_owner(self):
        w, go = self.held()
        pool = self.pool()
        pool.add_worker(1, w.url)
        self.known(1)
        a, b = self.replicas
        took = []
        for n in (1, 2, 3):
            self.stream(a)
            began = time.monotonic()
            jr.wait_for(lambda: self.active(b) == n, "%d requests of a at b" % n)
            took.append(time.monotonic() - began)
        self.assertLess(min(took), 1.0, took)
        (peer,) = jr.pool(b.url)["peers"]
        self.assertEqual((peer["id"], peer["active_requests"]), ("a", 3))
        self.assertEqual(jr.get_json(b.url + "/state")["replica"]["inflight"], 0)
        mine = self.stream(b)
        jr.wait_for(lambda: self.active(a) == 4, "b's request at a")
        a.kill()
        began = time.monotonic()
        jr.wait_for(lambda: self.active(b) == 1, "a's requests have gone with its lease")
        self.assertLess(time.monotonic() - began, 4 * TTL + 5)
        go.set()
        self.assertTrue(mine.rest()[1])
        jr.wait_for(lambda: self.active(b) == 0, "b's own has ended")

        # A life later it counts what b has, and b counts nothing of its former life.
        def says_so(said):
            return DONE in said[1] or said == (True, set())
        jr.wait_for(lambda: says_so(self.last_words(pool, b)), "b has said so")
        go.clear()
        self.stream(b)
        jr.wait_for(lambda: self.last_words(pool, b)[1] & {ADMIT, FIRST_TOKEN}, "b has said that it has one more")
        a = self.replicas[0] = self.procs.restart(a)
        self.procs.wait_ready(a)
        self.assertEqual(self.active(a), 1, "ready means that the peers' load is known")
        self.assertEqual(self.active(b), 1)
        go.set()

    def test_nobody_waits_for_a_replica_that_does_not_sync(self):
        w, go = self.held()
        pool = self.pool()
        pool.add_worker(1, w.url)
        self.known(1)
        a, b = self.replicas
        mute = self.replica("mute", no_router_replica_sync=True)
        self.replicas.append(mute)
        self.procs.wait_ready(mute)
        jr.wait_for(lambda: [p["id"] for p in jr.pool(a.url)["peers"] if p["listed"]] == ["b", "mute"],
                    "the replica that says nothing is listed")
        # One that starts while it is there does not wait for its base, and knows the load of the others.
        self.stream(b)
        self.stream(mute)
        jr.wait_for(lambda: self.active(a) == 1, "b's request at a")
        self.assertEqual(a.stop(), 0, a.tail())
        a = self.replicas[0] = self.procs.restart(a)
        self.procs.wait_ready(a)
        self.assertEqual(self.active(a), 1)
        go.set()

    def test_a_sync_stream_that_is_lost_is_made_anew(self):
        w, go = self.held()
        pool = self.pool()
        pool.add_worker(1, w.url)
        self.known(1)
        a, b = self.replicas
        self.stream(a)
        jr.wait_for(lambda: self.active(b) == 1, "a's request at b")
        pool.nats.api("STREAM.DELETE." + SYNC)
        # What happens meanwhile nobody hears; a base says it when the stream is there again.
        self.stream(a)
        self.stream(b)
        jr.wait_for(lambda: self.active(a) == 3 and self.active(b) == 3, "both know all of both")
        self.assertEqual(pool.nats.api("STREAM.INFO." + SYNC)["config"]["storage"], "memory")
        for f in (a, b):
            self.assertEqual(jr.try_get(f.url + "/ready")[0], 200)
        go.set()
        jr.wait_for(lambda: self.active(a) == 0 and self.active(b) == 0, "all have ended")

    def test_an_orderly_end_gives_leases_back(self):
        pool = self.pool()
        pool.add_worker(1, self.worker().url)
        self.known(1)
        first = self.leader()
        (other,) = [f for f in self.replicas if f is not first]
        for _ in range(3):
            self.assertEqual(jr.post(first.url + "/v1/completions",
                                     {"model": "tiny", "prompt": [1] * 9})[0], 200)
        self.assertEqual(first.stop(), 0, first.tail())
        # The last it said of its load: a base, and nothing is in it. It waits a second for NATS to have it.
        jr.wait_for(lambda: self.last_words(pool, first)[0], "its last base")
        self.assertEqual(self.last_words(pool, first), (True, set()))
        began = time.monotonic()
        self.assertIs(self.leader([other]), other)
        jr.wait_for(lambda: not any(p["listed"] for p in jr.pool(other.url)["peers"]),
                    "the peer's lease is back")
        self.assertLess(time.monotonic() - began, TTL + 5)


class Thresholds(Fleet):
    """Busy thresholds set at one replica are everybody's, and outlive all of them."""

    OTHER = "org/other:v1"

    def setUp(self):
        super().setUp()
        self.hold = threading.Event()
        self.addCleanup(self.hold.set)
        self.held = []
        self.url, self.bridges = self.worker(self.answer).url, self.pool()
        self.bridges.add_worker(1, self.url)
        self.bridges.add_worker(2, self.url, model=self.OTHER)
        self.known(2)

    def answer(self, request):
        self.held.append(json.loads(request.body)["model"])
        self.hold.wait(120)
        play.plain(request)

    @staticmethod
    def rows(f):
        rows = jr.get_json(f.url + "/busy_threshold")["thresholds"]
        return {r.pop("model"): {k: v for k, v in r.items() if v is not None} for r in rows}

    def post(self, f, expect=200, **kw):
        status, text = jr.post(f.url + "/busy_threshold", kw)
        self.assertEqual(status, expect, text)
        return json.loads(text)

    def see(self, expected):
        for f in self.replicas:
            jr.wait_for(lambda: self.rows(f) == expected, "%s at %s" % (expected, f.name), 60)

    def send(self, f, model):
        return jr.post(f.url + "/v1/completions", {"model": model, "prompt": [1] * 40})

    def in_background(self, f, model):
        result = []
        threading.Thread(target=lambda: result.append(self.send(f, model)), daemon=True).start()
        return result

    def test_set_at_one_known_to_all(self):
        a, b = self.replicas
        row = self.post(a, model="tiny", active_prefill_tokens_threshold=0)
        self.assertEqual(row["active_prefill_tokens_threshold"], 0)
        expected = {"tiny": {"active_prefill_tokens_threshold": 0}, self.OTHER: {}}
        self.assertEqual(self.rows(a), expected)
        self.see(expected)

        # The effect is the other's, too, and this model's alone.
        first = self.in_background(a, "tiny")
        jr.wait_for(lambda: self.held == ["tiny"], "the request at its worker", 60)
        jr.wait_for(lambda: any(w["active_prefill_tokens"] for w in jr.pool(b.url)["workers"]),
                    "its load at the other", 60)
        status, text = self.send(b, "tiny")
        self.assertEqual(status, 503, text)
        self.assertIn("All workers are busy", json.loads(text)["message"])
        others = [self.in_background(b, self.OTHER) for _ in range(2)]
        jr.wait_for(lambda: len(self.held) == 3, "those of the other model at their worker", 60)
        self.hold.set()
        jr.wait_for(lambda: first and all(others), "answers", 60)
        self.assertEqual([r[0][0] for r in [first] + others], [200] * 3)

        # Who comes later begins with them.
        c = self.replica("c")
        self.replicas.append(c)
        self.procs.wait_ready(c)
        self.known(2, c)
        self.assertEqual(self.rows(c), expected)
        for f in self.replicas:
            self.assertEqual(f.stop(), 0, f.tail(60))
        self.replicas = [self.procs.restart(f) for f in self.replicas[:2]]
        for f in self.replicas:
            self.procs.wait_ready(f)
        self.known(2)
        self.assertEqual([self.rows(f) for f in self.replicas], [expected] * 2)

    def test_one_order(self):
        """Writers at both at once: one is last for both, and none undoes what it was not told to."""
        def write(f, key, base):
            for i in range(1, 21):
                self.post(f, **{"model": self.OTHER, key: base + i,
                                "active_prefill_tokens_threshold": base + i})
        threads = [threading.Thread(target=write, args=args) for args in (
            (self.replicas[0], "active_prefill_tokens_threshold_frac", 100),
            (self.replicas[1], "active_prefill_tokens_threshold", 1000))]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120)
        # Each knows what it was told itself: as soon as they agree, both know the last.
        jr.wait_for(lambda: self.rows(self.replicas[0]) == self.rows(self.replicas[1]), "one view", 60)
        last = self.rows(self.replicas[0])[self.OTHER]
        self.assertEqual(last["active_prefill_tokens_threshold_frac"], 120)
        self.assertIn(last["active_prefill_tokens_threshold"], (120, 1020))
        self.see({"tiny": {}, self.OTHER: last})

    def key(self):
        """The key of the model that was set last."""
        api, stream = self.pool().nats.api, "KV_%s-state" % self.pool().prefix
        last = api("STREAM.INFO." + stream)["state"]["last_seq"]
        return api("STREAM.MSG.GET." + stream, {"seq": last})["message"]["subject"]

    def make_bucket(self):
        """As a replica would, but while none runs."""
        name = "%s-state" % self.pool().prefix
        self.pool().nats.api("STREAM.CREATE.KV_" + name, {
            "name": "KV_" + name, "subjects": ["$KV.%s.>" % name], "retention": "limits", "discard": "new",
            "storage": "file", "max_msgs_per_subject": 1, "num_replicas": 1, "allow_rollup_hdrs": True,
            "deny_delete": True, "allow_direct": True, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1})

    def test_back_without_data(self):
        """nats-server loses all it had, and one replica does not even know what was last done there. What was
        set is there again, what was deleted is not, and what somebody has set meanwhile stays."""
        third = "third"
        a, b = self.replicas
        pool = self.bridges
        pool.add_worker(3, self.url, model=third)
        self.known(3)
        half, full = {"active_decode_blocks_threshold": 0.5}, {"active_prefill_tokens_threshold": 7}
        self.post(a, model="tiny", **half)
        self.post(b, model=self.OTHER, **half)
        deleted = self.key()
        self.post(a, model=third, **half)
        meanwhile = self.key()
        self.see({"tiny": half, self.OTHER: half, third: half})

        b.send(signal.SIGSTOP)
        pool.nats.publish(deleted, b"", {"KV-Operation": "DEL"})
        jr.wait_for(lambda: self.rows(a)[self.OTHER] == {}, "the deletion", 60)
        a.send(signal.SIGSTOP)
        self.nats.kill()
        shutil.rmtree(self.nats.argv[self.nats.argv.index("-sd") + 1])
        self.nats = self.procs.restart(self.nats)
        jr.wait_for(lambda: jr.port_open(self.nats.port), "nats-server", 60)
        self.make_bucket()
        self.pool().nats.publish(meanwhile, json.dumps({"model": third, **full}).encode())
        for f in (b, a):
            f.send(signal.SIGCONT)
        expected = {"tiny": half, self.OTHER: {}, third: full}
        jr.wait_for(lambda: any("busy.written_back" in f.tail(10000) for f in (a, b)), "a row written back", 60)
        pool.reconnect()
        self.known(3)
        self.see(expected)
        # Whoever comes later has nothing but the bucket; and what holds can be changed as ever.
        c = self.replica("c")
        self.replicas.append(c)
        self.procs.wait_ready(c, 60)
        self.known(3, c)
        self.see(expected)
        self.post(c, model=self.OTHER, **full)
        self.see({**expected, self.OTHER: full})

    def test_without_nats_nothing_changes(self):
        self.post(self.replicas[0], model="tiny", active_decode_blocks_threshold=0.5)
        expected = {"tiny": {"active_decode_blocks_threshold": 0.5}, self.OTHER: {}}
        self.see(expected)
        self.nats.kill()
        f = self.replicas[1]
        jr.wait_for(lambda: not jr.get_json(f.url + "/state")["nats"]["connected"], "the loss", 60)
        text = self.post(f, 503, model="tiny", active_decode_blocks_threshold=0.7)["error"]
        self.assertIn("NATS", text)
        self.assertEqual(self.rows(f), expected)


class Outage(Fleet):
    def test_nats_restarts(self):
        w, pool = self.worker(), self.pool()
        pool.add_worker(1, w.url)
        seq = pool.fill(1, 20, self.rng)
        self.known(1)
        self.same_at(seq)
        self.nats.stop()
        for f in self.replicas:
            jr.wait_http(f.url + "/health",
                         lambda status, text: json.loads(text)["status"] == "degraded", proc=f)
            self.assertEqual(jr.get(f.url + "/ready")[0], 200)
            status, text = jr.post(f.url + "/v1/completions", {"model": "tiny", "prompt": "x"})
            self.assertEqual(status, 200, text)
            self.assertFalse(jr.get_json(f.url + "/state")["nats"]["connected"])
        self.nats = self.procs.restart(self.nats)
        for f in self.replicas:
            def ready_all_along(status, text, f=f):
                self.assertEqual(jr.get(f.url + "/ready")[0], 200)
                return json.loads(text)["status"] == "healthy"
            jr.wait_http(f.url + "/health", ready_all_along, proc=f)
        pool.reconnect()
        seq = pool.fill(1, 20, self.rng, begin=False)
        self.same_at(seq)
        jr.wait_for(lambda: all(v["recovery_state"] == "ready" for v in self.views()), "ready")
        self.assertEqual(jr.get_json(self.replicas[0].url + "/state")["nats"]["reconnects"], 1)
        self.leader()
        self.known(1)


if __name__ == "__main__":
    unittest.main()
