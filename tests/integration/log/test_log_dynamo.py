# SPDX-License-Identifier: Apache-2.0
"""A stream of Dynamo 1.0.2 that was purged behind its radix-state: imported once, and then ours. And the other
way: what --snapshot-compat dynamo-1.0 writes, read by others."""
import base64
import hashlib
import json
import os
import struct
import subprocess
import unittest

import jr_procs as jr
import log_rig as rig

FIXTURES = os.path.join(jr.ROOT, "tests", "fixtures", "dynamo")
BUCKET = rig.PREFIX + "-radix-bucket"
GAP = 231  # messages before it left the capture's stream behind the snapshot


class Dynamo(rig.LogTest):
    options = {"stale_worker_secs": 3600}  # nobody renews a lease of the capture's workers

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
        self.assertEqual(sum(self.said(f, "snapshot.restored component=backend object=radix-state") for f in self.replicas), 1, "once, by the leader")
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


# ---------------------------------------------------------------- written for Dynamo

def radix_events(data):
    """[(worker, event id, parent or None, block, local, rank)] of a radix-state of Dynamo 1.0, all of it."""
    (n,), at, out = struct.unpack_from("<Q", data), 8, []
    for _ in range(n):
        worker, event, variant, has_parent = struct.unpack_from("<QQIB", data, at)
        at += 21
        assert variant == 0, "stored"
        parent = struct.unpack_from("<Q", data, at)[0] if has_parent else None
        at += 8 * has_parent
        blocks, block, local, has_mm, rank = struct.unpack_from("<QQQBI", data, at)
        assert blocks == 1 and not has_mm
        at += 29
        out.append((worker, event, parent, block, local, rank))
    assert at == len(data)
    return out


