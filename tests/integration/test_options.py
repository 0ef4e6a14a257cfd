#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What options do, seen from outside: each through the HTTP surface of real processes."""
import base64
import json
import os
import random
import socket
import sys
import threading
import time
import unittest

import jr_log
import jr_procs as jr
import jr_worker as play
import test_router
from test_frontend import COMPLETION, Case

sys.path.insert(0, os.path.join(jr.ROOT, "chaos"))
from lib import nats as jr_witness  # noqa: E402


class Exposition(Case):
    def after_a_request(self, f):
        self.assertEqual(self.ask(f)[0], 200)
        return jr.get(f.url + "/metrics")[1].decode()

    def test_metrics_prefix(self):
        text = self.after_a_request(self.frontend(self.worker(), metrics_prefix="my_front"))
        self.assertIn("\n# TYPE my_front_requests_total counter\n", text)
        self.assertIn("\nmy_front_time_to_first_token_seconds_count{", text)
        self.assertNotIn("dynamo_frontend_", text)

    def test_without(self):
        text = self.after_a_request(self.frontend(self.worker()))
        self.assertIn("\n# TYPE dynamo_frontend_requests_total counter\n", text)


class AdminPort(Case):
    def test_administration_is_there_and_nowhere_else(self):
        port = jr.free_port()
        f = self.frontend(self.worker(), admin_port=port)
        admin = "http://127.0.0.1:%d" % port
        status, text = jr.post(f.url + "/admin/snapshot")
        self.assertEqual(status, 403, text)
        self.assertIn("--admin-port", json.loads(text)["message"])
        self.assertEqual(jr.post(admin + "/admin/snapshot")[0], 202)
        self.assertEqual(jr.post(admin + "/busy_threshold", {"model": "tiny"})[0], 200)
        for path in ("/live", "/ready", "/health", "/metrics", "/state", "/workers"):
            self.assertEqual(jr.get(admin + path)[0], 200, path)
        # What is for workers is not served there.
        for path in ("/v1/completions", "/v1/embeddings"):
            status, text = jr.post(admin + path, {"model": "tiny", "prompt": [1]})
            self.assertEqual(status, 404, text)
            self.assertIn("--http-port", json.loads(text)["message"])
        status, head, text = jr.call("GET", admin + "/admin/drain")
        self.assertEqual((status, head["allow"]), (405, "POST"))

    def test_a_body_has_its_time(self):
        port = jr.free_port()
        self.frontend(self.worker(), admin_port=port, http_body_timeout_secs=1)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
            s.sendall(b"POST /admin/reset HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")
            s.settimeout(0.1)
            said, end = b"", time.monotonic() + 60
            while not said and time.monotonic() < end:
                try:
                    s.sendall(b" ")  # it always moves on
                    said = s.recv(64)
                except TimeoutError:
                    pass
            self.assertEqual(said[:12], b"HTTP/1.1 408")

    def test_it_answers_until_the_end(self):
        port = jr.free_port()
        f = self.frontend(self.worker(), admin_port=port, drain_delay_secs=0, drain_timeout_secs=60)
        admin = "http://127.0.0.1:%d" % port
        self.assertEqual(jr.post(admin + "/admin/drain")[0], 202)
        self.assertEqual(f.popen.wait(30), 0, f.tail())

    def test_taken(self):
        port = jr.free_port()
        first = self.frontend(self.worker(), admin_port=port)
        second = self.frontend(first.url, ready=False, name="second", admin_port=port)
        self.frontends.remove(second)
        self.assertEqual(second.popen.wait(30), 73, second.tail())
        self.assertIn("--admin-port", second.tail(1))


