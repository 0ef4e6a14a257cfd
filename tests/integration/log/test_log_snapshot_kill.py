# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at every step of the snapshot sequence. The other replica saw it all and leads next."""
import unittest

import jr_procs as jr
import log_rig as rig


class Kill(rig.LogTest):
    threshold = 30

    def crash(self, point):
        """The leader dies at the point in its second snapshot or later; the other one goes on."""
        victim = self.replica("victim", failpoints="")
        self.ready(victim)
        self.leader()
        self.ready(self.replica("other"))
        self.begin_log()
        self.fill_chunks()
        self.next_snapshot()
        # Another life of the same replica, which leads while the other one is away.
        other = self.replicas[1]
        victim.kill()
        self.leader([other])
        victim = self.restart(victim, failpoints=point + "=crash")
        self.ready(victim)
        before = self.record()
        other.stop()
        # A snapshot may be due at once: then it is dead as soon as it leads.
        jr.wait_for(lambda: self.leads(victim) or not victim.running(), "the victim leads")
        other = self.restart(other)
        self.ready(other)
        self.fill_until(lambda: not victim.running(), victim, other, "the crash at " + point)
        self.assertEqual(victim.code(), -9)
        # Nothing of what was needed has gone, the next leader writes one, the dead one comes back.
        self.nothing_forgotten()
        self.leader([other])
        self.await_snapshot(int(before["newest"]["seq"]) + 1)
        self.next_snapshot()
        self.ready_from_snapshot(self.restart(victim))
        self.nothing_forgotten()
        self.settle()

    def test_before_upload(self):
        self.crash("snapshot.before_upload")

    def test_mid_chunks(self):
        self.crash("object.after_chunk")

    def test_after_chunks(self):
        self.crash("snapshot.after_upload")

    def test_after_meta(self):
        self.crash("snapshot.after_commit")

    def test_after_read_back(self):
        self.crash("snapshot.after_verify")

    def test_after_record(self):
        self.crash("snapshot.after_record")

    def test_before_purge(self):
        self.crash("purge.before")

    def test_after_purge(self):
        self.crash("purge.after")


if __name__ == "__main__":
    unittest.main()
