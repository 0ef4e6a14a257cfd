# SPDX-License-Identifier: Apache-2.0
"""Streams that are not as ours would be, and both kinds of payload in one."""
import json
import unittest

import jr_log
import jr_procs as jr
import log_rig as rig

HOUR = 3600 * 10 ** 9


class OtherSettings(rig.LogTest):
    """The stream was there before us: it is used as it is."""

    def make(self, **settings):
        config = {"name": rig.STREAM, "subjects": [rig.STREAM + ".*"], "storage": "file", **settings}
        self.api("STREAM.CREATE." + rig.STREAM, config)
        self.made = self.config()

    def config(self):
        return self.api("STREAM.INFO." + rig.STREAM)["config"]

    def promises(self, f, why):
        """What it says of the stream, everywhere it says it."""
        jr.wait_for(lambda: jr.pool(f.url)["may_forget_because"] == why, "the promise that does not hold")
        self.assertEqual(jr.metric(f.url, "jetrouter_stream_may_forget"), 1)
        self.await_said(f, 'stream.may_forget component=backend why="%s"' % why)
        self.assertEqual(self.said(f, "stream.may_forget"), 1)

    def test_of_dynamo(self):
        """One hour, the oldest goes first, subjects by name."""
        self.make(max_age=HOUR, discard="old", max_bytes=64 << 20,
                  subjects=[rig.STREAM + s for s in (".kv-events", ".queue", ".batch", ".control")])
        a, _ = self.fleet("a", "b")
        self.promises(a, "the stream has a max age")
        self.fill(40)
        self.ready(self.replica("late"))
        self.settle()
        self.assertEqual(self.config(), self.made, "it was changed")

    def test_what_is_full_discards(self):
        self.make(discard="old", max_bytes=64 << 20)
        (a,) = self.fleet("a")
        self.promises(a, "the stream discards old messages at its cap")
        self.settle()
        self.assertEqual(self.config(), self.made, "it was changed")

    def test_the_snapshot_is_due_at_a_quarter_of_its_age(self):
        """With nothing else that makes one due, and none that was asked for."""
        self.make(max_age=8 * 10 ** 9, discard="old")
        a, _ = self.fleet("a", "b")
        for _ in range(2):
            seq = self.fill(10)
            self.written_down()
            self.await_snapshot(seq, 20)
        # Whoever led then.
        begun = "snapshot.begin component=backend why=age"
        self.assertGreaterEqual(sum(self.said(f, begun) for f in self.replicas), 1)
        # What left by itself is in the snapshot: one that starts now needs nothing else.
        jr.wait_for(lambda: self.first_seq() > seq, "the messages leave", 30)
        self.ready_from_snapshot(self.replica("late"))
        self.settle()

    def test_without_our_subjects(self):
        """Only Dynamo's workers can write to it: no parameters, no reset, but events and snapshots."""
        self.make(max_age=HOUR, subjects=[rig.STREAM + ".kv-events"])
        f = self.replica("a")
        self.ready(f)
        client = self.client()
        for i in range(50):
            seq = client.publish(rig.STREAM + ".kv-events", router_event(7, i, [(i + 1, 1000 + i)], i or None))
        jr.wait_for(lambda: jr.pool(f.url)["applied_seq"] == seq, "all is read")
        self.assertEqual(jr.pool(f.url)["entries"], 50)
        self.ask_snapshot()
        self.ready_from_snapshot(self.replica("late"))
        self.assertEqual(len({p["digest"] for p in self.views()}), 1)


def router_event(worker, event_id, blocks, parent=None, rank=0):
    """Dynamo's JSON of a run of (block hash, local hash)."""
    return json.dumps({"worker_id": worker, "event": {"event_id": event_id, "data": {"stored": {
        "parent_hash": parent, "blocks": [{"block_hash": b, "tokens_hash": t, "mm_extra_info": None}
                                          for b, t in blocks]}}, "dp_rank": rank}}, separators=(",", ":")).encode()


class Mixed(rig.LogTest):
    """Batches and Dynamo's JSON in one stream, of one rank in turn, each block the child of the one before in
    the other payload: a message out of its place loses all that follows."""
    DEPTH = 600
    options = {"stale_worker_secs": 3600}  # nobody renews a lease of its workers

    def publish_all(self, client, first):
        """One chain of worker 1 in both payloads, with ids; worker 2 as Dynamo writes, worker 3 in batches."""
        for i in range(first, first + self.DEPTH):
            block, local, parent = i, 100000 + i, i - 1 if i > 1 else None
            if self.rng.random() < 0.5:
                body = jr_log.batch(1, 77, i, [jr_log.stored([block], [local], parent)], begin=i == 1)
                client.publish(rig.STREAM + ".batch", body)
            else:
                headers = {"Jr-Incarnation": "77", "Jr-First-Id": str(i), **({"Jr-Begin": "1"} if i == 1 else {})}
                client.publish(rig.STREAM + ".kv-events", router_event(1, i, [(block, local)], parent), headers)
            client.publish(rig.STREAM + ".kv-events", router_event(2, i, [(block, local)], parent))
            last = client.publish(rig.STREAM + ".batch", jr_log.batch(
                3, 78, i, [jr_log.stored([block], [local], parent)], begin=i == 1))
        return last

    def check(self, last, depth):
        def all_there():
            views = [jr.pool(f.url) for f in self.replicas]
            return views if all(v["applied_seq"] >= last for v in views) else None
        for v in jr.wait_for(all_there, "all is read"):
            self.assertEqual(v["entries"], 3 * depth)
            self.assertEqual(v["blocks"], depth, "the three hold the same blocks")
            for reason in ("unknown_parent", "stale", "hole"):
                self.assertEqual(v["counters"]["dropped_" + reason], 0, reason)
            self.assertEqual(v["counters"]["undecodable"], 0)
        jr.wait_for(lambda: len({(p["applied_seq"], p["digest"]) for p in self.views()}) == 1, "one digest")

    def test_in_order_with_any_number_of_threads(self):
        client = self.client()
        self.ready(self.replica("live", router_event_threads=4))
        last = self.publish_all(client, 1)
        for n in (1, 2, 8):
            self.ready(self.replica("threads%d" % n, router_event_threads=n))
        self.check(last, self.DEPTH)
        # And with all of them alive.
        self.check(self.publish_all(client, self.DEPTH + 1), 2 * self.DEPTH)


if __name__ == "__main__":
    unittest.main(verbosity=2)
