# SPDX-License-Identifier: Apache-2.0
"""One replica of three comes to another state than its peers: it says so, does not lead, and loads
theirs."""
import unittest

import jr_procs as jr
import log_rig as rig


class Divergence(rig.LogTest):
    threshold = 30

    def comes_back(self, wrong):
        """It alarms, another one leads, it reloads, and all is as if nothing had been."""
        rest = [f for f in self.replicas if f is not wrong]
        self.await_said(wrong, "digest.mismatch")
        jr.wait_for(lambda: not jr.pool(wrong.url)["leader"], "it gives the lead away")
        self.assertIn(self.leader(rest), rest)
        self.await_said(wrong, "digest.reload", 60)
        for f in rest:
            self.assertFalse(self.said(f, "digest.reload"), "the majority is right")
        self.at_rest()
        self.next_snapshot()
        self.nothing_forgotten()
        self.settle()

    def test_leader_without_a_snapshot(self):
        """The log still has its first message: it is read again."""
        wrong = self.replica("wrong", failpoints="log.diverge=error*1")
        self.ready(wrong)
        self.leader([wrong])
        for name in ("a", "b"):
            self.ready(self.replica(name))
        self.begin_log()
        self.fill(10)
        self.comes_back(wrong)

    def test_follower_past_a_purge(self):
        """It loads a snapshot of the others, never one of its own."""
        self.fleet("a", "b", "wrong")
        self.next_snapshot()
        self.next_snapshot()
        jr.wait_for(lambda: self.first_seq() > 1, "a purge")
        wrong = self.replicas[2]
        wrong.kill()
        wrong = self.restart(wrong, failpoints="log.diverge=error*1")
        self.ready_from_snapshot(wrong)
        self.fill(4)
        self.comes_back(wrong)
        self.assertGreater(self.said(wrong, "snapshot.restored"), 1, "once to start, and again")


if __name__ == "__main__":
    unittest.main()
