# SPDX-License-Identifier: Apache-2.0
"""A person at the log: a snapshot asked for is followed to its end, a restore says how far it is."""
import json
import unittest

import jr_procs as jr
import log_rig as rig


class Ctl(rig.LogTest):
    def test_a_snapshot_is_followed(self):
        """Its failure is an exit code and a reason; the next one is verified when ctl returns."""
        f = self.replica("a", "snapshot.after_upload=error*1", lease_ttl_secs=20)
        self.ready(f)
        self.begin_log()
        self.leader()
        seq = self.fill(30)
        self.at_rest()
        failed = self.procs.ctl(f.url, "snapshot")
        self.assertEqual(failed.returncode, 74, failed.stdout + failed.stderr)
        self.assertIn("backend: the snapshot failed: ", failed.stderr)
        self.assertEqual(self.newest(), 0)
        self.assertNotEqual(jr.pool(f.url)["snapshot_failed_because"], "")
        done = self.procs.ctl(f.url, "snapshot")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"backend: verified: snapshot-a at \d+, \d+ bytes\n$")
        self.assertGreaterEqual(self.newest(), seq)
        self.assertEqual(jr.pool(f.url)["snapshot_failed_because"], "")
        # Nothing came since: the same one, and JSON has the end only.
        again = json.loads(self.procs.ctl(f.url, "snapshot", "--json").stdout)
        self.assertEqual(again[0]["snapshot"]["seq"], self.newest())
        # How long it took is in the histogram, its failure in the counter.
        self.assertEqual(jr.metric(f.url, "jetrouter_snapshot_duration_seconds_count"), 1)
        self.assertEqual(jr.metric(f.url, "jetrouter_snapshot_failures_total"), 1)
        self.assertGreater(jr.metric(f.url, "jetrouter_snapshot_bytes"), 0)

    def test_not_waited_for(self):
        f = self.replica("a", lease_ttl_secs=20)
        self.ready(f)
        self.begin_log()
        self.leader()
        seq = self.fill(10)
        self.assertEqual(self.procs.ctl(f.url, "snapshot", "--no-wait").stdout, "accepted: snapshot\n")
        self.await_snapshot(seq)

    def test_a_restore_says_how_far_it_is(self):
        f = self.replica("a")
        self.ready(f)
        self.begin_log()
        self.leader()
        self.fill_chunks()
        self.at_rest()
        self.ask_snapshot()
        entries = jr.pool(f.url)["entries"]
        self.fill(40)
        self.at_rest()
        late = self.replica("late")
        self.ready_from_snapshot(late)
        self.assertEqual(self.said(late, "snapshot.restore component=backend object=snapshot-a"), 1)
        self.assertEqual(self.said(late, "what=restore done=%d seconds=" % entries), 1)
        self.assertEqual(self.said(late, "what=replay done="), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
