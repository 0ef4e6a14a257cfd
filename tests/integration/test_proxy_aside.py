# SPDX-License-Identifier: Apache-2.0
"""Workers that fail request after request are put aside, and are probed back by one request. Whoever gets
a request instead serves its model."""
import threading
import unittest

import jr_procs as jr
import jr_worker as play
from test_frontend import COMPLETION, Case

LONG = 60  # seconds aside that no test waits for


class Aside(Case):
    def pair(self, bad, n_good=1, **kw):
        """Round-robin over one worker that plays `bad` while self.sick, and good ones."""
        self.sick = True

        def answer(request):
            if self.sick and request.path != "/tokenize":
                return bad(request)
            return play.plain(request)
        workers = [self.worker(answer)] + [self.worker() for _ in range(n_good)]
        f = self.frontend(*workers, **{"worker_aside_secs": LONG, **kw})
        return f, workers

    def aside(self, f):
        return [w["aside"] for w in jr.pool(f.url)["workers"]]

    def ask_often(self, f, n=8, want=(200,)):
        for _ in range(n):
            self.assertIn(self.ask(f)[0], want)

    def test_kinds_of_failure(self):
        def server_error(request):
            play.send_json(request, 500, {"error": "engine is dead"})

        def mid_answer(request):
            play.send_head(request, "application/json", 1000)
            request.wfile.write(b"{")
            play.cut(request)
        for name, bad, want in (("hangs up", play.cut, (200,)), ("5xx", server_error, (200, 500))):
            with self.subTest(name):
                f, workers = self.pair(bad, name=name.replace(" ", "-"))
                self.ask_often(f, 12, want)
                self.assertEqual(self.aside(f), [True, False])
                self.assertEqual(len(workers[0].posts()), 3)
                self.assertEqual(jr.metric(f.url, "jetrouter_workers_aside"), 1)
                self.assertEqual(jr.metric(f.url, "jetrouter_workers_put_aside_total"), 1)
                self.wait_log(f, "worker.aside")
        f, workers = self.pair(mid_answer, name="mid")
        for _ in range(12):
            with play.Stream(f.url + "/v1/completions", COMPLETION) as s:
                s.head()
                s.rest()
        self.assertEqual(self.aside(f), [True, False])
        self.assertEqual(len(workers[0].posts()), 3)

    def test_one_that_does_not_answer_in_time(self):
        go = threading.Event()
        self.addCleanup(go.set)
        f, workers = self.pair(lambda request: go.wait(60), worker_first_byte_timeout_secs=2)
        self.ask_often(f, 8)  # each is answered by the other one
        self.assertEqual(self.aside(f), [True, False])
        self.assertEqual(len(workers[0].posts()), 3)

    def test_the_time_of_the_request_is_no_failure(self):
        """Over before the head, within the answer, or while the client does not read."""
        go = threading.Event()
        self.addCleanup(go.set)

        def begins(request):
            play.send_head(request)
            play.send_chunk(request, b'data: {"choices":[{"text":"begun"}]}\n\n')
            go.wait(60)

        def floods(request):
            play.send_head(request)
            while not go.is_set():
                play.send_chunk(request, b'data: {"choices":[{"text":"%s"}]}\n\n' % (b"a" * 60000))
        f, workers = self.pair(lambda request: go.wait(60), request_timeout_secs=0.3)
        jr.wait_for(lambda: self.ask(f) and len(workers[0].posts()) > 4, "it was asked often", 60)
        self.assertEqual(self.aside(f), [False, False])

        f, workers = self.pair(begins, name="begins", request_timeout_secs=0.3)
        for _ in range(10):
            with play.Stream(f.url + "/v1/completions", {**COMPLETION, "stream": True}) as s:
                status, (text, whole) = s.head(), s.rest()
            if status == 200 and b'"begun"' in text:
                self.assertFalse(whole)
                self.assertIn(b'"code":"timeout"', text)
                self.assertIn(b"within --request-timeout-secs", text)
        self.assertEqual(self.aside(f), [False, False])

        f, workers = self.pair(floods, name="floods", request_timeout_secs=0.3)
        streams = [play.Stream(f.url + "/v1/completions", COMPLETION) for _ in range(10)]

        def ended():
            return jr.metric(f.url, "jetrouter_proxy_failures_total")
        try:
            jr.wait_for(lambda: ended() > 3, "their time is over", 60)
        finally:
            go.set()
            for s in streams:
                s.close()
        self.assertEqual(self.aside(f), [False, False])

    def test_what_a_client_does_wrong_is_no_failure(self):
        f, workers = self.pair(lambda r: play.send_json(r, 400, {"error": "no"}))
        self.ask_often(f, 12, (200, 400))
        self.assertEqual(self.aside(f), [False, False])

    def test_failures_must_be_in_a_row(self):
        turn = []

        def sometimes(request):
            turn.append(1)
            return play.cut(request) if len(turn) % 3 else play.plain(request)
        f, workers = self.pair(sometimes)
        self.ask_often(f, 30)
        self.assertEqual(self.aside(f), [False, False])

    def test_probed_back_by_one_request(self):
        f, workers = self.pair(play.cut, worker_aside_secs=0.05)
        self.ask_often(f, 6)
        jr.wait_for(lambda: self.ask(f)[0] == 200 and
                    jr.metric(f.url, "jetrouter_workers_put_aside_total") >= 3, "it was probed and failed", 60)
        self.sick = False
        jr.wait_for(lambda: self.ask(f)[0] == 200 and self.aside(f) == [False, False], "it is back", 120)
        self.wait_log(f, "worker.back")
        before = len(workers[0].posts())
        self.ask_often(f, 4)
        self.assertEqual(len(workers[0].posts()), before + 2)

    def test_one_probe_at_a_time(self):
        """While the probe waits for its answer nobody else is sent there."""
        go, waits = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        slow = []

        def bad(request):
            if not slow:
                return play.cut(request)
            waits.set()
            go.wait(60)
            return play.plain(request)
        f, workers = self.pair(bad, worker_aside_secs=0.05)
        self.ask_often(f, 6)
        self.assertEqual(self.aside(f), [True, False])
        slow.append(1)
        answers, n = [], len(workers[0].posts())

        def ask():
            answers.append(self.ask(f)[0])
        first = threading.Thread(target=lambda: jr.wait_for(lambda: ask() or waits.is_set(), "a probe", 60))
        first.start()
        self.assertTrue(waits.wait(60))
        self.ask_often(f, 6)  # all to the other one
        self.assertEqual(len(workers[0].posts()), n + 1)
        go.set()
        first.join(60)
        self.assertEqual(set(answers), {200})
        jr.wait_for(lambda: self.aside(f) == [False, False], "it is back", 60)

    def test_never_more_than_half(self):
        workers = [self.worker(play.cut) for _ in range(4)]
        f = self.frontend(*workers, worker_aside_secs=LONG)
        self.ask_often(f, 8, (503, 502))
        self.assertEqual(sum(self.aside(f)), 2)
        f = self.frontend(self.worker(play.cut), name="one", worker_aside_secs=LONG)
        self.ask_often(f, 6, (503,))
        self.assertEqual(self.aside(f), [False])

    def test_better_one_that_fails_than_none(self):
        """The others are asked again when those left cannot take the request."""
        f, workers = self.pair(play.cut)
        self.ask_often(f, 8)
        self.assertEqual(self.aside(f), [True, False])
        self.sick = False
        workers[1].answer = play.cut
        self.assertEqual(self.ask(f)[0], 200)
        self.assertEqual(self.aside(f), [False, False])

    def test_pinned_requests_still_go_there(self):
        f, workers = self.pair(play.cut)
        self.ask_often(f, 8)
        self.assertEqual(self.aside(f), [True, False])
        self.sick = False
        self.assertEqual(self.ask(f, headers={"x-worker-instance-id": "1"})[0], 200)
        self.assertEqual(self.aside(f), [False, False])

    def test_one_that_is_down_is_not_counted(self):
        f, workers = self.pair(play.cut)
        self.ask_often(f, 8)
        self.assertEqual(jr.metric(f.url, "jetrouter_workers_aside"), 1)
        workers[0].close()
        jr.wait_for(lambda: jr.metric(f.url, "jetrouter_workers_aside") == 0, "it is forgotten", 60)
        self.assertEqual([w["state"] for w in jr.pool(f.url)["workers"]], ["down", "live"])
        self.ask_often(f, 4)

    def test_never_to_another_model(self):
        """The only one of its model dies with the request, and is down when it would be sent again."""
        go, answers = threading.Event(), []
        self.addCleanup(go.set)

        def dies(request):
            go.wait(60)
            play.cut(request)
        mine, other = self.worker(dies), self.worker(model="other")
        f = self.frontend(mine, other)
        t = threading.Thread(target=lambda: answers.append(self.ask(f)))
        t.start()
        jr.wait_for(mine.posts, "it was asked", 60)
        mine.healthy = False
        jr.wait_for(lambda: jr.pool(f.url)["workers"][0]["state"] == "down", "it is down", 60)
        go.set()
        t.join(60)
        self.assert_error(answers[0][0], answers[0][2], 503, "every worker failed")
        self.assertEqual(other.posts(), [])

    def test_off(self):
        f, workers = self.pair(play.cut, worker_failures=0)
        self.ask_often(f, 12)
        self.assertEqual(self.aside(f), [False, False])
        self.assertGreaterEqual(len(workers[0].posts()), 6)


if __name__ == "__main__":
    unittest.main(verbosity=2)
