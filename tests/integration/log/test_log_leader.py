# SPDX-License-Identifier: Apache-2.0
"""The one that writes snapshots is paused, refused, or does not learn what became of its write."""
import signal
import threading
import unittest

import jr_procs as jr
import log_rig as rig


class Paused(rig.LogTest):
    """Two snapshotters: one is stopped at a step, past its lease, while the other goes on."""
    threshold = 30

    def paused_at(self, point):
        slow = self.replica("slow", failpoints=point + "=stop*1")
        self.ready(slow)
        self.leader([slow])
        other = self.replica("other")
        self.ready(other)
        self.begin_log()
        self.fill_chunks()
        self.fill_until(slow.stopped, slow, other, "the pause at " + point)
        # The other one leads, and writes both objects.
        self.replicas = [other]
        self.leader([other])
        first = self.next_snapshot()
        second = self.next_snapshot()
        self.assertGreater(second, first)
        record = self.record()
        slow.send(signal.SIGCONT)
        self.replicas = [slow, other]
        jr.wait_for(lambda: jr.try_get(slow.url + "/ready")[0] == 200, "the paused one goes on")
        jr.wait_for(lambda: jr.pool(slow.url)["applied_seq"] >= second, "it catches up")
        self.assertIs(self.leader(), other)
        self.assertEqual(self.record(), record, "it wrote over what its successor wrote")
        self.nothing_forgotten()
        # What the record names can be read: a cold start from it.
        self.ready_from_snapshot(self.replica("cold"))
        self.next_snapshot()
        self.nothing_forgotten()
        self.settle()

    def test_before_its_upload(self):
        self.paused_at("snapshot.before_upload")

    def test_mid_chunks(self):
        self.paused_at("object.after_chunk")

    def test_before_its_meta(self):
        self.paused_at("snapshot.after_upload")

    def test_before_its_record(self):
        self.paused_at("snapshot.after_verify")

    def test_before_its_purge(self):
        self.paused_at("purge.before")


class Refused(rig.LogTest):
    threshold = 30

    def limit(self, max_bytes):
        config = self.api("STREAM.INFO.OBJ_" + rig.OBJECTS)["config"]
        config["max_bytes"] = max_bytes
        self.api("STREAM.UPDATE.OBJ_" + rig.OBJECTS, config)

    def test_disk_full_at_upload(self):
        """The server has no room for the chunks: what there was stays, nothing is purged, and it is
        tried again until there is."""
        self.fleet("a", "b")
        self.fill_chunks()
        self.next_snapshot()
        self.next_snapshot()
        jr.wait_for(lambda: self.first_seq() > 1, "a purge")
        self.at_rest()
        record, first = self.record(), self.first_seq()
        self.limit(self.api("STREAM.INFO.OBJ_" + rig.OBJECTS)["state"]["bytes"] + 1000)
        self.fill(40)
        # Of whoever leads: it may be another one for the second.
        jr.wait_for(lambda: sum(p["counters"]["snapshot_failures"] for p in self.views()) >= 2, "two attempts")
        self.assertEqual(self.record(), record)
        self.assertEqual(self.first_seq(), first)
        self.assertGreaterEqual(sum(jr.metric(f.url, "jetrouter_snapshot_failures_total") for f in self.replicas), 2)
        # Nothing is left of the attempts, and a cold start comes from what there was.
        self.ready_from_snapshot(self.replica("cold"))
        self.limit(-1)
        self.await_snapshot(int(record["newest"]["seq"]) + 1)
        self.nothing_forgotten()
        self.settle()

    def unknown_outcome(self, ways, healed_by=None):
        """The meta is sent, and its answer does not come in time, or not before the leader has sent what it is
        healed by. The leader's lease outlives that."""
        link = self.link()
        a = self.replica("a", url=link.url, lease_ttl_secs=20)
        self.ready(a)
        self.leader([a])
        self.ready(self.replica("b", lease_ttl_secs=20))
        self.begin_log()
        self.next_snapshot()
        meta = b"HPUB $O.%s.M." % rig.OBJECTS.encode()
        sent = threading.Event()

        def freeze():
            link.freeze(*ways)
            if healed_by:
                link.when(healed_by, link.heal)
            sent.set()
        link.when(meta, freeze)
        before = self.newest()
        self.fill(40)
        jr.wait_for(sent.is_set, "the meta is on its way")
        return a, link, before

    def test_meta_with_unknown_outcome_stored(self):
        """It went through and only the answer is lost: the leader reads it back and goes on."""
        # It asks the stream for the meta once it has waited in vain.
        a, _, newest = self.unknown_outcome(["down"], healed_by=b"STREAM.MSG.GET.OBJ_")
        self.await_snapshot(newest + 1)
        self.assertEqual(jr.pool(a.url)["counters"]["snapshot_failures"], 0)
        self.next_snapshot()
        self.nothing_forgotten()
        self.ready_from_snapshot(self.replica("cold"))
        self.settle()

    def test_meta_with_unknown_outcome_lost(self):
        """Neither the meta nor the question what became of it gets through: a failed attempt, tried
        again."""
        a, link, newest = self.unknown_outcome(["up", "down"])
        before = self.record()
        link.cut()
        self.assertEqual(self.record(), before)
        link.heal()
        self.await_snapshot(newest + 1)
        self.next_snapshot()
        self.nothing_forgotten()
        self.ready_from_snapshot(self.replica("cold"))
        self.settle()


if __name__ == "__main__":
    unittest.main()
