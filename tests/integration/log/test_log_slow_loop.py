# SPDX-License-Identifier: Apache-2.0
"""A loop that applies slowly slows the reader down, and through it the server: a long backlog is not held in
memory, nothing is lost of it, and the loop goes on answering."""
import json
import os
import re
import socket
import unittest

import jr_procs as jr
import log_rig as rig

MESSAGES, HASHES = 4000, 3000  # of about 60 KB: 240 MB in the stream


def rss_peak_mb(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1)) / 1024


class SlowLoop(rig.LogTest):
    # What the sanitizer holds back of freed memory is not ours.
    asan = "%s:quarantine_size_mb=8" % os.environ.get("ASAN_OPTIONS", "")

    def backlog(self):
        """Removals of blocks nobody has: they take time and room, and leave nothing behind."""
        event = {"worker_id": 1, "event": {"event_id": 1, "data": {"removed": {
            "block_hashes": [(1 << 63) + i for i in range(HASHES)]}}, "dp_rank": 0}}
        payload = json.dumps(event, separators=(",", ":")).encode()
        line = b"PUB %s.kv-events %d\r\n%s\r\n" % (rig.STREAM.encode(), len(payload), payload)
        before = self.last_seq()
        with socket.create_connection(("127.0.0.1", self.nats.port), timeout=60) as s, s.makefile("rb") as f:
            s.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
            for _ in range(MESSAGES // 50):
                s.sendall(line * 50 + b"PING\r\n")
                while not f.readline().startswith(b"PONG"):
                    pass
        jr.wait_for(lambda: self.last_seq() >= before + MESSAGES, "the backlog in the stream", 60)
        return MESSAGES * len(payload) / 1e6

    def test_memory_stays_bounded(self):
        maker = self.replica("maker")
        self.ready(maker)
        self.begin_log()
        maker.stop()
        stored_mb = self.backlog()
        slow = self.procs.frontend("slow", nats=self.nats.url, namespace=rig.NAMESPACE, router_mode="kv", env={
            "JETROUTER_FAILPOINTS": "log.before_apply=sleep(1)", "ASAN_OPTIONS": self.asan})
        answers = 0

        def ready():
            nonlocal answers
            status, _ = jr.try_get(slow.url + "/ready")
            answers += status == 503
            return status == 200
        jr.wait_for(ready, lambda: "ready\n" + slow.tail(), 120)
        self.assertGreater(answers, 20)  # it answered all the while
        self.assertGreaterEqual(jr.pool(slow.url)["applied_seq"], MESSAGES)
        self.assertGreater(stored_mb, 200)
        print("peak of %.0f MB of memory, %.0f MB in the stream" % (rss_peak_mb(slow.pid), stored_mb))
        # A sanitizer takes half as much again as the 55 MB of an ordinary build.
        self.assertLess(rss_peak_mb(slow.pid), stored_mb / 2)


if __name__ == "__main__":
    unittest.main()
