# SPDX-License-Identifier: Apache-2.0
"""What an operator may do to the streams by hand: messages taken out of the middle, buckets deleted."""
import base64
import json
import time
import unittest

import jr_procs as jr
import log_rig as rig


class Holes(rig.LogTest):
    """Messages leave the middle of the stream, so that its first sequence says nothing of them."""

    def take_out(self, seq):
        self.written_down()
        self.api("STREAM.MSG.DELETE." + rig.STREAM, {"seq": seq})

    def starts(self, behind_snapshot):
        a, b = self.fleet("a", "b")
        self.ask_snapshot()
        a.kill()
        self.ready_from_snapshot(self.restart(a))  # one that began with nothing would yield to b
        gone = self.newest() + behind_snapshot
        self.fill(20)
        self.at_rest()
        b.kill()
        self.take_out(gone)
        self.ready_from_snapshot(self.restart(b))
        self.settle()

    def test_a_replica_starts_in_front_of_it(self):
        self.starts(10)

    def test_the_snapshot_ends_in_front_of_it(self):
        self.starts(1)

    def nobody_holds(self, more):
        a, b = self.fleet("a", "b")
        self.ask_snapshot()
        gone = self.fill(10)
        self.fill(more)
        for f in (a, b):
            f.kill()
        self.take_out(gone)
        for f in (a, b):
            self.restart(f)
        for f in self.replicas:
            self.procs.wait_ready(f, 60)
        self.fill(10)
        self.at_rest()

    def test_nobody_holds_it(self):
        self.nobody_holds(10)

    def test_nobody_holds_the_last(self):
        self.nobody_holds(0)


class Buckets(rig.LogTest):
    threshold = 30

    def led(self):
        try:
            return self.api("STREAM.MSG.GET.KV_" + rig.LEASES,
                            {"last_by_subj": "$KV.%s.leader" % rig.LEASES})
        except RuntimeError:
            return None

    def test_leases(self):
        self.fleet("a", "b")
        self.next_snapshot()
        self.delete_stream("KV_" + rig.LEASES)
        jr.wait_for(self.led, "a leader's lease in the bucket")
        self.next_snapshot()
        self.settle()

    def test_leases_of_living_replicas(self):
        """Made anew only when the server has had time to remove the files, which an older one does late."""
        self.fleet("a", "b")
        began = time.monotonic()
        self.api("STREAM.DELETE.KV_" + rig.LEASES)
        jr.wait_for(self.led, "a leader's lease in the bucket")
        self.assertGreaterEqual(time.monotonic() - began, 1)
        self.next_snapshot()
        self.settle()

    def test_state(self):
        self.fleet("a", "b")
        self.next_snapshot()
        self.delete_stream("KV_" + rig.STATE)
        self.next_snapshot()
        self.settle()

    def test_snapshots(self):
        self.fleet("a", "b")
        self.next_snapshot()
        self.delete_stream("OBJ_" + rig.OBJECTS)
        self.next_snapshot()
        self.settle()


class Names(rig.LogTest):
    def test_two_replicas_of_one_name(self):
        """They take the lease from each other, and say why."""
        (a,) = self.fleet("a")
        key = "$KV.%s.replica.a" % rig.LEASES
        m = self.api("STREAM.MSG.GET.KV_" + rig.LEASES, {"last_by_subj": key})["message"]
        twin = json.loads(base64.b64decode(m["data"]))
        twin["incarnation"] = "5"
        self.client().publish(key, json.dumps(twin).encode())
        self.await_said(a, "another process has the same --replica-id")
        self.settle()


class Options(rig.LogTest):
    def test_another_block_size_than_the_pools(self):
        self.fleet("a", kv_cache_block_size=4)
        self.ask_snapshot()  # whoever leads has put its own into the log
        b = self.replica("b", kv_cache_block_size=32)
        self.ready(b)
        self.await_said(b, "options.overruled component=backend block_size=32")
        self.assertFalse(self.said(self.replicas[0], "options.overruled"))
        self.settle()


class FullLane(rig.LogTest):
    def test_what_finds_no_room_is_tried_again(self):
        self.ready(self.replica("a", "driver.no_room_open=error*2;driver.no_room_info=error*2"))
        self.begin_log()
        self.fill(10)
        self.settle()


class SmallMessages(rig.LogTest):
    def start_server(self):
        return self.procs.nats(config="max_payload: 131072\n")

    def test_a_server_that_takes_only_small_messages(self):
        """What does not fit would be refused for ever: it is said at once."""
        f = self.replica("a")
        jr.wait_for(lambda: not f.running(), "the replica ends")
        self.assertEqual(f.code(), 78)
        self.assertTrue(self.said(f, "max_payload is 131072 bytes"))


if __name__ == "__main__":
    unittest.main()
