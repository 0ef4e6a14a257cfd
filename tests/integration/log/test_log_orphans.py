# SPDX-License-Identifier: Apache-2.0
"""Chunks of an upload that nobody finished: kept for their grace, then taken away by a leader."""
import unittest

import jr_procs as jr
import log_rig as rig


class Orphans(rig.LogTest):
    threshold = 1000000

    def chunk_subjects(self):
        info = self.api("STREAM.INFO.OBJ_" + rig.OBJECTS, {"subjects_filter": "$O.%s.C.>" % rig.OBJECTS})
        return len(info["state"].get("subjects") or {})

    def test_collected_by_the_next_leader(self):
        victim = self.replica("victim")
        self.ready(victim)
        self.begin_log()
        self.fill(20)
        self.leader()
        self.procs.ctl(victim.url, "snapshot")
        self.await_snapshot(1)
        self.assertEqual(self.chunk_subjects(), 1)
        victim.stop()
        victim = self.restart(victim, failpoints="snapshot.after_upload=crash")
        self.ready(victim)
        self.leader()
        self.fill(5)
        self.procs.ctl(victim.url, "snapshot")
        jr.wait_for(lambda: not victim.running(), lambda: "the crash in the upload\n" + victim.tail())
        self.assertEqual(self.chunk_subjects(), 2)
        # Within the grace they stay: they might belong to an upload under way.
        victim = self.restart(victim)
        self.ready(victim)
        self.leader()
        self.assertEqual(self.chunk_subjects(), 2)
        victim.stop()
        victim = self.restart(victim, failpoints="snapshot.no_grace=error*99")
        self.ready(victim)
        jr.wait_for(lambda: self.chunk_subjects() == 1, "the collection")
        self.ready_from_snapshot(self.restart_whole(victim))

    def restart_whole(self, f):
        f.stop()
        return self.restart(f)


if __name__ == "__main__":
    unittest.main()
