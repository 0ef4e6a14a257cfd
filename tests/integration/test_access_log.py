# SPDX-License-Identifier: Apache-2.0
"""The access and slow-request log of a frontend: what each way to end leaves in it."""
import json
import os
import signal
import threading
import unittest

import jr_procs as jr
import jr_worker as play

SECRET = "the prompt that nobody may read"


class AccessLog(unittest.TestCase):
    def setUp(self):
        self.procs = jr.procs_of(self)
        self.path = os.path.join(self.procs.folder, "access.log")

    def frontend(self, worker, **kw):
        f = self.procs.frontend("front", worker=[worker.url], access_log_file=self.path, drain_delay_secs=0, **kw)
        self.procs.wait_ready(f)
        jr.wait_for(lambda: all(w["model"] for w in jr.pool(f.url)["workers"]), "models")
        return f

    def worker(self, answer=None):
        w = play.Worker(answer)
        self.addCleanup(w.close)
        return w

    def lines(self, n, path=None):
        """The log's lines, once there are n."""
        def there():
            with open(path or self.path) as f:
                got = f.read().splitlines()
            return got if len(got) >= n else None
        got = jr.wait_for(there, "%d lines" % n, timeout=60)
        for line in got:
            self.assertNotIn(SECRET, line)
        self.assertEqual(len(got), n)
        return [json.loads(line) for line in got]

    def ask(self, f, headers=None, **body):
        data = {"model": "tiny", "prompt": SECRET, "max_tokens": 4, **body}
        return jr.call("POST", f.url + "/v1/completions", data, headers, timeout=60)

    def test_each_way_to_end(self):
        def answer(request):
            if b"stream" not in request.body:
                return play.plain(request)
            play.send_head(request)
            play.send_chunk(request, b'data: {"choices":[{"index":0,"text":"a"}]}\n\n')
            if b"cut" in request.body:
                return play.cut(request)
            return play.wait_gone(request)
        w = self.worker(answer)
        f = self.frontend(w, access_log="full")
        hostile = 'x","status":1,"y":"\\'
        self.assertEqual(self.ask(f, {"X-Request-Id": hostile})[0], 200)
        self.assertEqual(self.ask(f, model="other")[0], 404)
        self.assertEqual(jr.call("POST", f.url + "/v1/completions", b'{"prompt":')[0], 400)
        with play.Stream(f.url + "/v1/completions", {"model": "tiny", "prompt": SECRET, "stream": True}) as s:
            s.head()
            s.line()
        self.lines(4)
        with play.Stream(f.url + "/v1/completions",
                         {"model": "tiny", "prompt": SECRET, "stream": True, "user": "cut"}) as s:
            s.head()
            s.rest()
        good, unknown, bad, gone, cut = self.lines(5)
        self.assertEqual((good["status"], good["error"], good["retries"]), (200, None, 0))
        self.assertIsInstance(good["worker"], int)
        self.assertEqual((good["tokens_in"], good["tokens_out"]), (8, 1))
        self.assertEqual((good["endpoint"], good["model"], good["stream"]), ("completions", "tiny", False))
        self.assertTrue(good["client"].startswith("127.0.0.1:"))
        self.assertGreater(good["bytes_in"], len(SECRET))
        self.assertGreater(good["bytes_out"], 50)
        self.assertLessEqual(good["ttft_ms"], good["duration_ms"])
        if good["request_id"] != hostile:  # an id that is no token may be replaced, never torn
            self.assertNotIn('"', good["request_id"])
        self.assertEqual((unknown["status"], unknown["error"], unknown["worker"]), (404, "not_found", None))
        self.assertEqual((bad["status"], bad["error"], bad["model"]), (400, "validation", ""))
        self.assertEqual((gone["status"], gone["error"], gone["stream"]), (200, "cancelled", True))
        self.assertEqual((gone["tokens_out"], cut["tokens_out"]), (1, 1))
        self.assertEqual((cut["status"], cut["error"]), (200, "internal"))

    def test_slow_requests_tell_their_decision(self):
        def answer(request):
            if b"slow" in request.body:
                self.release.wait(60)
            return play.plain(request)
        self.release = threading.Event()
        w = self.worker(answer)
        f = self.frontend(w, slow_request_ms=300)
        self.assertEqual(self.ask(f)[0], 200)
        t = threading.Thread(target=self.ask, args=(f, {"X-Request-Id": "the-slow-one"}), kwargs={"user": "slow"})
        t.start()
        jr.wait_for(lambda: len(w.posts()) == 2, "the slow one at the worker", timeout=60)
        self.release.wait(0.3)  # slow is what took 300 ms
        self.release.set()
        t.join()

        def there():
            with open(self.path) as log:
                text = log.read()
            return [json.loads(x) for x in text.splitlines()] if "the-slow-one" in text and text.endswith("\n") else None
        lines = jr.wait_for(there, "its line", timeout=60)
        for line in lines:  # on a busy machine the other one may be slow, too
            self.assertEqual(line["kind"], "slow")
            self.assertGreaterEqual(line["duration_ms"], 300)
        lines = [line for line in lines if line["request_id"] == "the-slow-one"]
        self.assertEqual(len(lines), 1)
        chosen = [c for c in lines[0]["candidates"] if c["worker"] == lines[0]["worker"]]
        self.assertEqual(len(chosen), 1)
        for term in ("overlap_blocks", "prefill_tokens", "requests", "prefill_cost", "load_cost", "cost"):
            self.assertIn(term, chosen[0])

    def test_the_file_is_opened_anew(self):
        f = self.frontend(self.worker(), access_log="full")
        self.ask(f)
        self.lines(1)
        os.rename(self.path, self.path + ".1")
        f.send(signal.SIGHUP)

        def asked():  # the signal has come once a line is in the new file
            self.ask(f)
            return os.path.exists(self.path)
        jr.wait_for(asked, "a new file", timeout=60)
        self.assertEqual(jr.try_get(f.url + "/ready")[0], 200)
        self.assertEqual(f.stop(), 0)
        with open(self.path) as new, open(self.path + ".1") as old:
            for line in new.read().splitlines() + old.read().splitlines():
                self.assertEqual(json.loads(line)["status"], 200)

    def test_a_sample_of_none(self):
        f = self.frontend(self.worker(), access_log="sampled", access_log_sample=0)
        self.ask(f)
        self.assertEqual(f.stop(), 0)
        self.assertFalse(os.path.exists(self.path))

    def test_a_file_that_cannot_be(self):
        f = self.procs.frontend("front", worker=["http://127.0.0.1:1"], access_log="full",
                                access_log_file="/nonexistent/access.log")
        self.assertNotEqual(f.popen.wait(60), 0)
        self.assertIn("/nonexistent/access.log", f.tail())


if __name__ == "__main__":
    unittest.main()
