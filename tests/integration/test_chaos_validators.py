# SPDX-License-Identifier: Apache-2.0
"""The validators of ./dev chaos can fail: each is given a record that breaks its promise."""
import copy
import os
import sys
import types
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "chaos"))
from lib import nats, validate  # noqa: E402
from lib.traffic import BadAnswer, Request, read_stream  # noqa: E402


def sample(seq, messages=None, start=1, **kw):
    pool = {"applied_seq": seq, "counters": {"log_messages": seq if messages is None else messages},
            "stream_created": "1", "recovery_state": "ready", "restored_entries": 0}
    pool.update(kw)
    return {"start": start, "ready": True, "because": "", "nats": {"connected": True}, "pool": pool}


def history(*samples, first=1, previous=0, newest=(5, 1)):
    stream = {"first": first, "last": 100, "snapshots": {
        "previous": {"seq": previous}, "newest": {"seq": newest[0], "revision": newest[1], "stream_created_ns": "1"}}}
    return [{"t": float(i), "stream": copy.deepcopy(stream), "replicas": {"f0": s}} for i, s in enumerate(samples)]


def batch(first_id, events, begin=False, incarnation=7, worker=1):
    return types.SimpleNamespace(worker=worker, rank=0, incarnation=incarnation, first_id=first_id,
                                 events=events, begin=begin)


def stored(*blocks, parent=None):
    return nats.STORED, parent is not None, parent or 0, blocks


class Validators(unittest.TestCase):
    def holds(self, violations):
        self.assertEqual(violations, [])

    def breaks(self, violations, words):
        self.assertEqual(len(violations), 1, violations)
        self.assertIn(words, violations[0])

    def test_ordered(self):
        self.holds(validate.Ordered(history(sample(5), sample(9))))
        self.holds(validate.Ordered(history(sample(9), sample(5, start=2))))
        self.breaks(validate.Ordered(history(sample(9), sample(5))), "back to 5")

    def test_unique(self):
        self.holds(validate.Unique(history(sample(5), sample(9))))
        self.breaks(validate.Unique(history(sample(5), sample(9, messages=10))), "applied 5 messages but moved by 4")
        self.breaks(validate.Unique(history(sample(5), sample(9, messages=8))), "applied 3 messages")

    def test_nothing_forgotten(self):
        self.holds(validate.NothingForgotten(history(sample(9), first=4, previous=4)))
        self.breaks(validate.NothingForgotten(history(sample(9), first=5, previous=4)), "previous snapshot covers 4")
        self.breaks(validate.NothingForgotten(history(sample(2), first=4, previous=4)), "f0 is at 2")

    def test_snapshots_only_grow(self):
        good, bad = history(sample(1), newest=(9, 2)), history(sample(1), newest=(8, 3))
        self.holds(validate.SnapshotsOnlyGrow(good + history(sample(1), newest=(10, 3))))
        self.breaks(validate.SnapshotsOnlyGrow(good + bad), "follows (9, 2)")

    def test_stayed_ready(self):
        away = sample(1)
        away["ready"], away["because"] = False, "draining"
        self.holds(validate.StayedReady(history(sample(1), away), 0, 0.5))
        self.breaks(validate.StayedReady(history(sample(1), away), 0, 1.5), "draining")

    def test_no_gap(self):
        good = [(1, batch(1, [stored(1)], begin=True)), (2, batch(2, [stored(2), stored(3)])), (3, batch(4, [stored(4)]))]
        self.holds(validate.NoGap(good))
        self.breaks(validate.NoGap(good[:2] + [(3, batch(5, [stored(4)]))]), "follows id 3")
        self.holds(validate.NoGap(good + [(4, batch(90, [stored(4)], incarnation=8))]))

    def test_witness(self):
        log = [(1, batch(1, [stored(1, 2)], begin=True)), (2, batch(3, [stored(9)])), (3, batch(2, [stored(3, parent=2)]))]
        pools = {"f0": {"workers": [{"worker_id": "1", "dp_rank": 0, "blocks": 2}]}}
        self.assertEqual(validate.Witness(log).blocks(), {})  # the hole cleared it
        self.assertEqual(validate.Witness(log[:1] + log[2:]).blocks(), {"1/0": 3})
        self.holds(validate.AgreesWithWitness(log[:1], pools))
        self.breaks(validate.AgreesWithWitness(log[:1] + log[2:], pools), "the log says {'1/0': 3}")

    def test_witness_control(self):
        gone = nats.Control(b"\x52\x16\x09" + (1).to_bytes(8, "little") + b"\x12\x0b\x08\x00\x11" + (7).to_bytes(8, "little"))
        self.assertEqual((gone.kind, gone.worker, gone.ended), (10, 1, {0: 7}))
        log = [(1, batch(1, [stored(1)], begin=True)), (2, gone)]
        self.assertEqual(validate.Witness(log).blocks(), {})

    def test_digests(self):
        pool = {"digest_mismatch": False, "stream_created": "1", "applied_seq": 7, "digest": "aa"}
        self.holds(validate.IndexDigestConverges({"f0": pool, "f1": pool}))
        self.breaks(validate.IndexDigestConverges({"f0": pool, "f1": {**pool, "digest": "ab"}}), "different digests at 7")
        self.breaks(validate.IndexDigestConverges({"f0": pool, "f1": {**pool, "applied_seq": 8}}), "no common position")
        self.breaks(validate.IndexDigestConverges({"f0": {**pool, "digest_mismatch": True}}), "differs")

    def test_clients(self):
        def request(at, end, outcome, replica=""):
            r = Request(0, 0, True)
            r.at, r.end, r.outcome, r.replica = at, end, outcome, replica
            return r
        self.breaks(validate.TerminatesOnce([request(1, 2, "status 502")]), "502")
        excused = validate.in_flight_at([(1.5, "f1")])
        self.holds(validate.TerminatesOnce([request(1, 2, "status 502", "f1")], excused))
        self.breaks(validate.TerminatesOnce([request(1, 2, "status 502", "f0")], excused), "f0")
        self.breaks(validate.TerminatesOnce([request(2, 3, "status 502", "f1")], excused), "f1")
        self.holds(validate.RoutedToLiveWorker([request(1, 2, "cut before [DONE]")], [1.5], 0.3))
        self.breaks(validate.RoutedToLiveWorker([request(1, 2, "status 502")], [1.5], 0.3), "502")
        self.breaks(validate.RoutedToLiveWorker([request(3, 4, "cut before [DONE]")], [1.5], 0.3), "cut")

    def test_streams(self):
        event = b'data: {"choices": [{"text": "a"}]}\n'
        self.assertEqual(read_stream([event, b"\n", event, b"data: [DONE]\n"], 2), ("aa", {}))
        for lines, want, words in (([event], 1, "cut"), ([event, b"data: [DONE]"], 2, "1 events"),
                                   ([event, b"data: [DONE]", event], 2, "follows"),
                                   ([event, b"event: error\n"], 1, "error event")):
            with self.assertRaisesRegex(BadAnswer, words):
                read_stream(lines, want)


if __name__ == "__main__":
    unittest.main()
