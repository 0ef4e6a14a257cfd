# SPDX-License-Identifier: Apache-2.0
"""Three servers, three copies of everything: the server that leads the bucket of the snapshots is
killed while a snapshot is uploaded, and consumers are paused. Needs the newest nats-server (./dev setup
--all)."""
import datetime
import os
import signal
import unittest

import jr_procs as jr
import log_rig as rig

STREAMS = (rig.STREAM, "KV_" + rig.STATE, "KV_" + rig.LEASES, "OBJ_" + rig.OBJECTS)
SERVER = os.path.join(jr.ROOT, "build", "go", "nats-server")


class Cluster(rig.LogTest):
    threshold = 30

    def start_server(self):
        self.servers = self.procs.nats_cluster(SERVER)
        self.nats = self.servers[0]  # the one that is looked through; it lives

        def placed():
            """Three copies can be placed, from where we look."""
            try:
                self.api("STREAM.CREATE.try", {"name": "try", "subjects": ["try"], "num_replicas": 3}, 2)
                return self.api("STREAM.DELETE.try", None, 2)["success"]
            except rig.AWAY:  # nobody answers while nobody leads
                return False
        jr.wait_for(placed, "a cluster that places streams", 60)
        return self.nats

    def led_by(self, stream):
        """The server that leads a stream; None while nobody does."""
        try:
            name = self.api("STREAM.INFO." + stream, None, 1)["cluster"].get("leader")
        except rig.AWAY:
            return None
        return next((s for i, s in enumerate(self.servers) if name == "n%d" % i), None)

    def move_away(self, stream):
        """The leader of a stream is not the server that is looked through."""
        def moved():
            at = self.led_by(stream)
            if at is self.nats:
                self.api("STREAM.LEADER.STEPDOWN." + stream)
                return None
            return at
        return jr.wait_for(moved, "another leader of " + stream, 60, 0.2)

    def test_leader_of_the_bucket_killed_during_upload(self):
        urls = ",".join(s.url for s in self.servers)
        options = {"nats_replicas": 3, "lease_ttl_secs": 20}
        a = self.replica("a", url=urls, failpoints="object.after_chunk=stop*1", **options)
        self.ready(a, 60)
        self.leader([a])
        b = self.replica("b", url=urls, **options)
        self.ready(b, 60)
        self.begin_log()
        victim = self.move_away("OBJ_" + rig.OBJECTS)
        self.fill_chunks()
        jr.wait_for(lambda: a.stopped() or self.fill(2) < 0, "a is in the middle of its upload", 60, 0.1)
        victim = self.move_away("OBJ_" + rig.OBJECTS)
        victim.kill()
        # Nobody answers for a stream that is without, and it may have led others, too.
        jr.wait_for(lambda: all(self.led_by(s) not in (None, victim) for s in STREAMS), "other leaders", 60, 0.2)
        a.send(signal.SIGCONT)
        self.await_snapshot(20, 90)
        self.next_snapshot(90)
        self.servers[self.servers.index(victim)] = self.procs.restart(victim)
        self.nothing_forgotten()
        self.ready_from_snapshot(self.replica("cold", url=urls, **options), 60)
        self.settle(timeout=90)

    def pause_consumers(self):
        """They live, their heartbeats come, and they deliver nothing. How many."""
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        names = self.api("CONSUMER.NAMES." + rig.STREAM)["consumers"]
        for name in names:
            paused = self.api("CONSUMER.PAUSE.%s.%s" % (rig.STREAM, name), {"pause_until": until.isoformat()})
            self.assertTrue(paused["paused"])
        return len(names)

    def test_consumers_deliver_nothing(self):
        """Other consumers are made, and nobody is unready for it."""
        urls = ",".join(s.url for s in self.servers)
        self.fleet("a", "b", url=urls, nats_replicas=3)
        self.fill(20)
        self.at_rest()
        self.assertEqual(self.pause_consumers(), 2)
        behind = self.fill(20)
        for f in self.replicas:
            jr.wait_for(lambda: jr.pool(f.url)["applied_seq"] >= behind or self.assertEqual(
                jr.try_get(f.url + "/ready")[0], 200), "%s reads on" % f.name, 60)
            self.await_said(f, 'why="the reader lost its place"')
        self.settle()


if __name__ == "__main__":
    if not os.access(SERVER, os.X_OK):
        print("not run: %s is missing, ./dev setup --all builds it where go is installed" % SERVER)
    else:
        unittest.main()
