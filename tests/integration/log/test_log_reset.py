# SPDX-License-Identifier: Apache-2.0
"""A reset is one message: whoever reads it clears, in the middle of a replay too, and two at once are
one."""
import signal
import unittest
from concurrent import futures

import jr_procs as jr
import log_rig as rig


class Reset(rig.LogTest):
    def reset(self, f):
        self.assertEqual(jr.post(f.url + "/admin/reset")[0], 202)

    def reset_applied(self, n):
        jr.wait_for(lambda: all(p["epoch"] == n for p in self.views()), "epoch %d" % n)
        jr.wait_for(lambda: all(b.begun >= n + 1 for b in self.bridges), "the bridges begin anew")

    def test_reset_with_a_peer_in_the_middle_of_its_replay(self):
        a, = self.fleet("a")
        self.fill(600, size=60)
        self.at_rest()
        link = self.link()
        late = self.replaying(link)
        self.reset(a)
        jr.wait_for(lambda: jr.pool(a.url)["epoch"] == 1, "the reset")
        self.assertEqual(jr.pool(late.url)["recovery_state"], "replay")
        self.fill(10)
        link.slow = 0
        link.heal()
        self.ready(late)
        self.reset_applied(1)
        self.fill(10)
        self.settle()

    def reset_behind(self, other, slow):
        """While the one is stopped."""
        try:
            jr.wait_for(slow.stopped, "the pause")
            self.reset(other)
            jr.wait_for(lambda: jr.pool(other.url)["epoch"] == 1, "the other reset")
            self.fill(10)
        finally:
            slow.send(signal.SIGCONT)

    def test_reset_twice_at_once_one_of_them_paused(self):
        """Both were decided at one epoch: one of them counts, the other is refused and not repeated."""
        # Whoever leads may say something of its own: the other one does not come to it.
        other = self.replica("other", lease_ttl_secs=10)
        self.ready(other)
        self.leader([other])
        slow = self.replica("slow", failpoints="control.before_publish=stop*1", lease_ttl_secs=10)
        self.ready(slow)
        self.begin_log()
        self.fill(20)
        self.at_rest()
        self.assertIs(self.leader(), other)  # which says the parameters
        # It may stop before it answers.
        with futures.ThreadPoolExecutor(1) as aside:
            asked = aside.submit(jr.post, slow.url + "/admin/reset", timeout=300)
            self.reset_behind(other, slow)
            self.assertEqual(asked.result()[0], 202)
        self.reset_applied(1)
        self.fill(10)
        self.settle()
        self.assertEqual({p["epoch"] for p in self.views()}, {1})


if __name__ == "__main__":
    unittest.main()