class DiscoverPools(Case):
    def pools(self, f):
        return {p["component"]: sum(w["state"] == "live" for w in p["workers"])
                for p in jr.get_json(f.url + "/state")["pools"]}

    def test_each_pool_of_the_namespace(self):
        nats = self.procs.nats()
        kw = dict(bridge=True, nats=nats.url)
        f = self.frontend(ready=False, nats=nats.url, router_mode="kv", discover_pools=True)
        jr.wait_http(f.url + "/ready", lambda status, text: b"no pool of the namespace" in text, proc=f)
        self.procs.mocker("red-0", model_name="red", component="red", **kw)
        jr.wait_for(lambda: self.pools(f) == {"red": 1}, "the first pool", 60)
        self.procs.wait_ready(f)
        self.procs.mocker("blue-0", model_name="blue", component="blue.1", **kw)
        self.procs.mocker("other", model_name="other", component="other", namespace="elsewhere", **kw)
        jr.wait_for(lambda: sorted(self.pools(f).values()) == [1, 1], "the second pool", 60)
        jr.wait_for(lambda: sorted(m["id"] for m in jr.get_json(f.url + "/v1/models")["data"]) ==
                    ["blue", "red"], "both models", 60)
        for model in ("red", "blue"):
            self.assertEqual(jr.post(f.url + "/v1/completions", {
                "model": model, "prompt": [1, 2, 3], "max_tokens": 2})[0], 200)
        self.assertEqual(len(self.pools(f)), 2)

    def test_named_ones_at_once(self):
        nats = self.procs.nats()
        f = self.frontend(nats=nats.url, router_mode="kv", discover_pools=True, component="named")
        self.procs.mocker("red-0", bridge=True, nats=nats.url, component="red")
        jr.wait_for(lambda: self.pools(f) == {"named": 0, "red": 1}, "both", 60)

    def test_a_named_one_is_not_found_again(self):
        """Streams have their own spelling of a pool's name: it is the same pool all the same."""
        nats = self.procs.nats()
        kw = dict(bridge=True, nats=nats.url)
        self.procs.mocker("blue-0", component="blue.1", **kw)
        self.procs.mocker("red-0", component="red", **kw)
        f = self.frontend(nats=nats.url, router_mode="kv", discover_pools=True, component="blue.1")
        jr.wait_for(lambda: self.pools(f).get("red") == 1, "the one that is found", 60)
        self.assertEqual(sorted(self.pools(f)), ["blue.1", "red"])

    def test_one_that_comes_late_does_not_take_ready_back(self):
        """A bucket somebody left behind, of a pool that cannot be opened: its stream has no room."""
        nats = self.procs.nats()
        kw = dict(bridge=True, nats=nats.url)
        self.procs.mocker("red-0", component="red", **kw)
        f = self.frontend(nats=nats.url, router_mode="kv", discover_pools=True, ready_timeout_secs=3600)
        bad = jr.get_json(f.url + "/state")["pools"][0]["stream"].replace("red", "bad")
        jr.make_stream(nats, "elsewhere", bad + ".*")
        bucket = "KV_" + bad.replace("kv-events", "leases")
        jr.make_stream(nats, bucket, "$" + bucket.replace("_", ".") + ".>")
        jr.wait_for(lambda: "bad" in self.pools(f), "the pool", 60)
        self.wait_log(f, "nats.open_failed")
        text = jr.get(f.url + "/ready")[1]
        pools = {p["component"]: p["ready"] for p in json.loads(text)["pools"]}
        self.assertEqual(pools, {"red": True, "bad": False})
        self.assertTrue(json.loads(text)["ready"], text)


