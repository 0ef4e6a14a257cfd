# SPDX-License-Identifier: Apache-2.0
"""Dashboards and alerts against a real Prometheus (Debian package `prometheus`): it scrapes two frontends and a
bridge while requests of all sorts end in all ways, and every query returns data. The alert rules pass promtool's
cases, and every metric that is asked for is in the table."""
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

import jr_otlp
import jr_procs as jr

CHART = os.path.join(jr.ROOT, "helm", "jetrouter")
ALERTS = os.path.join(CHART, "files", "alerts.yaml")
BLOCK = 16
MINUTE = 60
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
POLICY = """
default_policy_family: all
uncached_isl_buckets: [{min_tokens: 0, bucket: any}]
policy_classes:
- {name: all, policy_family: all, cache_bucket: any, queue_policy: fcfs, quantum: 64, prefill_busy_threshold_frac: 0}
"""
METRIC = re.compile(r"\b(?:jetrouter|dynamo)_[a-z0-9_]+")


def dashboards():
    """(file, title of the panel, query) of all."""
    for path in sorted(glob.glob(os.path.join(CHART, "dashboards", "*.json"))):
        with open(path) as f:
            board = json.load(f)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield os.path.basename(path), panel["title"], target["expr"]


def alerts():
    """(name, expression) of all; without PyYAML, for the file is ours."""
    with open(ALERTS) as f:
        for part in f.read().split("- alert: ")[1:]:
            body = re.sub(r"(?m)^ *#.*\n", "", part)
            expr = re.search(r"expr: (\|\n((?: {10,}.*\n)+)|.*\n)", body)
            yield part.split("\n")[0], " ".join((expr.group(2) or expr.group(1)).split())


def operands(expr):
    """What an alert compares: it returns data although nothing is wrong."""
    for part in expr.split(" or absent(")[0].split(" and "):
        yield re.sub(r" (?:==|>|<) [0-9.]+(?: \* [0-9]+)?$", "", part)


class Static(unittest.TestCase):
    def test_dashboards_are_what_the_list_says(self):
        subprocess.run([os.path.join(jr.ROOT, "helm", "dashboards.py"), "--check"], check=True)

    def test_panels_lie_side_by_side(self):
        for path in glob.glob(os.path.join(CHART, "dashboards", "*.json")):
            with open(path) as f:
                panels = json.load(f)["panels"]
            self.assertEqual(len({p["id"] for p in panels}), len(panels))
            cells = [(x, y) for p in panels for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
                     for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])]
            self.assertEqual(len(set(cells)), len(cells), path)

    def test_every_metric_is_in_the_table(self):
        said = subprocess.run([jr.JETROUTER, "docs", "metrics"], capture_output=True, text=True, check=True).stdout
        table = dict(re.findall(r"^\| `([a-z0-9_]+)` \| (\w+) ", said, re.M))
        for where, expr in [(f + ": " + t, q) for f, t, q in dashboards()] + list(alerts()):
            found = METRIC.findall(expr)
            self.assertTrue(found, where)
            for name in found:
                base = re.sub("_(bucket|sum|count)$", "", name) if name not in table else name
                self.assertIn(base, table, where)
                self.assertEqual(table[base] == "histogram", base != name, where)

    def test_every_alert_is_told_of(self):
        with open(os.path.join(jr.ROOT, "docs", "troubleshoot.md")) as f:
            text = f.read()
        for name, _ in alerts():
            self.assertIn("`%s`" % name, text)


