# SPDX-License-Identifier: Apache-2.0
"""One of three NATS servers ends, the one that leads the leases and perhaps more: the others go on, and
so does everything else. Needs the newest nats-server (./dev setup --all)."""
import os
import types
import unittest

import jr_log
import jr_procs as jr
import test_nats_outage as outage

SERVER = os.path.join(jr.ROOT, "build", "go", "nats-server")
LEASES = "KV_namespace-test-component-backend-leases"
AWAY = (OSError, ValueError, RuntimeError, KeyError)  # of servers that are not there


class Node(outage.Outage):
    options = {"nats_replicas": 3}

    def api(self, what, body=None):
        """Asked of the first server that answers; None while none does."""
        for server in self.servers:
            try:
                client = jr_log.Nats(server.url, timeout=2)
            except OSError:
                continue
            try:
                return client.api(what, body)
            except AWAY:
                continue
            finally:
                client.close()
        return None

    def start_nats(self):
        self.servers = self.procs.nats_cluster(SERVER)

        def placed():
            made = self.api("STREAM.CREATE.try", {"name": "try", "subjects": ["try"], "num_replicas": 3})
            return made and self.api("STREAM.DELETE.try")
        jr.wait_for(placed, "a cluster that places streams", 60, 0.2)
        return types.SimpleNamespace(url=",".join(s.url for s in self.servers))

    def led_by(self, stream):
        info = self.api("STREAM.INFO." + stream)
        name = info and info.get("cluster", {}).get("leader")
        return next((s for i, s in enumerate(self.servers) if name == "n%d" % i), None)

    def test_one_of_three(self):
        a, b = self.replicas
        stream = self.hold(a)
        jr.wait_for(lambda: self.of_peer(b) == 1, "the stream at b")
        self.begin_traffic()
        known = self.ask(a, 7)[0]
        jr.wait_for(lambda: self.ask(b, 7) == (known, True), "both know of prompt 7")
        victim = jr.wait_for(lambda: self.led_by(LEASES), "a leader of the leases", 60)
        victim.kill()
        jr.wait_for(lambda: self.led_by(LEASES) not in (None, victim), "another leader", 60, 0.2)
        learned = self.ask(a, 8)[0]
        for f in self.replicas:
            self.healthy(f)
        jr.wait_for(lambda: self.ask(b, 8) == (learned, True), "events go on")
        jr.wait_for(lambda: self.of_peer(b) == 1, "the stream counts at b")
        self.servers[self.servers.index(victim)] = self.procs.restart(victim)
        self.assertEqual(self.ask(b, 7), (known, True))
        self.traffic.end()
        self.assertEqual(self.traffic.failed, [])
        stream.close()
        self.agree()


if __name__ == "__main__":
    if not os.access(SERVER, os.X_OK):
        print("not run: %s is missing, ./dev setup --all builds it where go is installed" % SERVER)
    else:
        unittest.main()
