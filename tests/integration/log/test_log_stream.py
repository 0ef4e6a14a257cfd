# SPDX-License-Identifier: Apache-2.0
"""The event stream itself is damaged: gone, another one, purged, trimmed, rolled back."""
import os
import shutil
import unittest

import jr_procs as jr
import log_rig as rig


class Stream(rig.LogTest):
    def recreate(self):
        """Another stream of the same name and settings."""
        config = self.api("STREAM.INFO." + rig.STREAM)["config"]
        self.delete_stream(rig.STREAM)
        self.api("STREAM.CREATE." + rig.STREAM, config)

    def begun(self, n):
        """All bridges have begun again, n times in all."""
        jr.wait_for(lambda: all(b.begun >= n for b in self.bridges), "the bridges begin anew")

    def save_stream(self):
        """The server goes down; what it has on disk of the event stream is kept."""
        self.stop_nats()
        self.saved = os.path.join(self.procs.folder, "saved")
        shutil.copytree(self.stream_folder(), self.saved)

    def roll_back(self):
        """What is on disk of the event stream is what was saved."""
        shutil.rmtree(self.stream_folder())
        shutil.copytree(self.saved, self.stream_folder())


class Lost(Stream):
    threshold = 30

    def test_snapshot_of_another_stream_of_the_same_name(self):
        a, b = self.fleet("a", "b")
        self.next_snapshot()
        for f in (a, b):
            self.assertEqual(f.stop(), 0)
        self.recreate()
        self.begun(2)
        self.fill(5)
        for f in (a, b):
            self.restart(f)
        for f in self.replicas:
            self.ready(f)
            self.assertFalse(self.said(f, "snapshot.restored"))
            self.assertTrue(self.said(f, "snapshot.misfit"))
            self.assertTrue(self.said(f, "the stream was created anew"))
        self.settle()

    def test_stream_deleted(self):
        self.fleet("a", "b")
        self.fill(20)
        self.delete_stream(rig.STREAM)
        jr.wait_for(self.last_seq, "another stream", 60)
        self.begun(2)
        self.fill(20)
        self.settle(timeout=60)
        self.adopted()

    def test_stream_recreated_under_living_replicas(self):
        self.fleet("a", "b")
        self.next_snapshot()
        self.recreate()
        self.begun(2)
        self.fill(20)
        self.settle(timeout=60)
        self.adopted()

    def test_purged_by_hand_under_living_replicas(self):
        a, b = self.fleet("a", "b", router_snapshot_threshold=1000000)
        self.fill(30)
        self.at_rest()
        self.assertEqual(self.newest(), 0)
        self.written_down()
        self.api("STREAM.PURGE." + rig.STREAM)
        b.kill()
        self.ready_from_snapshot(self.restart(b))
        self.fill(10)
        self.settle()

    def test_purged_by_hand_past_the_snapshot(self):
        """The newest snapshot ends before what is left of the stream: the leader owes another."""
        a, b = self.fleet("a", "b", router_snapshot_threshold=1000000)
        self.fill(10)
        self.ask_snapshot()
        newest = self.await_snapshot(1)
        self.fill(30)
        self.at_rest()
        self.written_down()
        self.api("STREAM.PURGE." + rig.STREAM, {"keep": 5})
        b.kill()
        self.ready_from_snapshot(self.restart(b))
        self.await_snapshot(newest + 1)  # it may have been read before its record was written
        self.settle()

    def test_purged_by_hand_without_a_replica(self):
        """Nobody holds what was purged: a reset in the log, and the bridges begin anew."""
        a, b = self.fleet("a", "b", router_snapshot_threshold=1000000)
        self.fill(30)
        for f in (a, b):
            f.kill()
        self.written_down()
        self.api("STREAM.PURGE." + rig.STREAM)
        for f in (a, b):
            self.restart(f)
        for f in self.replicas:
            self.ready(f, 60)
        self.assertTrue(all(p["epoch"] > 0 for p in self.views()))
        self.assertTrue(any(self.said(f, "nobody holds the purged part") for f in self.replicas))
        self.fill(10)
        self.settle()

    def test_discarded_by_limits(self):
        """The stream drops old messages by itself; a replica that was away needs a snapshot."""
        a, b = self.fleet("a", "b", router_snapshot_threshold=1000000)
        b.kill()
        config = self.api("STREAM.INFO." + rig.STREAM)["config"]
        config.update(max_msgs=20, discard="old")
        self.api("STREAM.UPDATE." + rig.STREAM, config)
        self.fill_slowly(60)
        self.assertGreater(self.first_seq(), 1)
        self.ready_from_snapshot(self.restart(b))
        # And again, from a snapshot that no longer reaches what the stream still has.
        self.replicas[1].kill()
        newest = self.newest()
        self.fill_slowly(60)
        self.assertGreater(self.first_seq(), newest + 1)
        self.ready_from_snapshot(self.restart(self.replicas[1]))
        self.settle()

    def delete_consumer(self, name):
        """Or its replica has done so meanwhile, which reads with another one."""
        try:
            self.api("CONSUMER.DELETE.%s.%s" % (rig.STREAM, name))
        except RuntimeError as e:
            self.assertIn("consumer not found", str(e))

    def test_consumer_deleted_behind_our_back(self):
        self.fleet("a", "b")
        for _ in range(5):
            self.fill(5)
            for name in self.api("CONSUMER.NAMES." + rig.STREAM)["consumers"] or []:
                self.delete_consumer(name)
            self.fill(5)
            self.at_rest()
        self.settle()