@unittest.skipUnless(PROMTOOL, "promtool is not installed: ./dev setup --all")
class Promtool(unittest.TestCase):
    def test_rules(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(ALERTS, folder)
            shutil.copy(os.path.join(jr.ROOT, "tests", "helm", "alerts.test.yaml"), folder)
            for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]):
                done = subprocess.run([PROMTOOL, *words], cwd=folder, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_alert_fires_in_a_case(self):
        with open(os.path.join(jr.ROOT, "tests", "helm", "alerts.test.yaml")) as f:
            cases = f.read()
        for name, _ in alerts():
            self.assertRegex(cases, r"alertname: %s\n +exp_alerts" % name)
            self.assertIn("alertname: %s}" % name, cases)


# What no fleet of this rig brings about, and the test that sees it.
ELSEWHERE = {
    "jetrouter_tokenizer_prefix_wrong_total": "tests/integration/test_tokenizer.py",
    "jetrouter_metric_label_overflow_total": "tests/unit/app/test_app_metrics.c",
}
# 0 while all is well, in a fleet as small as this, or between two requests.
QUIET = set("""
dynamo_frontend_router_queue_backpressure_total dynamo_frontend_router_queue_pending_cached_tokens
dynamo_frontend_router_queue_pending_isl_tokens dynamo_frontend_router_queue_pending_requests
jetrouter_adoptions_total jetrouter_bookings_adopted_total jetrouter_bookings_expired_total
jetrouter_bookings_refused_total jetrouter_bridge_block_size_refused jetrouter_bridge_blocks_dropped_total
jetrouter_bridge_engine_messages_bad_total jetrouter_bridge_gaps_total jetrouter_bridge_lower_blocks
jetrouter_bridge_pending_events jetrouter_bridge_retries_total jetrouter_bridge_row_blocks_dropped_total
jetrouter_bridge_row_pending_events jetrouter_cached_not_predicted_tokens_total jetrouter_degraded_seconds
jetrouter_digest_mismatch jetrouter_digest_reloads_total jetrouter_dynamo_snapshot_failures_total
jetrouter_dynamo_snapshot_left_out jetrouter_http_accept_pauses_total jetrouter_http_bad_requests_total
jetrouter_http_bodies_bytes jetrouter_http_bodies_refused_total jetrouter_http_connections_refused_total
jetrouter_index_old jetrouter_index_truncated jetrouter_kv_events_dropped_total jetrouter_lag_messages
jetrouter_leases_refused_total jetrouter_nats_reconnects_total jetrouter_pool_reserve_bytes
jetrouter_predicted_not_cached_tokens_total jetrouter_purged_to_seq jetrouter_purges_total jetrouter_queue_requests
jetrouter_reannounce_total jetrouter_rejections_total jetrouter_resets_total jetrouter_sessions_ended_total
jetrouter_snapshot_failures_total jetrouter_stream_bytes_max jetrouter_stream_foreign_consumers
jetrouter_stream_may_forget jetrouter_sync_batches_failed_total jetrouter_sync_gaps_total jetrouter_sync_unknown_total
jetrouter_tokenizer_missing jetrouter_trace_spans_waiting jetrouter_workers_aside jetrouter_workers_put_aside_total
""".split())

CONFIG = """
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs:
  - job_name: plain
    static_configs: [{targets: [%s]}]
  - job_name: tls
    scheme: https
    tls_config: {ca_file: %s}
    static_configs: [{targets: ["%s"]}]
"""


@unittest.skipUnless(PROMETHEUS, "prometheus is not installed: ./dev setup --all")
class Scraped(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broken = False
        cls.procs = p = jr.Procs()
        cls.addClassCleanup(p.close)
        nats = p.nats()
        # Slow enough that some requests wait; two engines of another model that will refuse; one with a bridge apart.
        common = dict(nats=nats.url, block_size=BLOCK)
        p.mocker("workers", n=2, bridge=True, **common)
        cls.bad = p.mocker("bad", n=2, bridge=True, model_name="bad", component="bad", **common)
        engine = p.mocker("engine", events=True, block_size=BLOCK)
        port = {name: int(engine.argv[engine.argv.index("--zmq-%s-ports" % name) + 1]) for name in ("kv-events", "replay")}
        cls.system = jr.free_port()
        p.start_jetrouter("bridge", "bridge", engine_url=engine.urls[0], nats_server=nats.url, system_port=cls.system,
                          max_num_seqs=256, max_num_batched_tokens=8192, router_host_cache_hit_weight=0.5,
                          system_host="127.0.0.1", kv_events_endpoint="tcp://127.0.0.1:%d" % port["kv-events"],
                          kv_events_replay_endpoint="tcp://127.0.0.1:%d" % port["replay"])
        kw = dict(nats=nats.url, router_mode="kv", component=["backend", "bad"], router_queue_threshold=0,
                  lease_ttl_secs=2, drain_delay_secs=0)
        # What each says beyond the other, so that all there is to measure is measured somewhere.
        cls.collector = jr_otlp.Collector()
        cls.addClassCleanup(cls.collector.close)
        policy = os.path.join(p.folder, "policy.yaml")
        with open(policy, "w") as f:
            f.write(POLICY)
        cls.a = p.frontend("a", access_log="full", access_log_file=os.path.join(p.folder, "access"),
                           router_session_affinity_ttl_secs=600, enable_cache_control=True, forward_token_ids=True,
                           otel_export_enabled=True, otel_exporter_otlp_endpoint=cls.collector.url,
                           otel_bsp_schedule_delay=100, snapshot_compat="dynamo-1.0", http_threads=2, **kw)
        cls.b = p.frontend("b", tls_cert_path=jr.tls_file("server.pem"), tls_key_path=jr.tls_file("server.key"),
                           router_policy_config=policy, snapshot_compat="dynamo-1.0", **kw)
        for r in (cls.a, cls.b):
            p.wait_ready(r, timeout=MINUTE)
            jr.wait_for(lambda: [len(x["workers"]) for x in jr.get_json(r.url + "/state")["pools"]] == [3, 2],
                        lambda: "the workers\n" + r.tail(), MINUTE)
        cls.start_prometheus()
        cls.over = threading.Event()
        cls.traffic = [threading.Thread(target=cls.keep_asking, args=(i,)) for i in range(8)]
        for t in cls.traffic:
            t.start()
        cls.addClassCleanup(cls.end_traffic)

    @classmethod
    def end_traffic(cls):
        cls.over.set()
        for t in cls.traffic:
            t.join()

    @classmethod
    def start_prometheus(cls):
        path = os.path.join(cls.procs.folder, "prometheus.yml")
        plain = ", ".join('"127.0.0.1:%d"' % n for n in (cls.a.port, cls.system))
        with open(path, "w") as f:
            f.write(CONFIG % (plain, jr.tls_file("ca.pem"), "127.0.0.1:%d" % cls.b.port))
        port = jr.free_port()
        cls.prometheus = cls.procs.start("prometheus", [
            PROMETHEUS, "--config.file=" + path, "--storage.tsdb.path=" + os.path.join(cls.procs.folder, "tsdb"),
            "--web.listen-address=127.0.0.1:%d" % port, "--log.level=warn"])
        cls.prometheus.url = "http://127.0.0.1:%d" % port
        jr.wait_http(cls.prometheus.url + "/-/ready", timeout=MINUTE, proc=cls.prometheus)

    @classmethod
    def keep_asking(cls, number):
        """Requests that end in every way, until it is over."""
        n = 0
        while not cls.over.is_set():
            n += 1
            url = (cls.a, cls.b)[n % 2].url
            tokens = [number * 10000 + n - n % 3] * 100 * BLOCK
            asks = [
                ("/v1/completions", {"model": "mock-model", "prompt": tokens, "max_tokens": 4}),
                ("/v1/completions", {"model": "mock-model", "prompt": "word %d " % (n % 7) * 60, "max_tokens": 4}),
                ("/v1/chat/completions", {"model": "mock-model", "max_tokens": 3, "stream": True,
                                          "messages": [{"role": "user", "content": "hello %d" % n}]}),
                ("/v1/completions", {"model": "unknown", "prompt": "x"}),
                ("/v1/chat/completions", {"model": "mock-model", "max_tokens": 2,
                                          "cache_control": {"type": "ephemeral"},
                                          "messages": [{"role": "user", "content": "keep %d" % n}]}),
                ("/v1/completions?" + "x" * 5000, {"model": "mock-model", "prompt": "x"}),
                ("/v1/chat/completions", {"model": "bad", "max_tokens": 60, "stream": True,
                                          "messages": [{"role": "user", "content": "hello %d" % n}]}),
            ]
            try:
                path, body = asks[(n + number) % len(asks)]
                jr.call("POST", url + path, body, {"x-session-id": "s%d" % (n % 5)}, timeout=MINUTE)
                if number == 0:
                    cls.go_away()
            except (OSError, http.client.HTTPException):
                pass  # an answer that was cut

    @classmethod
    def go_away(cls):
        """A client that does not wait for the end of its answer."""
        body = json.dumps({"model": "mock-model", "prompt": [7] * 64, "max_tokens": 500, "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", cls.a.port), timeout=MINUTE) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(body) + body)
            s.recv(200)

    def ask(self, query):
        """The samples of a query that are numbers."""
        query = query.replace("$__rate_interval", "1m").replace("$pool_namespace", ".*").replace("$component", ".*")
        status, text = jr.get(self.prometheus.url + "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        self.assertEqual(status, 200, query + ": " + text.decode())
        return [s for s in json.loads(text)["data"]["result"] if s["value"][1] != "NaN"]

    @classmethod
    def break_things(cls):
        """Once: engines die within their answers, a snapshot is written, a certificate read again."""
        if cls.broken:
            return
        cls.broken = True
        # Streams are cut, and the requests after them tried at the other engine; then both are found to be gone.
        jr.wait_for(lambda: any(w["active_requests"] for w in jr.get_json(cls.a.url + "/state")["pools"][1]["workers"]),
                    "a stream of them", MINUTE)
        cls.bad.kill()
        cls.b.send(signal.SIGHUP)

        # Each pool has a leader of its own: only the one of the engines that live has blocks to write.
        def written():
            for url, words in ((cls.a.url, ()), (cls.b.url, ("--https-ca", jr.tls_file("ca.pem")))):
                cls.procs.ctl(url, "snapshot", *words)
            return any(jr.metric(r.url, "jetrouter_dynamo_snapshot_blocks") > 0 for r in (cls.a, cls.b))
        jr.wait_for(written, "a snapshot with blocks", 2 * MINUTE)

    def test_every_query_returns_data(self):
        self.break_things()
        queries = [(f + ": " + title, q) for f, title, q in dashboards()]
        queries += [(name, q) for name, expr in alerts() for q in operands(expr)]
        self.assertGreater(len(queries), 100)
        missing = dict.fromkeys(queries)

        def all_there():
            for key in list(missing):
                if self.ask(key[1]):
                    del missing[key]
            return not missing
        jr.wait_for(all_there, lambda: "data of\n" + "\n".join("%s: %s" % k for k in missing), 2 * MINUTE, every=1)

    def processes(self):
        return self.a.url, self.b.url, "http://127.0.0.1:%d" % self.system

    def scraped(self):
        """Samples of each metric of the table in all /metrics: {name: [value]}; of histograms the counts."""
        found = {}
        for url in self.processes():
            text = jr.get(url + "/metrics")[1].decode()
            kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
            for name, value in re.findall(r"^([a-z0-9_]+)(?:\{[^\n]*\})? (\S+)$", text, re.M):
                base = re.sub("_count$", "", name)
                if kinds.get(base) == "histogram":
                    found.setdefault(base, []).append(float(value))
                elif name in kinds:
                    found.setdefault(name, []).append(float(value))
        return found

    def test_every_metric_appears(self):
        """Each of the table in some process; and with a number that is not 0, but for what a fleet that is well never
        counts."""
        self.break_things()
        said = subprocess.run([jr.JETROUTER, "docs", "metrics"], capture_output=True, text=True, check=True).stdout
        table = set(re.findall(r"^\| `([a-z0-9_]+)` \| \w+ ", said, re.M))
        self.assertLess(set(ELSEWHERE) | QUIET, table)
        for name, path in ELSEWHERE.items():
            with open(os.path.join(jr.ROOT, path)) as f:
                self.assertTrue(re.search(name + "|" + name.replace("jetrouter_", "JR_METRIC_").upper(), f.read()), path)
        seen, counted = set(), set()

        def whole():
            found = self.scraped()
            seen.update(found)
            counted.update(name for name, values in found.items() if sum(values) > 0)
            for name, values in found.items():
                self.assertGreaterEqual(min(values), 0, name)
            return table - set(ELSEWHERE) <= seen and table - set(ELSEWHERE) - QUIET <= counted
        jr.wait_for(whole, lambda: "metrics: none of %s, 0 of %s" % (
            sorted(table - set(ELSEWHERE) - seen), sorted((table - set(ELSEWHERE) - QUIET) & seen - counted)), 2 * MINUTE, every=1)
        self.assertLessEqual(seen, table)

    def test_values_fit_each_other(self):
        """At one process, where nothing is in between: what is counted twice is the same, and numbers are what the
        scenario makes them."""
        jr.wait_for(lambda: jr.metric(self.a.url, "dynamo_frontend_inter_token_latency_seconds_count") > 0, "tokens", MINUTE)
        text = jr.get(self.a.url + "/metrics")[1].decode()

        def total(name, label=""):
            return sum(float(v) for v in re.findall(r"^%s(?:\{[^\n]*%s[^\n]*\})? (\S+)$" % (name, label), text, re.M))
        self.assertEqual(total("dynamo_frontend_inter_token_latency_seconds_count"),
                         total("dynamo_component_router_inter_token_latency_seconds_count"))
        self.assertEqual(total("dynamo_frontend_output_sequence_tokens_sum"), total("dynamo_frontend_output_tokens_total"))
        self.assertEqual(total("dynamo_frontend_kv_hit_rate_count"), total("dynamo_component_router_kv_hit_rate_count"))
        self.assertGreaterEqual(total("dynamo_frontend_inflight_requests"), total("dynamo_frontend_queued_requests"))
        self.assertLessEqual(total("dynamo_frontend_inflight_requests"), 9)
        self.assertEqual(total("dynamo_frontend_model_kv_cache_block_size", 'model="mock-model"'), BLOCK)
        self.assertEqual(total("dynamo_frontend_model_migration_limit", 'model="mock-model"'), 3)
        parts = [total("dynamo_router_overhead_%s_ms_sum" % part)
                 for part in ("block_hashing", "indexer_find_matches", "scheduling")]
        self.assertAlmostEqual(sum(parts), total("dynamo_router_overhead_total_ms_sum"), places=3)
        self.assertGreater(total("jetrouter_limit_reached_total", 'limit="http_target"'), 0)
        self.assertEqual(total("jetrouter_limit_reached_total", 'limit="http_target"'),
                         total("jetrouter_http_requests_total", 'code="414"'))
        self.assertNotIn('model="unknown"', text)

    def test_scraped_text_is_what_promtool_wants(self):
        for url in self.processes():
            text = jr.get(url + "/metrics")[1]
            done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True)
            # Its lint of names is of taste, and Dynamo's are what they are; what it cannot parse it says as an error.
            self.assertNotIn(b"error while", done.stderr)
            self.assertIn(done.returncode, (0, 3), done.stderr.decode())


if __name__ == "__main__":
    unittest.main()
