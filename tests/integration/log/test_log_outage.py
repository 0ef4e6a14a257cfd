# SPDX-License-Identifier: Apache-2.0
"""NATS goes away at a bad time, or for one replica only."""
import shutil
import unittest

import jr_procs as jr
import log_rig as rig


class Outage(rig.LogTest):
    def test_nats_restarts_while_replaying(self):
        self.fleet("a")
        self.fill(600, size=60)
        self.at_rest()
        link = self.link()
        late = self.replaying(link)
        self.stop_nats()
        link.cut()  # with what the server has sent
        jr.wait_for(lambda: not jr.get_json(late.url + "/state")["nats"]["connected"], "it is gone")
        self.assertLess(jr.pool(late.url)["applied_seq"], late.last_at_start)
        self.start_nats()
        link.slow = 0
        link.heal()
        self.ready(late)
        self.fill(10)
        self.settle()

    def test_replica_cut_off_past_the_purge_floor(self):
        """It answers with the index it has, marked, loads a snapshot and goes on."""
        link = self.link()
        self.fleet("a", router_snapshot_threshold=30)
        b = self.replica("b", url=link.url, router_snapshot_threshold=30)
        self.ready(b)
        self.fill(20)
        self.at_rest()
        link.cut()
        jr.wait_for(lambda: not jr.get_json(b.url + "/state")["nats"]["connected"], "b is cut off")
        self.assertEqual(jr.get(b.url + "/ready")[0], 200, "routing outlives NATS")
        at = jr.pool(b.url)["applied_seq"]

        def purged():
            self.fill_slowly(10)
            return self.first_seq() > at + 1
        jr.wait_for(purged, "the purge goes past b", 60)
        self.assertEqual(jr.pool(b.url)["applied_seq"], at)
        link.heal()
        jr.wait_for(lambda: jr.pool(b.url)["applied_seq"] > at, "b goes on")
        self.assertTrue(self.said(b, "snapshot.restored"))
        self.assertTrue(self.said(b, "what follows has left the stream"))
        self.settle()

    def test_nats_comes_back_with_an_empty_store(self):
        """Nothing is left of the stream, the snapshots and the leases; the replicas hold state."""
        self.fleet("a", "b", router_snapshot_threshold=30)
        self.next_snapshot()
        before = self.at_rest()
        self.written_down()
        self.stop_nats()
        shutil.rmtree(self.store)
        for f in self.replicas:
            self.assertEqual(jr.get(f.url + "/ready")[0], 200)
        self.start_nats()
        jr.wait_for(self.last_seq, "another stream", 60)
        self.fill(10)
        after = self.settle(timeout=60)
        self.adopted()
        self.assertNotEqual(before[0]["stream_created"], after[0]["stream_created"])

    def test_everything_restarts_together(self):
        self.fleet("a", "b", router_snapshot_threshold=30)
        self.next_snapshot()
        self.fill(10)
        before = self.at_rest()
        for f in list(self.replicas):
            f.kill()
        self.stop_nats()
        for f in list(self.replicas):
            self.restart(f)
            self.replicas[-1].last_at_start = before[0]["applied_seq"]
        self.start_nats()
        for f in self.replicas:
            self.ready_from_snapshot(f)
        self.assertEqual({p["epoch"] for p in self.views()}, {0}, "nobody had to rebuild")
        self.fill(10)
        self.settle()


if __name__ == "__main__":
    unittest.main()
