# SPDX-License-Identifier: Apache-2.0
"""The validators of ./dev chaos can fail: each is given a record that breaks its promise, alone and as
what a run leaves in a folder."""
import base64
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "chaos"))
from lib import figures, nats, validate  # noqa: E402
from lib.record import Record  # noqa: E402
from lib.traffic import BadAnswer, Request, read_stream  # noqa: E402
from jr_log import batch as encoded, stored as encoded_store  # noqa: E402

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "chaos", "run.py")


def sample(seq, messages=None, start=1, recoveries=1, **kw):
    counters = {"log_messages": seq if messages is None else messages, "recoveries": recoveries}
    pool = {"applied_seq": seq, "counters": counters,
            "stream_created": "1", "recovery_state": "ready", "index_is_old": False,
            "digest": "d%d" % seq}
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
        self.holds(validate.Ordered(history(sample(9), sample(5, recoveries=2))))
        self.breaks(validate.Ordered(history(sample(9), sample(5))), "back to 5")

    def test_unique(self):
        self.holds(validate.Unique(history(sample(5), sample(9))))
        self.holds(validate.Unique(history(sample(5), sample(9, messages=6, recoveries=2))))
        self.breaks(validate.Unique(history(sample(5), sample(9, messages=10))), "applied 5 messages but moved by 4")
        self.breaks(validate.Unique(history(sample(5), sample(9, messages=8))), "applied 3 messages")

    def test_nothing_forgotten(self):
        self.holds(validate.NothingForgotten(history(sample(9), first=4, previous=4)))
        self.breaks(validate.NothingForgotten(history(sample(9), first=5, previous=4)), "previous snapshot covers 4")
        behind = history(sample(2), first=4, previous=4)
        self.breaks(validate.NothingForgotten(behind), "f0 is at 2")
        self.breaks(validate.NothingForgotten(behind, [("f1", 0, 9), ("f0", 0.1, 9)]), "f0 is at 2")
        self.holds(validate.NothingForgotten(behind, [("f0", 0, 9)]))  # cut off: it may be given up

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
        hole = good[:2] + [(4, batch(5, [stored(4)]))]
        self.breaks(validate.NoGap(hole), "follows id 3")
        self.holds(validate.NoGap(hole, gone=[3]))
        self.breaks(validate.NoGap(hole + [(5, batch(7, [stored(5)]))], gone=[3]), "follows id 5")
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

    def test_one_digest_per_sequence(self):
        other = history(sample(7, start=2))
        self.holds(validate.OneDigestPerSequence(history(sample(5), sample(7)) + other))
        other[0]["replicas"]["f0"]["pool"]["digest"] = "x"
        self.breaks(validate.OneDigestPerSequence(history(sample(5), sample(7)) + other), "different digests at 7")
        self.holds(validate.OneDigestPerSequence(history(sample(7)) + history(sample(7, start=2, digest="x", index_is_old=True))))

    def test_ready_only_when_caught_up(self):
        good = {"who": "f0", "start": 2, "recovery_state": "ready", "applied_seq": 9, "applied_seq_at_ready": 8,
                "stream_last_seq_at_start": 8, "last_at_spawn": 7}
        self.holds(validate.ReadyOnlyWhenCaughtUp([good, {**good, "applied_seq": 1, "recovery_state": "degraded"}]))
        self.breaks(validate.ReadyOnlyWhenCaughtUp([{**good, "applied_seq": 6}]), "ready at 6")
        self.breaks(validate.ReadyOnlyWhenCaughtUp([{**good, "applied_seq_at_ready": 7}]), "said: 7 of 8")

    def test_load_returns_to_zero(self):
        good = state(9)
        self.holds(validate.LoadReturnsToZero({"f0": good}))
        self.breaks(validate.LoadReturnsToZero({"f0": None}), "does not answer")
        for break_it, words in ((lambda s: s["replica"].update(inflight=1), "inflight 1"),
                                (lambda s: s["pools"][0].update(bookings=2), "bookings 2"),
                                (lambda s: s["pools"][0]["workers"][0].update(active_blocks=3), "3 blocks"),
                                (lambda s: s["pools"][0]["peers"][0].update(active_requests=4), "has 4 requests")):
            bad = copy.deepcopy(good)
            break_it(bad)
            self.breaks(validate.LoadReturnsToZero({"f0": bad}), words)

    def test_resumable(self):
        before, after = {"f0": state(9)}, {"f0": state(9)}
        self.holds(validate.Resumable(before, after, ["f0"]))
        self.breaks(validate.Resumable(before, {"f0": state(9, digest="x")}, ["f0"]), "digest x")
        self.breaks(validate.Resumable(before, {"f0": state(9, stream_first_seq=4)}, ["f0"]), "used no snapshot")

    def test_never_over_matches(self):
        good = {"who": "f0", "predicted": 64, "cached": 64, "outcome": "ok"}
        self.holds(validate.NeverOverMatches([good]))
        self.breaks(validate.NeverOverMatches([{**good, "predicted": 128}]), "predicted 128")
        self.breaks(validate.NeverOverMatches([{**good, "outcome": "status 503"}]), "503")

    def test_clients(self):
        def request(at, end, outcome, replica=""):
            r = Request("x", 0, True)
            r.at, r.end, r.outcome, r.replica = at, end, outcome, replica
            return r
        self.breaks(validate.TerminatesOnce([request(1, 2, "status 502")]), "502")
        kills = [(1.5, 1.5, "f1")]
        excused = validate.in_flight_at(kills)
        self.holds(validate.TerminatesOnce([request(1, 2, "status 502", "f1")], excused))
        self.breaks(validate.TerminatesOnce([request(1, 2, "status 502", "f0")], excused), "f0")
        self.breaks(validate.TerminatesOnce([request(2, 3, "status 502", "f1")], excused), "f1")
        self.holds(validate.RoutedToLiveWorker([request(1, 2, "cut before [DONE]")], kills, 0.3))
        self.breaks(validate.RoutedToLiveWorker([request(1, 2, "status 502")], kills, 0.3), "502")
        self.breaks(validate.RoutedToLiveWorker([request(3, 4, "cut before [DONE]")], kills, 0.3), "cut")

        # A machine that stands still between the look before a kill and the one behind it.
        slowly = [(1, 3, "f1")]
        self.holds(validate.TerminatesOnce([request(1.9, 2, "status 502", "f1")], validate.in_flight_at(slowly)))
        self.holds(validate.RoutedToLiveWorker([request(1.9, 2, "cut before [DONE]")], slowly, 0.3))
        self.breaks(validate.RoutedToLiveWorker([request(3.4, 3.5, "cut before [DONE]")], slowly, 0.3), "cut")

    def test_sent_once(self):
        r = Request("a", 0, True)
        r.at, r.end = 1, 2
        self.holds(validate.SentOnce({"a": ["w0"], "b": ["w1"]}, [r], []))
        self.breaks(validate.SentOnce({"a": ["w0", "w1"]}, [r], []), "w0 and w1")
        # w0 died before it had answered: another worker may get it, a third may not.
        self.holds(validate.SentOnce({"a": ["w0", "w1"]}, [r], [(1.5, 1.5, "w0")]))
        self.breaks(validate.SentOnce({"a": ["w0", "w1"]}, [r], [(2.5, 2.5, "w0")]), "w0 and w1")
        self.breaks(validate.SentOnce({"a": ["w0", "w1", "w2"]}, [r], [(1.5, 1.5, "w0")]), "w2")

    def test_streams(self):
        event = b'data: {"choices": [{"text": "a"}]}\n'
        self.assertEqual(read_stream([event, b"\n", event, b"data: [DONE]\n"], 2), ("aa", {}))
        for lines, want, words in (([event], 1, "cut"), ([event, b"data: [DONE]"], 2, "1 events"),
                                   ([event, b"data: [DONE]", event], 2, "follows"),
                                   ([event, b"event: error\n"], 1, "error event")):
            with self.assertRaisesRegex(BadAnswer, words):
                read_stream(lines, want)


