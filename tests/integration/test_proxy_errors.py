# SPDX-License-Identifier: Apache-2.0
"""Each row of docs/errors.md, provoked: status, both shapes, code, field and Retry-After."""
import json
import os
import threading
import unittest

import jr_log
import jr_procs as jr
import jr_worker as play
from test_frontend import COMPLETION, Case

NOT_PROVOKED = {("503", "overloaded", "too many requests are under way: retry later")}

POLICY = """
default_policy_family: all
uncached_isl_buckets: [{min_tokens: 0, bucket: all}]
policy_classes:
- {name: one, policy_family: all, cache_bucket: all, queue_policy: fcfs, quantum: 1,
   prefill_busy_threshold: 0, request_queue_limit_per_worker: 0}
"""


def table():
    """(status, type, error.type, code, param, retry, message) of each row."""
    with open(os.path.join(jr.ROOT, "docs", "errors.md")) as f:
        rows = [[c.strip().strip("`") for c in line.strip().strip("|").split(" |")] for line in f
                if line.startswith("| ") and not line.startswith("| status")]
    return {(r[0], r[3], r[6]): r for r in rows}


class Errors(Case):
    def setUp(self):
        super().setUp()
        self.rows, self.seen = table(), set()

    def check(self, name, status, head, body, key_message, words=None):
        """The answer is the row's; words: what the message has instead of the row's own."""
        with self.subTest(name):
            key = next(k for k in self.rows if k[2] == key_message)
            _, kind, openai, code, param, retry, message = self.rows[key][:7]
            want = [None if v == "null" else v for v in (code, param)]
            self.assertEqual((status, body["code"]), (int(key[0]), int(key[0])), body)
            self.assertEqual((body["type"], body["error"]["type"]), (kind, openai))
            self.assertEqual(body["error"]["code"], want[0])
            if want[1] or words is None:
                self.assertEqual(body["error"]["param"], want[1])
            self.assertEqual(body["message"], body["error"]["message"])
            self.assertIn(words or message, body["message"])
            if head is not None:
                self.assertEqual(head.get("retry-after", ""), retry)
                self.assertEqual(head["content-type"], "application/json")
            self.seen.add(key)

    def get(self, f, path, method="GET", body=None, headers=None):
        status, head, text = jr.call(method, f.url + path, body, headers)
        return status, head, json.loads(text)

    def test_table(self):
        token = os.path.join(self.procs.folder, "token")
        with open(token, "w") as t:
            t.write("secret\n")
        f = self.frontend(self.worker(), admin_token_file=token)
        self.check("body", *self.ask(f, {"model": "tiny"}), "the body is no valid request", "prompt")
        self.check("pin", *self.ask(f, headers={"x-worker-instance-id": "77"}),
                   "the worker that the request names is not available")
        self.check("admin", *self.get(f, "/admin/drain", "POST"), "/admin is for administrators", "Bearer")
        self.check("model", *self.ask(f, {**COMPLETION, "model": "other"}),
                   "no such model is served here: see /v1/models", '"other" is not served here')
        self.check("one model", *self.get(f, "/v1/models/other"), "no such model is served here: see /v1/models")
        self.check("path", *self.get(f, "/nothing"), "there is no such path: requests go to /v1/chat/completions, "
                   "/v1/completions or another path below /v1")
        self.check("method", *self.get(f, "/health", "POST"), "this path is for other methods", "GET")
        self.check("target", *self.get(f, "/health?" + "x" * 5000), "the path and query are longer than 4096 bytes")

        f = self.frontend(self.worker(), router_mode="direct", name="direct")
        self.check("direct", *self.ask(f), "the request cannot be routed as it asks", "worker id")

        f = self.frontend(self.worker(play.cut), name="cut")
        self.check("pinned to one that fails", *self.ask(f, headers={"x-worker-instance-id": "1"}),
                   "the worker did not answer", "worker 1")
        self.check("all fail", *self.ask(f), "no worker is available: start one, or wait for it to register",
                   "every worker failed")

        f = self.frontend("http://127.0.0.1:%d" % jr.free_port(), ready=False, name="none")
        self.procs.wait_ready(f)
        self.check("none", *self.ask(f), "no worker is available: start one, or wait for it to register", "worker")

        def half(request):
            play.send_head(request)
            play.send_chunk(request, b'data: {"choices":[{"text":"a"}]}\n\n')
            play.cut(request)
        f = self.frontend(self.worker(half), name="half")
        with play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True}) as s:
            self.assertEqual(s.head(), 200)
            text, _ = s.rest()
        event = text.decode().split("\n\n")[1].split("\n")
        self.assertEqual(event[0], "event: error")
        body = json.loads(event[2][len("data: "):])
        self.check("stream", 502, None, body, "the worker ended its answer before it was whole")

        go = threading.Event()
        self.addCleanup(go.set)
        f = self.frontend(self.worker(lambda request: go.wait(60)), request_timeout_secs=0.3, name="late")
        self.check("timeout", *self.ask(f), "no worker answered within --request-timeout-secs: retry later")

        f, held = self.busy(go)
        self.check("busy", *self.ask(f, self.LONG), "All workers are busy, please retry later")
        go.set()
        held.join(60)

        go.clear()
        policy = os.path.join(self.procs.folder, "policy.yaml")
        with open(policy, "w") as t:
            t.write(POLICY)
        f, held = self.busy(go, router_policy_config=policy, active_prefill_tokens_threshold="None")
        self.check("limit", *self.ask(f, self.LONG), "All workers are busy and the queue of the request's "
                   "policy class is full, please retry later")
        go.set()
        held.join(60)
        self.conflicts()
        self.assertEqual(set(self.rows) - self.seen, NOT_PROVOKED)

    def conflicts(self):
        """A request of an external data plane that waits, and is asked for again."""
        nats = self.procs.nats()
        r = self.procs.router("router", nats.url, "test.backend.generate", router_block_size=4,
                              router_queue_threshold=0, lease_ttl_secs=2, drain_delay_secs=0)
        self.frontends.append(r)
        self.procs.wait_ready(r, 60)
        pool = jr_log.Pool(nats.url, "test", ttl=2)
        self.addCleanup(pool.close)
        pool.add_worker(1, self.worker().url)
        jr.wait_for(lambda: [w["state"] for w in jr.pool(r.url)["workers"]] == ["live"], "the worker", 60)

        def select(name):
            return self.get(r, "/select", "POST", {"token_ids": [1] * 40, "request_id": name})
        self.assertEqual(select("first")[0], 200)
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(select("second")), daemon=True)
        waiting.start()
        jr.wait_for(lambda: jr.pool(r.url)["queue"]["waiting"] == 1, "the second to wait", 60)
        words = "a request of this id is waiting for a worker already"
        self.check("selected twice", *select("second"), words, "waiting")
        # Freed meanwhile: who waits is told so.
        self.assertEqual(self.get(r, "/free", "POST", {"request_id": "second"})[0], 200)
        waiting.join(60)
        status, _, body = answers[0]
        self.assertEqual((status, body["error"]["code"]), (409, "conflict"), body)

    LONG = {"model": "tiny", "prompt": [1] * 500, "max_tokens": 4}

    def busy(self, go, **kw):
        """A frontend whose one worker has its fill until go is set, and the thread that asked it."""
        def slow(request):
            go.wait(120)
            return play.plain(request)
        w = self.worker(slow)
        kw = {"active_prefill_tokens_threshold": 100, **kw}
        f = self.frontend(w, router_mode="kv", router_kv_events=False,
                          name="busy%d" % len(self.frontends), **kw)
        held = threading.Thread(target=jr.post, args=(f.url + "/v1/completions", self.LONG), kwargs={"timeout": 120})
        held.start()
        jr.wait_for(w.posts, "the worker has a request", 60)
        return f, held

    def test_status_when_all_are_busy(self):
        go = threading.Event()
        self.addCleanup(go.set)
        f, held = self.busy(go, overload_status=529)
        status, head, body = self.ask(f, self.LONG)
        self.assertEqual((status, body["code"], body["type"], body["error"]["code"]),
                         (529, 529, "Overloaded", "overloaded"))
        self.assertEqual(head["retry-after"], "1")
        go.set()
        held.join(60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
