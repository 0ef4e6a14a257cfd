# SPDX-License-Identifier: Apache-2.0
"""A message that ends every replica that reads it is passed by order."""
import subprocess
import unittest

import jr_log
import jr_procs as jr
import log_rig as rig


class Skip(rig.LogTest):
    def ctl_skip(self, seq):
        return subprocess.run(
            [self.procs.jetrouter, "ctl", "skip", "--seq", str(seq), "--namespace", rig.NAMESPACE,
             "--nats-server", self.nats.url], capture_output=True, text=True, timeout=30)

    def test_a_message_that_crashes_the_fleet(self):
        self.fleet("a", "b")
        self.fill(10)
        fatal = self.client().publish(
            rig.STREAM + ".batch", jr_log.batch(77, 5, 1, [jr_log.stored([1, 2, 3], [4, 5, 6])], True))
        self.fill(10)
        for f in list(self.replicas):
            f.kill()
        crash = "log.decode_%d=crash" % fatal
        for f in list(self.replicas):
            self.restart(f, crash)
        for f in self.replicas:
            jr.wait_for(lambda f=f: not f.running(), "%s dies of it" % f.name, 40)
        done = self.ctl_skip(fatal)
        self.assertEqual(done.returncode, 0, done.stderr)
        for f in list(self.replicas):
            self.ready(self.restart(f, crash))
        views = self.at_rest()
        for v in views:
            self.assertEqual(v["counters"]["skipped"], 1)
            self.assertNotIn("77", [w["worker_id"] for w in v["workers"] if w["blocks"]])
        self.assertEqual(len({v["digest"] for v in views}), 1)

    def test_what_cannot_be_skipped(self):
        self.ready(self.replica("a"))
        self.begin_log()
        last = self.fill(3)
        self.assertIn("the stream has", self.ctl_skip(last + 1000).stderr)
        self.assertNotEqual(self.ctl_skip(last + 1000).returncode, 0)
        nothing = subprocess.run([self.procs.jetrouter, "ctl", "skip"], capture_output=True, text=True, timeout=30)
        self.assertIn("--seq", nothing.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
