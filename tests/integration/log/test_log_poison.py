# SPDX-License-Identifier: Apache-2.0
"""Messages that nobody can read stand in the middle of the log, and one of a version to come."""
import unittest

import jr_log
import jr_procs as jr
import log_rig as rig

GOOD_JSON = b'{"worker_id":77,"event":{"event_id":0,"data":"cleared","dp_rank":0}}'


class Poison(rig.LogTest):
    def poison(self, subject, payload, headers=None):
        return self.client().publish("%s.%s" % (rig.STREAM, subject), payload, headers)

    def passed(self, messages):
        """Each is a no-op by rule, counted, and the same for who reads it live, later or from a snapshot."""
        self.fleet("a", "b")
        for subject, payload, headers in messages:
            self.fill(4)
            self.poison(subject, payload, headers)
        self.fill(4)
        views = self.at_rest()
        for v in views:
            self.assertEqual(v["counters"]["undecodable"], len(messages))
        self.ready(self.replica("late"))
        self.ask_snapshot()
        self.await_snapshot(1)
        self.ready_from_snapshot(self.restart(self.killed("late")))
        self.fill(4)
        for v in self.settle():
            self.assertEqual(v["counters"]["undecodable"], len(messages))

    def killed(self, name):
        f, = [f for f in self.replicas if f.name == name]
        f.kill()
        return f

    def test_bad_json(self):
        deep = b'{"worker_id":1,"event":' + b'{"a":' * 5000
        self.passed([("kv-events", text, None) for text in (
            b"", b"{", b"[]", b"null", b"\xff\xfe", GOOD_JSON[:-9], deep,
            b'{"worker_id":"x","event":{"event_id":0,"data":"cleared"}}',
            b'{"worker_id":1,"event":{"event_id":0,"data":{"stored":{"parent_hash":null,"blocks":7}}}}')])

    def test_bad_protobuf(self):
        good = jr_log.batch(77, 5, 1, [jr_log.stored([1, 2], [3, 4])], True)
        uneven = jr_log.batch(77, 5, 1, [jr_log.uint(1, 1) + jr_log.packed(4, [1, 2]) + jr_log.packed(5, [3])], True)
        self.passed([("batch", data, None) for data in (
            good[:-3], b"\xff" * 64, b"\x0a", uneven, jr_log.batch(77, 0, 1, [], True),
            jr_log.batch(77, 5, 1, [jr_log.uint(1, 9)], True))])

    def test_bad_control(self):
        self.passed([("control", data, None) for data in (b"", b"\xff" * 16, b"\x5a\x7f")])

    def test_kind_of_a_newer_version(self):
        """Nobody may guess what it does: replicas stop before it, say so, and write no snapshot."""
        self.fleet("a", "b", router_snapshot_threshold=30)
        first = self.next_snapshot()
        self.at_rest()
        seq = self.poison("control", jr_log.field(63, 2, b"\x02\x08\x01"))
        for f in self.replicas:
            jr.wait_http(f.url + "/ready", lambda status, text: status == 503 and b"upgrade" in text, proc=f)
            self.assertEqual(jr.pool(f.url)["applied_seq"], seq - 1)
        newest = self.newest()
        self.fill(60)
        self.assertIn(self.procs.ctl(self.replicas[0].url, "snapshot", "--no-wait").returncode, (0, 75))  # it leads, or does not any more
        late = self.replica("late")
        jr.wait_http(late.url + "/ready", lambda status, text: status == 503 and b"upgrade" in text, proc=late)
        jr.wait_for(lambda: not any(p["leader"] for p in self.views()), "nobody is fit to lead")
        for p in self.views():
            self.assertEqual(p["applied_seq"], seq - 1)
        self.assertEqual(self.newest(), newest)
        self.assertGreaterEqual(newest, first)
        self.assertLessEqual(self.first_seq(), newest + 1)


if __name__ == "__main__":
    unittest.main()