def state(seq, **kw):
    """A replica at rest, as /state has it."""
    pool = {**sample(seq)["pool"], "digest_mismatch": False, "bookings": 0, "stream_first_seq": 1,
            "workers": [{"worker_id": "1", "dp_rank": 0, "blocks": 2, "active_blocks": 0, "active_requests": 0,
                         "active_prefill_tokens": 0}],
            "peers": [{"id": "f1", "listed": True, "active_requests": 0}], **kw}
    return {"replica": {"inflight": 0}, "pools": [pool]}


class Offline(unittest.TestCase):
    """./dev chaos check FOLDER: the same verdict from what a run has left."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="jetrouter-")
        self.addCleanup(shutil.rmtree, self.folder)
        request = {**Request("1-0-1", 0, True).line(), "at": 1.0, "end": 2.0, "outcome": "ok", "replica": "f0"}
        ready = {"applied_seq": 1, "applied_seq_at_ready": 1, "stream_last_seq_at_start": 0, "last_at_spawn": 0,
                 "recovery_state": "ready"}
        message = encoded(1, 7, 1, [encoded_store([11, 12], [1, 2])], begin=True)
        self.files = {
            "run.json": [{"scenario": "made", "seed": 1, "level": "all", "ttl": 2.0, "commit": "?"}],
            "events.jsonl": [{"t": 0.0, "what": "start", "who": "f0", "start": 1},
                             {"t": 0.5, "what": "ready", "who": "f0", "start": 1, **ready},
                             {"t": 3.0, "what": "load_gone", "who": "f1", "had": 2, "after": 1.5}],
            "history.jsonl": history(sample(1), sample(1)),
            "log.jsonl": [{"part": 1, "seq": 1, "subject": "s.batch", "data": base64.b64encode(message).decode()}],
            "rests.jsonl": [{"t": 4.0, "last_seq": 1, "part": 1, "started": [], "states": {
                "f0": state(1), "f1": state(1)}}],
            "requests.jsonl": [request]}
        self.seen = ["DEBUG event=mocker.request id=cmpl-1-0-1"]

    def write(self):
        for name, lines in self.files.items():
            with open(os.path.join(self.folder, name), "w") as f:
                f.writelines(json.dumps(line) + "\n" for line in lines)
        with open(os.path.join(self.folder, "w0.log"), "w") as f:
            f.writelines(line + "\n" for line in self.seen)

    def check(self):
        self.write()
        p = subprocess.run([sys.executable, RUN, "check", self.folder], capture_output=True, text=True, timeout=60)
        return p.returncode, p.stdout + p.stderr

    def test_holds(self):
        code, said = self.check()
        self.assertEqual(code, 0, said)
        for words in ("requests sent 1, failed 0", "sent twice 0 of 1", "digests compared 1", "median 0.5 s", "median 1.5 s"):
            self.assertIn(words, said)

    def test_breaks(self):
        self.files["rests.jsonl"][0]["states"]["f1"]["pools"][0]["digest"] = "x"
        code, said = self.check()
        self.assertEqual(code, 1, said)
        self.assertIn("VIOLATION IndexDigestConverges: different digests", said)

    def test_figures(self):
        self.write()
        f = figures.of(Record(self.folder))
        self.assertEqual((f["requests"], f["arrived"], f["load_gone_s"], f["load_gone_late"]), (1, 1, [1.5], 0))
        self.assertEqual(figures.total([f, f])["to_ready_s"], [0.5, 0.5])

    def test_each_file_can_break_it(self):
        def rest(i, **kw):
            self.files["rests.jsonl"][0]["states"]["f%d" % i]["pools"][0].update(kw)
        for words, break_it in (
                ("TerminatesOnce: request 1-0-1", lambda: self.files["requests.jsonl"][0].update(outcome="status 502")),
                ("TerminatesOnce: request 1-0-1 was sent to w0 and w0", lambda: self.seen.append(self.seen[0])),
                ("ReadyOnlyWhenCaughtUp", lambda: self.files["events.jsonl"][1].update(last_at_spawn=5)),
                ("IndexDigestConverges: different digests", lambda: rest(1, digest="x")),
                ("IndexDigestConverges: f0 has blocks", lambda: rest(0, workers=[])),
                ("LoadReturnsToZero", lambda: rest(0, bookings=1)),
                ("Ordered", lambda: self.files.update({"history.jsonl": history(sample(2), sample(1))})),
                ("NothingForgotten", lambda: self.files.update({"history.jsonl": history(sample(1), first=5, previous=4)})),
                ("NoGap", lambda: self.files["log.jsonl"].append({
                    "part": 1, "seq": 2, "subject": "s.batch",
                    "data": base64.b64encode(encoded(1, 7, 5, [encoded_store([13], [3])])).decode()})),
                ("broken by hand", lambda: self.files["events.jsonl"].append(
                    {"t": 1.0, "what": "violation", "who": "", "words": "broken by hand"}))):
            with self.subTest(words):
                self.setUp()
                break_it()
                self.write()
                found = validate.check(Record(self.folder))
                self.assertTrue(any(words in v for v in found), found)


if __name__ == "__main__":
    unittest.main()