class RolledBack(Stream):
    def test_restored_to_an_older_state_under_living_replicas(self):
        self.fleet("a", "b")
        self.fill(20)
        self.at_rest()
        self.save_stream()
        self.start_nats()
        self.fill(20)
        before = self.at_rest()
        self.written_down()
        self.stop_nats()
        self.roll_back()
        self.start_nats()
        self.assertLess(self.last_seq(), before[0]["applied_seq"])
        jr.wait_for(lambda: all(self.said(f, "rolled back") for f in self.replicas), "they see it")
        # Written before the Adopt and after it: of an incarnation that whoever adopts has not met.
        jr.wait_for(lambda: self.fill(1) and any(self.said(f, "pool.adopted") for f in self.replicas),
                    "written across the Adopt", 60)
        self.fill(5)
        self.settle(timeout=60)
        self.adopted()

    def test_restored_to_an_older_state_without_a_replica(self):
        """The newest snapshot is of a future that is no more."""
        a, b = self.fleet("a", "b", router_snapshot_threshold=30)
        self.next_snapshot()
        self.at_rest()
        self.save_stream()
        self.start_nats()
        self.next_snapshot()
        for f in (a, b):
            f.kill()
        self.stop_nats()
        self.roll_back()
        self.start_nats()
        for f in (a, b):
            self.restart(f)
        for f in self.replicas:
            self.ready(f)
        self.fill(10)
        self.settle(timeout=60)

    def test_rolled_back_then_written_past_its_old_end(self):
        """Under a living replica, which is cut off meanwhile: same identity, first and last fit, but
        the message at its position is another."""
        link = self.link()
        self.fleet("a", "b", url=link.url)
        self.fill(20)
        self.at_rest()
        self.save_stream()
        self.start_nats()
        self.fill(10)
        before = self.at_rest()[0]["applied_seq"]
        self.written_down()
        link.cut()
        self.stop_nats()
        self.roll_back()
        self.start_nats()
        jr.wait_for(lambda: self.fill(2) > before + 5, "it is written past its old end")
        link.heal()
        jr.wait_for(lambda: all(self.said(f, "another message there") for f in self.replicas), "they see it")
        self.fill(5)
        self.settle(timeout=60)
        self.adopted()


if __name__ == "__main__":
    unittest.main()
