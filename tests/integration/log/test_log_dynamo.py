# SPDX-License-Identifier: Apache-2.0
"""A stream of Dynamo 1.0.2 that was purged behind its radix-state: imported once, and then ours."""
import base64
import hashlib
import json
import os
import unittest

import jr_procs as jr
import log_rig as rig

FIXTURES = os.path.join(jr.ROOT, "tests", "fixtures", "dynamo")
BUCKET = rig.PREFIX + "-radix-bucket"
GAP = 231  # messages before it left the capture's stream behind the snapshot


class Dynamo(rig.LogTest):
    def put_radix_state(self, client, data):
        client.api("STREAM.CREATE.OBJ_" + BUCKET, {
            "name": "OBJ_" + BUCKET, "subjects": ["$O.%s.C.>" % BUCKET, "$O.%s.M.>" % BUCKET],
            "allow_rollup_hdrs": True, "discard": "new"})
        client.publish("$O.%s.C.nuid1" % BUCKET, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
        meta = {"name": "radix-state", "bucket": BUCKET, "nuid": "nuid1", "size": len(data), "chunks": 1,
                "mtime": "2026-11-21T01:28:05Z", "digest": "SHA-256=" + digest,
                "options": {"max_chunk_size": 131072}}
        client.publish("$O.%s.M.cmFkaXgtc3RhdGU=" % BUCKET, json.dumps(meta).encode(), {"Nats-Rollup": "sub"})

    def capture(self, client, radix):
        """The stream as it was when Dynamo had purged it, with what came after."""
        client.api("STREAM.CREATE." + rig.STREAM, {
            "name": rig.STREAM, "subjects": [rig.STREAM + ".*"], "max_age": 3600 * 10 ** 9})
        with open(os.path.join(FIXTURES, "kv-events-mocker.jsonl")) as f:
            events = {m["seq"]: m["payload"].encode() for m in map(json.loads, f)}
        for seq in range(1, max(events) + 1):
            client.publish(rig.STREAM + ".kv-events", events.get(seq, b"{}"))
        client.api("STREAM.PURGE." + rig.STREAM, {"seq": GAP})
        self.put_radix_state(client, radix)

    def radix(self):
        with open(os.path.join(FIXTURES, "radix-state.bin"), "rb") as f:
            return f.read()

    def test_import(self):
        self.capture(self.client(), self.radix())
        for name in ("a", "b"):
            self.replica(name)
        views = [self.ready(f, 60) for f in self.replicas]
        self.await_snapshot(GAP)
        self.assertEqual(sum(self.said(f, "object=radix-state") for f in self.replicas), 1, "once, by the leader")
        views = jr.wait_for(lambda: (lambda v: v if len({p["digest"] for p in v}) == 1 else None)(self.views()),
                            "one digest")
        for v in views:
            self.assertEqual(v["entries"], 254)
            self.assertEqual(v["epoch"], 0, "nobody had to rebuild")
            self.assertEqual(v["counters"]["dropped_unknown_parent"], 0)
            self.assertEqual(v["may_forget_because"], "the stream has a max age")

    def test_what_cannot_be_read_is_as_none(self):
        self.capture(self.client(), self.radix()[:5000])
        f = self.replica("a")
        self.ready(f, 90)
        self.assertTrue(self.said(f, "dynamo.import_failed"))
        self.assertEqual(jr.pool(f.url)["epoch"], 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