class Device(Case):
    def wait_devices(self, f):
        jr.wait_for(lambda: sorted(w["device"] for w in jr.get_json(f.url + "/workers")["pools"][0]["workers"]) ==
                    ["cpu", "gpu"], "both devices", 60)

    def test_engines_on_a_cpu_have_their_part(self):
        nats = self.procs.nats()
        go = threading.Event()
        self.addCleanup(go.set)

        def hold(request):
            go.wait(120)
            play.plain(request)
        gpu, cpu = self.worker(hold), self.worker(hold)
        f = self.frontend(nats=nats.url, router_mode="device-aware-weighted", encoder_cuda_to_cpu_ratio=2)
        pool = jr_log.Pool(nats.url, "dynamo", ttl=5)
        self.addCleanup(pool.close)
        pool.add_worker(1, gpu.url)
        pool.add_worker(2, cpu.url)
        pool.workers[2]["device"] = "cpu"
        pool.put("worker.2", json.dumps(pool.workers[2]).encode())
        self.wait_devices(f)
        threads = []
        for n in range(1, 10):
            t = threading.Thread(target=self.ask, args=(f,), daemon=True)
            t.start()
            threads.append(t)
            jr.wait_for(lambda: len(gpu.posts() + cpu.posts()) == n, "request %d at a worker" % n, 60)
            self.assertEqual(len(cpu.posts()), n // 3, "one for each two of the other's")
        go.set()
        for t in threads:
            t.join(60)

    def test_a_bridge_says_it(self):
        nats = self.procs.nats()
        self.procs.mocker("slow", bridge=True, nats=nats.url, device="cpu")
        self.procs.mocker("fast", bridge=True, nats=nats.url)
        self.wait_devices(self.frontend(nats=nats.url))


class Output(Case):
    def test_output_blocks_count_when_asked_to(self):
        go = threading.Event()
        self.addCleanup(go.set)

        def stream(request):
            play.send_head(request)
            for _ in range(64):
                play.send_chunk(request, b'data: {"choices":[{"index":0,"text":"a","token_ids":[1]}]}\n\n')
            go.wait(120)
            play.cut(request)
        for track in (False, True):
            f = self.frontend(self.worker(stream), router_mode="kv", kv_cache_block_size=4, migration_limit=0,
                              router_track_output_blocks=track, name="track-%s" % track)
            s = play.Stream(f.url + "/v1/completions", {**COMPLETION, "prompt": [1] * 8, "stream": True})
            with s:
                self.assertEqual(s.head(), 200)
                for _ in range(64):  # each with an empty line behind it
                    self.assertTrue(s.line().startswith(b"data: "))
                    s.line()
                jr.wait_for(lambda: (jr.pool(f.url)["workers"][0]["active_blocks"] > 2) == track,
                            "the output's blocks: %s" % track, 60)


def asks_for_huge_pages(f):
    with open("/proc/%d/smaps" % f.pid, encoding="ascii") as text:
        return any(" hg" in line for line in text if line.startswith("VmFlags"))


class Index(Case):
    def test_its_size_and_the_age_of_snapshots(self):
        nats = self.procs.nats()
        f = self.frontend(nats=nats.url, router_mode="kv", namespace="test", index_max_entries=10,
                          snapshot_max_age_secs=1)
        pool = jr_log.Pool(nats.url, "test", ttl=5)
        self.addCleanup(pool.close)
        pool.add_worker(1, self.worker().url)
        jr.wait_for(lambda: jr.pool(f.url)["applied_seq"], "the parameters in the log", 60)
        seq = pool.fill(1, 30, random.Random(1))
        jr.wait_for(lambda: jr.pool(f.url)["applied_seq"] >= seq, "the messages", 60)
        self.assertEqual(jr.pool(f.url)["entries"], 10)
        self.assertGreater(jr.metric(f.url, "jetrouter_kv_events_dropped_total"), 0)
        jr.wait_for(lambda: jr.pool(f.url)["leader"], "the leader", 60)
        self.assertEqual(jr.post(f.url + "/admin/snapshot")[0], 202)
        first = jr.wait_for(lambda: jr.pool(f.url)["snapshot"], "a snapshot", 60)
        pool.fill(1, 3, random.Random(2), begin=False)
        jr.wait_for(lambda: jr.pool(f.url)["snapshot"]["seq"] > first["seq"], "a newer one, by age alone", 60)


    def test_huge_pages(self):
        """What a process asked of the kernel for its memory: smaps has hg of what is to be in huge pages."""
        nats = self.procs.nats()
        asks = {on: self.frontend(nats=nats.url, router_mode="kv", namespace="test", huge_pages=on, name="huge-%s" % on)
                for on in (True, False)}
        pool = jr_log.Pool(nats.url, "test", ttl=5)
        self.addCleanup(pool.close)
        pool.add_worker(1, self.worker().url)
        rng = random.Random(3)
        for i in range(250):  # they come from 16 MiB of index on
            blocks = [rng.getrandbits(64) for _ in range(2000)]
            seq = pool.send(1, [jr_log.stored(blocks, blocks, None)], begin=i == 0)
        for on, f in asks.items():
            jr.wait_for(lambda f=f: jr.pool(f.url)["applied_seq"] >= seq, "the messages", 60)
            self.assertGreater(jr.pool(f.url)["index_bytes"], 16 << 20)
            wanted = on and jr.sanitizer() != "asan"  # which sees no overflow between parts of a page
            jr.wait_for(lambda f=f, wanted=wanted: asks_for_huge_pages(f) == wanted, "huge pages: %s" % wanted, 60)


class EventFormat(Case):
    def test_what_is_in_the_stream(self):
        for form, subject in (("batch", "batch"), ("json", "kv-events")):
            with self.subTest(form):
                nats = self.procs.nats(name="nats-" + form)
                m = self.procs.mocker("m-" + form, bridge=True, nats=nats.url, event_format=form, block_size=4)
                f = self.frontend(nats=nats.url, router_mode="kv", name="f-" + form)
                jr.wait_for(lambda: [w["state"] for w in jr.pool(f.url)["workers"]] == ["live"], "the worker", 60)
                self.assertEqual(jr.post(m.urls[0] + "/v1/completions", {
                    "model": "mock-model", "prompt": list(range(40)), "max_tokens": 1})[0], 200)
                jr.wait_for(lambda: jr.pool(f.url)["entries"] >= 10, "the blocks in the index", 60)
                stream = jr.pool(f.url)["stream"]
                info = jr.js_api(nats, "STREAM.INFO." + stream, b'{"subjects_filter":">"}')
                kinds = {s[len(stream) + 1:] for s in info["state"]["subjects"]}
                self.assertEqual(kinds - {"control"}, {subject})


class ReusePort(Case):
    def test_two_share_a_port(self):
        w = self.worker()
        first = self.frontend(w, http_reuse_port=True, name="first")
        self.frontend(w, http_reuse_port=True, name="second", port=first.port)
        seen = set()

        def both():
            seen.add(jr.get_json(first.url + "/state")["replica"]["id"])
            return len(seen) == 2
        jr.wait_for(both, "an answer of each", 60)


class Costs(test_router.Case):
    """What each option makes of the same load: one worker has the prompt cached, and a booking."""

    def measured(self, **kw):
        """The candidates of the prompt: with the booking first."""
        r = self.router(router_queue_threshold="None", **kw)
        worker = self.worker_of_the_prompt
        booked = {"token_ids": test_router.prompt(5, 4), "routing": {"backend_instance_id": worker}}
        for name in ("one", "two"):  # of one prompt
            self.ask(r, "/select", {**booked, "request_id": name})

        def known():
            said = self.ask(r, "/best_worker_id", {"token_ids": self.ids})["candidates"]
            said.sort(key=lambda c: c["worker_id"] != worker)
            return said if kw.get("load_aware") or said[0]["overlap_blocks"] else None
        found = jr.wait_for(known, "the prompt in the index", 60)
        for name in ("one", "two"):
            self.ask(r, "/free", {"request_id": name})
        return found

    def costs(self, formula, **kw):
        found = self.measured(**kw)
        for c in found:
            self.assertAlmostEqual(c["cost"], formula(c, found), places=6, msg="%s: %s" % (kw, c))
        self.assertNotAlmostEqual(found[0]["cost"], found[1]["cost"])

    @staticmethod
    def first(weight):
        """Dynamo 1.0's."""
        return lambda c, _: weight * c["potential_prefill_tokens"] / test_router.BLOCK + c["potential_decode_blocks"]

    def later(self, credit=1.0, scale=1.0, requests=0.0, decay=0.0):
        def formula(c, all_of_them):
            excess = (c["prefill_tokens"] - min(k["prefill_tokens"] for k in all_of_them)) / len(self.ids)
            prefill = (c["prefill_tokens"] + len(self.ids)) / test_router.BLOCK
            prefill -= credit / (1 + decay * excess) * c["overlap_blocks"]
            return scale * max(0, prefill) + c["potential_decode_blocks"] + requests * c["active_requests"]
        return formula

    def setUp(self):
        super().setUp()
        self.ids = test_router.prompt(4, 8)
        self.worker_of_the_prompt = self.cache(self.router("teller"), self.ids)

    def test_weights(self):
        self.costs(self.first(3), router_kv_overlap_score_weight=3)
        self.costs(self.first(1), router_cost_model="dynamo")
        self.costs(self.later(credit=0.5), router_kv_overlap_score_credit=0.5)
        self.costs(self.later(decay=2), router_kv_overlap_score_credit_decay=2)
        self.costs(self.later(scale=2), router_prefill_load_scale=2)
        self.costs(self.later(requests=5), router_decode_active_request_weight=5)

    def test_presets(self):
        self.costs(self.later(), router_preset="dynamo")
        self.costs(self.later(credit=4, scale=16, requests=64), router_preset="dynamo-tuned")
        self.costs(self.later(credit=2, scale=4, requests=64), agentic=True)
        self.costs(self.later(credit=0), load_aware=True)

    def test_what_is_tracked(self):
        def load(**kw):
            c = self.measured(**kw)[0]
            return c["prefill_tokens"], c["decode_blocks"], c["active_requests"]
        self.assertEqual(load(), (5 * test_router.BLOCK, 4, 2), "the second has all but its last block from the first")
        self.assertEqual(load(router_assume_kv_reuse=False), (8 * test_router.BLOCK, 8, 2))
        self.assertEqual(load(router_track_active_blocks=False)[1:], (0, 2))
        self.assertEqual(load(router_track_prefill_tokens=False), (0, 4, 2))


class LowerMedia(test_router.Case):
    """A worker that has the prompt in host memory, and one that has it on disk, as bridges would tell of them."""

    def tell(self, like, worker, row):
        """The worker's row has what the device of another one has."""
        nats = jr_log.Nats(self.nats.url)
        self.addCleanup(nats.close)
        pool = "namespace-test-component-prefill"
        lease = nats.api("STREAM.MSG.GET.KV_%s-leases" % pool,
                         {"last_by_subj": "$KV.%s-leases.worker.%d" % (pool, worker)})["message"]
        incarnation = int(json.loads(base64.b64decode(lease["data"]))["ranks"][0]["incarnation"])
        events = []
        for seq in range(1, nats.api("STREAM.INFO.%s-kv-events" % pool)["state"]["last_seq"] + 1):
            m = nats.api("STREAM.MSG.GET.%s-kv-events" % pool, {"seq": seq})["message"]
            data = base64.b64decode(m["data"])
            if m["subject"].endswith(".batch") and jr_witness.Batch(data).worker == like:
                events += [value for number, value in jr_witness.fields(data) if number == 7]
        return nats.publish("%s-kv-events.batch" % pool,
                            jr_log.batch(worker, incarnation, 1, events, begin=True, rank=row))

    told = 0

    def cost(self, worker, ids, **kw):
        r = self.router(router_cost_model="dynamo", **kw)
        jr.wait_for(lambda: jr.pool(r.url)["applied_seq"] >= self.told, "the rows", 60)
        found = self.ask(r, "/best_worker_id", {"token_ids": ids})["candidates"]
        return next(c["cost"] for c in found if c["worker_id"] == worker)

    def test_weights_of_host_and_disk(self):
        ids = test_router.prompt(9, 8)
        r = self.router("teller")
        first = int(self.cache(r, ids))
        other = next(int(w["worker_id"]) for w in jr.pool(r.url)["workers"] if int(w["worker_id"]) != first)
        nothing = self.cost(other, ids)
        for row, option in ((128, "router_disk_cache_hit_weight"), (64, "router_host_cache_hit_weight")):
            self.told = self.tell(first, other, row)
            self.assertEqual(self.cost(other, ids), nothing, "unless asked for")
            for weight in (0.5, 1):  # of eight blocks
                self.assertEqual(self.cost(other, ids, **{option: weight}), nothing - 8 * weight, option)


class Steps(Case):
    """What the model of an engine's time adds to an answer: at least that, however busy the machine is."""

    STILL = {"step_base_ms": 0, "step_prefill_us": 0, "step_attention_ps": 0, "step_decode_us": 0, "step_kv_ns": 0}

    def seconds(self, **kw):
        m = self.procs.mocker("m-" + "-".join(kw), block_size=4, **{**self.STILL, **kw})
        begun = time.monotonic()
        self.assertEqual(jr.post(m.urls[0] + "/v1/completions", {
            "model": "mock-model", "prompt": list(range(100)), "max_tokens": 5})[0], 200)
        return time.monotonic() - begun

    def test_each(self):
        self.assertGreaterEqual(self.seconds(step_base_ms=60), 5 * 0.060)  # a step a token
        self.assertGreaterEqual(self.seconds(step_prefill_us=3000), 100 * 0.003)
        self.assertGreaterEqual(self.seconds(step_attention_ps=60000000), 100 * 99 / 2 * 60e-6)
        self.assertGreaterEqual(self.seconds(step_decode_us=70000), 4 * 0.070)
        self.assertGreaterEqual(self.seconds(step_kv_ns=700000), 4 * 100 * 700e-6)


class Deaf(Case):
    def test_how_long_a_connection_may_take(self):
        """A worker with a lease whose queue of connections is full: the other one is asked after that time."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(0)
            for _ in range(8):
                held = socket.socket()
                self.addCleanup(held.close)
                held.setblocking(False)
                held.connect_ex(s.getsockname())
            nats, w = self.procs.nats(), self.worker()
            f = self.frontend(nats=nats.url, router_mode="round-robin", worker_connect_timeout_secs=1)
            pool = jr_log.Pool(nats.url, "dynamo", ttl=5)
            self.addCleanup(pool.close)
            pool.add_worker(1, "http://127.0.0.1:%d" % s.getsockname()[1])
            pool.add_worker(2, w.url)
            jr.wait_for(lambda: [k["state"] for k in jr.pool(f.url)["workers"]] == ["live"] * 2, "both workers", 60)
            took = []
            for _ in range(2):  # one of them goes to it first
                begun = time.monotonic()
                self.assertEqual(self.ask(f)[0], 200)
                took.append(time.monotonic() - begun)
            self.assertEqual(len(w.posts()), 2)
            self.assertGreaterEqual(max(took), 1)


class LogFormat(Case):
    def test_a_line_is_an_object(self):
        f = self.frontend(self.worker(), log_format="json")
        with open(f.log) as log:
            lines = [json.loads(line) for line in log.read().splitlines()]
        self.assertTrue(all({"time", "level", "event"} <= line.keys() for line in lines), lines)
        self.assertIn(f.port, [line["port"] for line in lines if line["event"] == "frontend.listening"])


class InitialWorkers(Case):
    def test_ready_when_there_are_enough(self):
        nats = self.procs.nats()
        f = self.frontend(ready=False, nats=nats.url, router_mode="kv", router_min_initial_workers=2)
        self.procs.mocker("one", bridge=True, nats=nats.url)
        jr.wait_for(lambda: len(jr.pool(f.url)["workers"]) == 1, "the first worker", 60)
        jr.wait_http(f.url + "/ready", lambda status, text: b"router-min-initial-workers" in text, proc=f)
        self.assertEqual(jr.get(f.url + "/ready")[0], 503)
        two = self.procs.mocker("two", bridge=True, nats=nats.url)
        self.procs.wait_ready(f)
        # What comes later does not take it back.
        two.stop()
        jr.wait_for(lambda: sum(w["state"] == "live" for w in jr.pool(f.url)["workers"]) == 1,
                    "one worker again", 60)
        self.assertEqual(jr.get(f.url + "/ready")[0], 200)


if __name__ == "__main__":
    unittest.main()
