# SPDX-License-Identifier: Apache-2.0
"""Spans of requests, as a collector gets them."""
import json
import unittest

import jr_otlp
import jr_procs as jr
import jr_worker as play
from test_frontend import CHAT, COMPLETION, Case

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLIENT = "00-%s-%s-01" % (TRACE, PARENT)
WAIT = 60


def stream(request):
    """Two tokens, and a usage that tells what was cached."""
    if request.path == "/tokenize":
        return play.plain(request)
    usage = {**play.usage(11, 2), "prompt_tokens_details": {"cached_tokens": 7}}
    play.send_head(request)
    for text in "ab":
        play.send_chunk(request, b'data: {"choices":[{"index":0,"text":"%s"}]}\n\n' % text.encode())
    play.send_chunk(request, b"data: %s\n\n" % json.dumps({"choices": [], "usage": usage}).encode())
    play.send_chunk(request, b"data: [DONE]\n\n")
    return play.send_chunk(request, b"")


class Tracing(Case):
    def traced(self, *workers, collector=None, **kw):
        """A frontend and its collector."""
        if collector is None:
            collector = jr_otlp.Collector()
            self.addCleanup(collector.close)
        options = {"otel_exporter_otlp_endpoint": collector.url, "otel_bsp_schedule_delay": 50, **kw}
        return self.frontend(*workers, otel_export_enabled=True, **options), collector

    def trace_of(self, collector, trace=TRACE):
        """Its spans, once that of the request, the last, is there."""
        jr.wait_for(lambda: [s for s in collector.trace(trace) if s.kind == "server"],
                    lambda: "the trace: %s" % collector.spans, timeout=WAIT)
        return collector.trace(trace)

    def count(self, f, result, name="jetrouter_trace_spans_total"):
        text = jr.get(f.url + "/metrics")[1].decode()
        return sum(float(line.split()[1]) for line in text.splitlines()
                   if line.startswith('%s{result="%s"}' % (name, result)))

    def wait_count(self, f, result, n=1, name="jetrouter_trace_spans_total"):
        jr.wait_for(lambda: self.count(f, result, name) >= n, "%d %s" % (n, result), timeout=WAIT)

    def ids(self, w, i=-1):
        """What its traceparent told the worker."""
        return w.posts()[i].headers.get_all("traceparent")

    def test_a_request(self):
        w = self.worker(stream)
        f, c = self.traced(w, router_mode="kv", router_kv_events=False, otel_service_name="front of house",
                           otel_resource_attributes="deployment.environment.name=test%20bed,service.name=x")
        headers = {"traceparent": CLIENT, "tracestate": "a=1,b=2", "X-Request-Id": "r-1"}
        with play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True}, headers) as s:
            self.assertEqual(s.head(), 200)
            self.assertTrue(s.rest()[1])
        request, *steps = self.trace_of(c)
        self.assertEqual([s.name for s in steps], ["tokenization", "decision", "upstream"])
        tokenization, decision, upstream = steps
        self.assertEqual((request.parent, request.kind, request.state), (PARENT, "server", "a=1,b=2"))
        self.assertEqual(request.flags & 0x301, 0x301)  # sampled, and its parent is remote
        for s in steps:
            self.assertEqual((s.parent, s.flags & 0x301), (request.id, 0x101), s)
            self.assertTrue(request.start <= s.start <= s.end <= request.end, s)
            self.assertFalse(s.failed)
        self.assertEqual(len({s.id for s in [request] + steps}), 4)
        self.assertEqual(self.ids(w), ["00-%s-%s-01" % (TRACE, upstream.id)])
        self.assertEqual(w.posts()[-1].headers.get_all("tracestate"), ["a=1,b=2"])
        self.assertEqual(request.name, "POST /v1/completions")
        self.assertGreater(request.attrs.pop("jetrouter.ttft_ms"), 0)
        self.assertEqual(request.attrs, {
            "http.request.method": "POST", "url.path": "/v1/completions", "http.response.status_code": 200,
            "gen_ai.operation.name": "text_completion", "gen_ai.request.model": "tiny",
            "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 2, "jetrouter.cached_tokens": 7,
            "jetrouter.request_id": "r-1", "jetrouter.stream": True, "jetrouter.attempts": 1})
        self.assertEqual(tokenization.attrs, {"jetrouter.prompt_tokens": 11, "jetrouter.by_text": False})
        self.assertEqual(decision.attrs, {
            "jetrouter.component": "static", "jetrouter.prompt_tokens": 11, "jetrouter.prompt_blocks": 0,
            "jetrouter.queue_ms": 0, "jetrouter.candidates": 1, "jetrouter.worker_id": "1",
            "jetrouter.dp_rank": 0, "jetrouter.overlap_blocks": 0})
        self.assertEqual((upstream.kind, upstream.attrs), ("client", {
            "http.request.method": "POST", "url.full": w.url + "/v1/completions", "jetrouter.worker_id": "1",
            "jetrouter.dp_rank": 0, "jetrouter.overlap_blocks": 0, "jetrouter.predicted_tokens": 0,
            "jetrouter.cached_tokens": 7, "http.response.status_code": 200}))
        self.assertEqual(list(upstream.events), ["first_token"])
        self.assertTrue(upstream.start <= upstream.events["first_token"] <= upstream.end)
        self.assertEqual(request.resource["service.name"], "front of house")
        self.assertEqual(request.resource["service.instance.id"], "front")
        self.assertEqual(request.resource["deployment.environment.name"], "test bed")
        self.assertEqual((c.requests[0][0], c.requests[0][1]["Content-Type"]),
                         ("/v1/traces", "application/x-protobuf"))
        self.wait_count(f, "sent", 4)

    def test_a_trace_of_its_own(self):
        """No traceparent, and one that is none: a new trace, in which a foreign tracestate has no place."""
        w = self.worker()
        f, c = self.traced(w)
        for headers in ({}, {"traceparent": CLIENT.upper(), "tracestate": "a=1"}):
            self.assertEqual(self.ask(f, CHAT, "/v1/chat/completions", headers)[0], 200)
            parent, = w.posts("/v1/chat/completions")[-1].headers.get_all("traceparent")
            self.assertIsNone(w.posts("/v1/chat/completions")[-1].headers["tracestate"])
            _, trace, span, flags = parent.split("-")
            request, decision, upstream = self.trace_of(c, trace)
            self.assertEqual((request.parent, request.state, flags), ("", "", "01"))
            self.assertEqual((decision.parent, upstream.id), (request.id, span))
            self.assertNotEqual(trace, TRACE)

    def test_another_worker_after_a_failure(self):
        died = []

        def dies_once(request):
            if not died:
                died.append(1)
                return play.cut(request)
            return play.plain(request)
        a, b = self.worker(dies_once), self.worker(dies_once)
        f, c = self.traced(a, b)
        self.assertEqual(self.ask(f, headers={"traceparent": CLIENT})[0], 200)
        request, *steps = self.trace_of(c)
        self.assertEqual([s.name for s in steps], ["decision", "upstream"] * 2)
        self.assertEqual({s.parent for s in steps}, {request.id})
        first, second = steps[1], steps[3]
        self.assertEqual((first.failed, first.attrs["error.type"], bool(first.words)), (True, "ECONN", True))
        self.assertNotIn("http.response.status_code", first.attrs)
        self.assertEqual((second.failed, second.attrs["http.request.resend_count"]), (False, 1))
        self.assertEqual({first.attrs["jetrouter.worker_id"], second.attrs["jetrouter.worker_id"]}, {"1", "2"})
        self.assertEqual({i.split("-")[2] for w in (a, b) for i in self.ids(w)}, {first.id, second.id})
        self.assertEqual((request.failed, request.attrs["jetrouter.attempts"]), (False, 2))

    def test_ways_to_fail(self):
        def answer(request):
            if b"gone" in request.body:
                play.send_head(request)
                play.send_chunk(request, b'data: {"choices":[{"index":0,"text":"a"}]}\n\n')
                return play.wait_gone(request)
            return play.send_json(request, 503, {})
        f, c = self.traced(self.worker(answer))
        self.assertEqual(self.ask(f, headers={"traceparent": CLIENT})[0], 503)
        request, _, refused, again = self.trace_of(c)
        self.assertEqual((refused.failed, refused.attrs["http.response.status_code"],
                          refused.attrs["error.type"]), (True, 503, "503"))
        self.assertEqual((again.name, again.failed, again.attrs["error.type"]), ("decision", True, "ENOWORKER"))
        self.assertEqual((request.failed, request.attrs["http.response.status_code"]), (True, 503))
        other = CLIENT.replace("0af7", "0af8")
        with play.Stream(f.url + "/v1/completions", {**COMPLETION, "user": "gone", "stream": True},
                         {"traceparent": other}) as s:
            s.head()
            s.line()
        request, _, upstream = self.trace_of(c, other.split("-")[1])
        self.assertEqual((request.attrs["error.type"], upstream.attrs["error.type"]), ("cancelled", "ECANCELED"))
        self.assertIn("first_token", upstream.events)

    def test_a_body_that_cannot_be_read(self):
        f, c = self.traced(self.worker())
        for path in ("completions", "chat/completions"):
            status, _, _ = jr.call("POST", f.url + "/v1/" + path, b"{no json", {"traceparent": CLIENT, "X-Request-Id": "r-7"})
            self.assertEqual(status, 400)
        jr.wait_for(lambda: len(c.spans) == 2, lambda: "two spans: %s" % c.spans, timeout=WAIT)
        self.assertEqual({s.name for s in c.spans}, {"POST /v1/completions", "POST /v1/chat/completions"})
        for s in c.spans:
            self.assertEqual((s.kind, s.trace, s.attrs["http.response.status_code"], s.attrs["error.type"],
                              s.attrs["jetrouter.request_id"]), ("server", TRACE, 400, "validation", "r-7"))

    def test_who_is_sampled(self):
        w = self.worker()
        unsampled = CLIENT[:-1] + "0"
        f, c = self.traced(w, otel_traces_sampler_arg=0)
        self.assertEqual(self.ask(f, headers={"traceparent": unsampled, "tracestate": "a=1"})[0], 200)
        self.assertEqual(self.ids(w), [unsampled])  # without a span of ours its parent is the client's
        self.assertEqual(w.posts()[-1].headers["tracestate"], "a=1")
        self.assertEqual(self.ask(f)[0], 200)
        self.assertRegex(self.ids(w)[0], "^00-[0-9a-f]{32}-[0-9a-f]{16}-00$")
        self.assertEqual(self.ask(f, headers={"traceparent": CLIENT})[0], 200)
        self.assertEqual({s.trace for s in self.trace_of(c)}, {TRACE})
        self.wait_count(f, "sent", 3)
        self.assertEqual(len(c.spans), 3)  # of the one request whose client samples it
        f.stop()
        f, c = self.traced(w, name="second", otel_traces_sampler="always_off")
        self.assertEqual(self.ask(f, headers={"traceparent": CLIENT})[0], 200)
        self.assertEqual(self.ids(w), [unsampled])
        f.stop()
        self.assertEqual(c.requests, [])

    def test_a_collector_that_is_away(self):
        gone = jr_otlp.Collector(jr.free_port())
        gone.close()
        w = self.worker()
        f, _ = self.traced(w, collector=gone, otel_bsp_max_queue_size=8, otel_bsp_schedule_delay=1,
                           http_threads=1)
        self.assertEqual(self.ask(f)[0], 200)
        self.wait_count(f, "retried", 1, "jetrouter_trace_exports_total")
        for _ in range(10):
            self.assertEqual(self.ask(f)[0], 200)
        self.wait_count(f, "queue_full")
        self.assertLessEqual(jr.metric(f.url, "jetrouter_trace_spans_waiting"), 16)
        self.wait_log(f, "trace.export_failed")
        back = jr_otlp.Collector(gone.server.server_port)
        self.addCleanup(back.close)
        self.wait_count(f, "sent", 8)
        self.wait_log(f, "trace.export_resumed")

    def test_what_a_collector_answers(self):
        w = self.worker()
        # The three of a request go together, however long it takes: an answer is for all of them.
        f, c = self.traced(w, otel_bsp_max_export_batch_size=3, otel_bsp_schedule_delay=600000)
        c.answers = [(429, {"Retry-After": "1"}, b"")]
        self.assertEqual(self.ask(f)[0], 200)
        self.wait_count(f, "sent", 3)
        self.assertEqual([r[2] for r in c.requests], [429, 200])
        self.assertEqual(len(c.spans), 3)
        c.answers = [(400, {}, b"no")]
        self.assertEqual(self.ask(f)[0], 200)
        self.wait_count(f, "failed", 3)
        c.answers = [(200, {}, bytes.fromhex("0a0608021202686f"))]
        self.assertEqual(self.ask(f)[0], 200)
        self.wait_count(f, "rejected", 2)
        self.assertEqual([r[2] for r in c.requests], [429, 200, 400, 200])
        self.assertEqual(self.count(f, "sent"), 4)

    def test_a_collector_that_says_nothing(self):
        f, c = self.traced(self.worker(), otel_exporter_otlp_timeout=200, http_threads=1)
        c.answers = [None]
        self.assertEqual(self.ask(f)[0], 200)
        self.wait_count(f, "retried", 1, "jetrouter_trace_exports_total")
        self.wait_count(f, "sent", 3)

    def test_how_many_at_once(self):
        """All that waits goes out as soon as there is a batch of it, and in no larger ones."""
        f, c = self.traced(self.worker(), otel_bsp_max_export_batch_size=2, otel_bsp_schedule_delay=600000,
                           http_threads=1)
        for _ in range(4):
            self.assertEqual(self.ask(f)[0], 200)
        self.wait_count(f, "sent", 12)
        self.assertEqual(set(c.sizes), {2})

    def test_headers_of_the_options(self):
        f, c = self.traced(self.worker(), otel_exporter_otlp_traces_endpoint=None,
                           env={"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20k, x-tenant=a"})
        self.assertEqual(self.ask(f)[0], 200)
        jr.wait_for(lambda: c.requests, "a request to the collector", timeout=WAIT)
        self.assertEqual((c.requests[0][1]["Authorization"], c.requests[0][1]["x-tenant"]), ("Bearer k", "a"))

    def test_several_loops(self):
        """Each sends its own spans; none comes twice, none is lost."""
        w, many = self.worker(), 48
        f, c = self.traced(w, http_threads=4)
        for i in range(many):
            trace = "%032x" % (i + 1)
            self.assertEqual(self.ask(f, headers={"traceparent": "00-%s-%s-01" % (trace, PARENT)})[0], 200)
        self.wait_count(f, "sent", 3 * many)
        self.assertEqual({len(c.trace("%032x" % (i + 1))) for i in range(many)}, {3})
        self.assertEqual(len({s.id for s in c.spans}), 3 * many)

    def test_what_is_left_is_sent_at_the_end(self):
        """It has a second, which a loaded machine may need for itself: some end will do."""
        w = self.worker()

        def ends():
            f, c = self.traced(w, name="end%d" % len(self.frontends), http_threads=4,
                               otel_bsp_schedule_delay=3600000)
            for _ in range(8):
                self.assertEqual(self.ask(f)[0], 200)
            self.assertEqual(jr.metric(f.url, "jetrouter_trace_spans_waiting"), 24)
            self.assertEqual(c.spans, [])
            self.assertEqual(f.stop(), 0)
            return len(c.spans) == 24
        jr.wait_for(ends, "an end in which all was sent", timeout=WAIT)

    def test_off_without_the_switch(self):
        c = jr_otlp.Collector()
        self.addCleanup(c.close)
        w = self.worker()
        f = self.frontend(w, otel_exporter_otlp_endpoint=c.url)
        self.wait_log(f, "--otel-export-enabled")
        self.assertEqual(self.ask(f)[0], 200)
        self.assertIsNone(w.posts()[-1].headers["traceparent"])
        f.stop()
        self.assertEqual(c.requests, [])

    def test_options_that_cannot_be(self):
        for words, option in (("otel-exporter-otlp-endpoint", {"otel_exporter_otlp_endpoint": "localhost"}),
                              ("otel-resource-attributes", {"otel_resource_attributes": "a=%zz"}),
                              ("OTEL_EXPORTER_OTLP_HEADERS", {"env": {"OTEL_EXPORTER_OTLP_HEADERS": "a=%0d%0ab"}})):
            with self.subTest(words):
                f = self.procs.frontend("bad", worker=["http://127.0.0.1:1"], otel_export_enabled=True, **option)
                self.assertEqual(f.popen.wait(WAIT), 78)
                self.assertIn(words, f.tail())


if __name__ == "__main__":
    unittest.main(verbosity=2)
