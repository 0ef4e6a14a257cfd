# SPDX-License-Identifier: Apache-2.0
"""A worker that answers "not I, not now" (--retry-statuses): another gets the request while not a byte
was relayed; when nobody else answers, the client gets what the worker said."""
import json
import threading
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import COMPLETION, Case

NEVER = {"worker_failures": 0}  # nobody is put aside: who is asked does not depend on what was before


def says(status, body=None, more=()):
    """A worker's answer of that status; more: further header lines."""
    data = json.dumps(body or {"error": "status %d" % status}).encode()

    def answer(request):
        request.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(data))),
                            *more):
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)
    return answer


class Refused(Case):
    def nothing_left(self, f):
        jr.wait_booked_out(f.url)

    def test_another_worker_gets_it(self):
        for status in (502, 503, 504):
            with self.subTest(status):
                bad, good = self.worker(says(status)), self.worker()
                f = self.frontend(bad, good, name="two-%d" % status, **NEVER)
                for _ in range(6):
                    self.assertEqual(self.ask(f)[0], 200)
                self.assertGreaterEqual(len(bad.posts()), 2)
                self.assertEqual(len(good.posts()), 6)
                self.assertEqual(
                    jr.metric(f.url, 'jetrouter_proxy_retries_total{reason="status"}'), len(bad.posts()))
                self.assertEqual(jr.metric(f.url, "dynamo_frontend_model_migration_total"),
                                 len(bad.posts()))
                self.nothing_left(f)

    def test_hashing_is_told_once(self):
        """Each attempt asks the index; the prompt was hashed before the first."""
        bad, good = self.worker(says(503)), self.worker()
        f = self.frontend(bad, good, router_mode="kv", kv_cache_block_size=4, **NEVER)
        asked = 0
        while not bad.posts():
            self.assertEqual(self.ask(f, {**COMPLETION, "prompt": [asked] * 16})[0], 200)
            asked += 1
            self.assertLess(asked, 60)
        for part, n in (("block_hashing", asked), ("indexer_find_matches", asked + len(bad.posts()))):
            self.assertEqual(jr.metric(f.url, "dynamo_router_overhead_%s_ms_count" % part), n, part)
        self.nothing_left(f)

    def test_streams_and_other_paths(self):
        bad, good = self.worker(says(503)), self.worker()
        f = self.frontend(bad, good, **NEVER)
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            for _ in range(4):
                body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "input": "x"}
                self.assertEqual(self.ask(f, body, path=path)[0], 200)
            self.assertGreaterEqual(len(bad.posts(path)), 1)
        for _ in range(4):
            with play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True}) as s:
                self.assertEqual(s.head(), 200)
        self.nothing_left(f)

    def test_nobody_else_answers(self):
        """The last of those who refused has the word, with all it said."""
        said = {"error": {"message": "the queue is full", "code": "mine"}}
        workers = [self.worker(says(503, said, (("Retry-After", "7"), ("X-Engine", "e")))) for _ in range(2)]
        f = self.frontend(*workers, **NEVER)
        status, head, body = self.ask(f)
        self.assertEqual((status, body), (503, said))
        self.assertEqual((head["retry-after"], head["x-engine"]), ("7", "e"))
        self.assertEqual([len(w.posts()) for w in workers], [1, 1])
        self.nothing_left(f)

    def test_the_only_worker(self):
        w = self.worker(says(503, {"error": "loading"}))
        f = self.frontend(w, **NEVER)
        for _ in range(3):
            self.assertEqual(self.ask(f)[::2], (503, {"error": "loading"}))
        self.assertEqual(len(w.posts()), 3)
        self.nothing_left(f)

    def test_the_others_die(self):
        dead, full = self.worker(play.cut), self.worker(says(503, {"error": "full"}))
        f = self.frontend(full, dead, **NEVER)
        for _ in range(4):
            self.assertEqual(self.ask(f)[::2], (503, {"error": "full"}))
        self.nothing_left(f)

    def test_limit(self):
        workers = [self.worker(says(503)) for _ in range(4)]
        for limit, want in ((0, 1), (1, 2), (2, 3)):
            with self.subTest(limit):
                f = self.frontend(*workers, name="limit%d" % limit, migration_limit=limit, **NEVER)
                before = sum(len(w.posts()) for w in workers)
                self.assertEqual(self.ask(f)[::2], (503, {"error": "status 503"}))
                self.assertEqual(sum(len(w.posts()) for w in workers) - before, want)
                self.nothing_left(f)

    def test_nobody_gets_it_twice(self):
        """However high the limit: those who refused are known by heart, and there it ends."""
        workers = [self.worker(says(503)) for _ in range(20)]
        f = self.frontend(*workers, migration_limit=60, **NEVER)
        self.assertEqual(self.ask(f)[::2], (503, {"error": "status 503"}))
        asked = sorted(len(w.posts()) for w in workers)
        self.assertEqual(asked, [0] * 3 + [1] * 17)
        self.nothing_left(f)

    def test_pinned(self):
        bad, good = self.worker(says(503)), self.worker()
        f = self.frontend(bad, good, **NEVER)
        self.assertEqual(self.ask(f, headers={"x-worker-instance-id": "1"})[0], 503)
        self.assertEqual(good.posts(), [])

    def test_which_statuses(self):
        """What a request did wrong is told at once; 429 is the client's unless it is named."""
        for named, status, want in ((None, 400, 400), (None, 429, 429), (None, 500, 500),
                                    ("429,500", 429, 200), ("429,500", 500, 200), ("429,500", 503, 503),
                                    ("none", 503, 503)):
            with self.subTest(named=named, status=status):
                bad, good = self.worker(says(status)), self.worker()
                more = {"retry_statuses": named} if named else {}
                f = self.frontend(bad, good, name="s%d-%s" % (status, "-".join((named or "").split(","))), **more, **NEVER)
                self.assertEqual({self.ask(f)[0] for _ in range(6)}, {200, want})

    def test_one_that_answers_well_for_once(self):
        """429 blames nobody, 503 does: the worker is put aside."""
        full, good = self.worker(says(429)), self.worker()
        f = self.frontend(full, good, retry_statuses="429", worker_aside_secs=60)
        for _ in range(12):
            self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual([w["aside"] for w in jr.pool(f.url)["workers"]], [False, False])
        bad, good = self.worker(says(503)), self.worker()
        f = self.frontend(bad, good, name="aside", worker_aside_secs=60)
        for _ in range(12):
            self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual([w["aside"] for w in jr.pool(f.url)["workers"]], [True, False])

    def test_a_long_answer_is_relayed(self):
        """Too long to be kept: it is the client's, whole."""
        said = {"error": "e" * 300000}
        bad, good = self.worker(says(503, said)), self.worker()
        f = self.frontend(bad, good, **NEVER)
        got = [self.ask(f)[::2] for _ in range(4)]
        self.assertIn((503, said), got)
        self.assertEqual({status for status, _ in got}, {200, 503})
        self.nothing_left(f)

    def test_cut_within_what_it_says(self):
        def half(request):
            request.send_response(503)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b"{")
            play.cut(request)
        bad, good = self.worker(half), self.worker()
        f = self.frontend(bad, good, **NEVER)
        for _ in range(4):
            self.assertEqual(self.ask(f)[0], 200)
        self.nothing_left(f)
        alone = self.frontend(self.worker(half), name="alone", **NEVER)
        status, _, body = self.ask(alone)
        self.assertEqual((status, body["error"]["code"]), (503, "no_worker"))

    def test_it_never_says_all(self):
        """Its words end in the middle, its connection does not: nobody waits for the rest."""
        def stall(request):
            request.send_response(503)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b"{")
            play.wait_gone(request, 60)
        bad, good = self.worker(stall), self.worker()
        f = self.frontend(bad, good, **NEVER)
        for _ in range(4):
            self.assertEqual(self.ask(f)[0], 200)
        self.assertGreaterEqual(len(bad.posts()), 1)
        self.nothing_left(f)

    def test_client_gone_while_it_is_asked_elsewhere(self):
        go, asked = threading.Event(), threading.Semaphore(0)
        self.addCleanup(go.set)

        def wait(request):
            asked.release()
            play.wait_gone(request, 60)
        f = self.frontend(self.worker(says(503)), self.worker(wait), **NEVER)
        for _ in range(4):
            with play.Stream(f.url + "/v1/completions", COMPLETION):
                self.assertTrue(asked.acquire(timeout=60))
            self.nothing_left(f)

    def test_time_is_up_elsewhere(self):
        """The time of the whole request ends while another works on it: what was said is the answer."""
        def wait(request):
            play.wait_gone(request, 60)
        f = self.frontend(self.worker(says(503, {"error": "full"})), self.worker(wait),
                          request_timeout_secs=4, **NEVER)
        got = [self.ask(f)[0] for _ in range(2)]
        self.assertEqual(set(got) - {503, 504}, set())
        self.assertIn(503, got)
        self.nothing_left(f)


if __name__ == "__main__":
    unittest.main()