class Written(rig.LogTest):
    workers = 2
    options = {"snapshot_compat": "dynamo-1.0", "stale_worker_secs": 3600}

    def read(self):
        """The object radix-state as the server has it, checked against its meta."""
        stream = "OBJ_" + BUCKET
        meta = json.loads(base64.b64decode(self.api("STREAM.MSG.GET." + stream, {
            "last_by_subj": "$O.%s.M.cmFkaXgtc3RhdGU=" % BUCKET})["message"]["data"]))
        data, seq = b"", 1
        for _ in range(meta["chunks"]):
            m = self.api("STREAM.MSG.GET." + stream, {
                "seq": seq, "next_by_subj": "$O.%s.C.%s" % (BUCKET, meta["nuid"])})["message"]
            data += base64.b64decode(m["data"])
            seq = m["seq"] + 1
        self.assertEqual(len(data), meta["size"])
        self.assertEqual(meta["digest"], "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode())
        return data

    def said_by_bridges(self):
        """The blocks that the bridges hold: {(worker, rank, block): (parent, local)}."""
        out = {}
        for b in self.bridges:
            for parent, blocks, local in b.runs.values():
                before = b.runs[parent][1][-1] if parent else None
                for block, loc in zip(blocks, local):
                    out[(b.worker, b.rank, block)] = (before, loc)
                    before = block
        return out

    def check(self):
        """What is in the bucket is what the bridges hold, parents first."""
        events = radix_events(self.read())
        self.assertEqual([e[1] for e in events], list(range(len(events))))
        seen = set()
        for worker, _, parent, block, _, rank in events:
            self.assertTrue(parent is None or (worker, rank, parent) in seen, "a parent comes first")
            seen.add((worker, rank, block))
        self.assertEqual({(w, r, block): (parent, local) for w, _, parent, block, local, r in events},
                         self.said_by_bridges())
        return len(events)

    def written(self):
        return sum(jr.metric(f.url, "jetrouter_dynamo_snapshots_total") for f in self.alive())

    def snapshot(self):
        """One more of ours, and then one of Dynamo's, by whoever leads."""
        before = self.written()
        self.ask_snapshot()
        jr.wait_for(lambda: self.written() > before,
                    lambda: "radix-state is written\n" + "\n".join(f.tail(30) for f in self.alive()))

    def test_written_and_read(self):
        a, b = self.fleet("a", "b")
        self.bridge(2, rank=3, first=self.bridges[1])  # a second rank of the second worker
        self.fill(60)
        self.at_rest()
        self.snapshot()
        self.assertGreater(self.check(), 100)
        # From here on what was said before is known from the object alone: it left the stream.
        self.written_down()
        self.api("STREAM.PURGE." + rig.STREAM, {"seq": self.last_seq()})
        self.fill(20)
        self.at_rest()
        self.snapshot()
        self.check()
        # Another leader has it from there, too.
        leader = self.leader()
        other = b if leader is a else a
        self.kill(leader)
        self.leader([other])
        self.fill(20)
        self.at_rest()
        self.snapshot()
        blocks = self.check()
        self.assertEqual(jr.metric(other.url, "jetrouter_dynamo_snapshot_left_out"), 0)
        self.assertEqual(jr.metric(other.url, "jetrouter_dynamo_snapshot_blocks"), blocks)
        # One generation of chunks: what was replaced is gone.
        info = self.api("STREAM.INFO.OBJ_" + BUCKET, {"subjects_filter": "$O.%s.C.>" % BUCKET})
        self.assertEqual(len(info["state"]["subjects"]), 1)
        self.nats_py(self.read())
        self.settle()

    def nats_py(self, data):
        """The same, read by a client of others."""
        venv = os.environ.get("JR_VENV")
        if not venv:
            print("not run: JR_VENV does not name a Python venv with nats-py")
            return
        out = subprocess.run([os.path.join(venv, "bin", "python"),
                              os.path.join(jr.ROOT, "tests", "integration", "object_store_interop.py"),
                              self.nats.url, BUCKET, "get", "radix-state"], capture_output=True, text=True, timeout=60)
        digest = hashlib.sha256(data).hexdigest()
        self.assertEqual(out.stdout.split(), [digest, str(len(data)), str(len(data)), digest], out.stderr)

    def test_a_fresh_router_imports_it(self):
        """No snapshot of ours and a purged stream, as after a way through Dynamo: what we wrote is enough."""
        client = self.client()
        f = self.replica("a")
        self.ready(f)
        with open(os.path.join(FIXTURES, "kv-events-mocker.jsonl")) as lines:
            for m in map(json.loads, lines):
                if m["seq"] < GAP:
                    client.publish(rig.STREAM + ".kv-events", m["payload"].encode())
        self.at_rest_at(f, self.last_seq())
        self.snapshot()
        before = jr.pool(f.url)
        self.assertEqual(before["entries"], 250)
        self.assertEqual(len(radix_events(self.read())), 250)
        self.assertEqual(f.stop(), 0)
        for bucket in ("OBJ_" + rig.OBJECTS, "KV_" + rig.STATE):
            client.api("STREAM.DELETE." + bucket)
        client.api("STREAM.PURGE." + rig.STREAM)
        fresh = self.replica("fresh")
        self.ready(fresh, 60)
        after = jr.pool(fresh.url)
        self.assertTrue(self.said(fresh, "object=radix-state"))
        self.assertEqual(after["entries"], before["entries"])
        self.assertEqual(rig.counts(after), rig.counts(before))
        self.assertEqual(after["counters"]["dropped_unknown_parent"], 0)
        self.assertEqual(after["epoch"], 0)

    def at_rest_at(self, f, seq):
        jr.wait_for(lambda: jr.pool(f.url)["applied_seq"] >= seq, "it has read the stream")

    def test_failure_is_counted_and_hinders_nothing(self):
        """Whatever fails on the way: our snapshots and the purge go on, it is said once, the next one is whole."""
        f = self.replica("a", "compat.after_upload=error*1;compat.after_verify=error*1")
        self.ready(f)
        self.begin_log()
        self.leader()
        for n in (1, 2):
            seq = self.fill(30)
            self.assertEqual(self.procs.ctl(f.url, "snapshot").returncode, 0)
            self.await_snapshot(seq)
            jr.wait_for(lambda: jr.metric(f.url, "jetrouter_dynamo_snapshot_failures_total") == n, "the failure")
        self.assertEqual(self.said(f, "dynamo.write_failed"), 1)
        self.assertEqual(jr.metric(f.url, "jetrouter_snapshot_failures_total"), 0)
        jr.wait_for(lambda: self.first_seq() > 1, "the purge")
        self.fill(10)
        self.at_rest()
        self.snapshot()
        self.check()
        self.settle()


if __name__ == "__main__":
    unittest.main(verbosity=2)
