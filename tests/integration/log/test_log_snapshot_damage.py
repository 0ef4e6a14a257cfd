# SPDX-License-Identifier: Apache-2.0
"""Snapshots that cannot be trusted: cut short, changed, with a right outside and a wrong inside."""
import base64
import hashlib
import json
import os
import unittest

import jr_procs as jr
import log_rig as rig


def meta_subject(name):
    return "$O.%s.M.%s" % (rig.OBJECTS, base64.urlsafe_b64encode(name.encode()).decode())


class Damage(rig.LogTest):
    threshold = 30

    def setUp(self):
        super().setUp()
        self.fleet("a", "b")
        self.fill_chunks()
        self.next_snapshot()
        self.next_snapshot()
        jr.wait_for(lambda: self.first_seq() > 1, "the purge")
        self.at_rest()
        self.store_client = self.client()

    # ---- objects, as any client reads and writes them

    def messages(self, subject):
        """(sequence, payload) of all messages of a subject of the object store."""
        seqs, out = 0, []
        info = self.api("STREAM.INFO.OBJ_" + rig.OBJECTS)["state"]
        while seqs < info["last_seq"]:
            try:
                m = self.store_client.api("STREAM.MSG.GET.OBJ_" + rig.OBJECTS,
                                          {"seq": seqs + 1, "next_by_subj": subject})["message"]
            except RuntimeError:
                break
            seqs = m["seq"]
            out.append((seqs, base64.b64decode(m.get("data", ""))))
        return out

    def meta(self, name):
        return json.loads(self.messages(meta_subject(name))[-1][1])

    def chunks(self, name):
        return self.messages("$O.%s.C.%s" % (rig.OBJECTS, self.meta(name)["nuid"]))

    def cut_short(self, name):
        """The last chunk is gone, the meta says as before."""
        chunks = self.chunks(name)
        self.assertGreater(len(chunks), 1)
        self.store_client.api("STREAM.MSG.DELETE.OBJ_" + rig.OBJECTS, {"seq": chunks[-1][0]})

    def rewrite(self, name, content, right_hash):
        """Other content under the name, with a SHA-256 that fits or does not."""
        meta, nuid = self.meta(name), os.urandom(11).hex()
        sha = hashlib.sha256(content if right_hash else content + b"x").digest()
        pieces = [content[i:i + 100000] for i in range(0, len(content), 100000)]
        for piece in pieces:
            self.store_client.publish("$O.%s.C.%s" % (rig.OBJECTS, nuid), piece)
        meta.update(nuid=nuid, size=len(content), chunks=len(pieces),
                    digest="SHA-256=" + base64.urlsafe_b64encode(sha).decode())
        self.store_client.publish(meta_subject(name), json.dumps(meta).encode(), {"Nats-Rollup": "sub"})

    def content(self, name):
        return b"".join(data for _, data in self.chunks(name))

    def flip(self, name, right_hash):
        content = bytearray(self.content(name))
        content[self.rng.randrange(len(content) // 4, len(content))] ^= 1 << self.rng.randrange(8)
        self.rewrite(name, bytes(content), right_hash)

    # ---- a replica comes back to them

    def comes_back(self):
        b = self.replicas[1]
        b.kill()
        back = self.restart(b)
        self.ready_from_snapshot(back, 60)
        return back

    def newest_object(self):
        record = self.record()
        return record["newest"]["object"], record["previous"]["object"]

    def test_newest_cut_short(self):
        self.cut_short(self.newest_object()[0])
        back = self.comes_back()
        self.assertTrue(self.said(back, "snapshot.unreadable"))
        self.settle()

    def test_newest_changed_and_its_hash_does_not_fit(self):
        self.flip(self.newest_object()[0], right_hash=False)
        back = self.comes_back()
        self.assertTrue(self.said(back, "snapshot.unreadable"))
        self.settle()

    def test_newest_changed_and_its_hash_fits(self):
        """Whoever wrote it says it is whole; its own trailer says that it is not."""
        self.flip(self.newest_object()[0], right_hash=True)
        back = self.comes_back()
        self.assertTrue(self.said(back, "snapshot.unreadable"))
        self.settle()

    def test_newest_ends_in_the_middle_and_its_hash_fits(self):
        name = self.newest_object()[0]
        content = self.content(name)
        self.rewrite(name, content[:self.rng.randrange(10, len(content))], right_hash=True)
        back = self.comes_back()
        self.assertTrue(self.said(back, "snapshot.unreadable"))
        self.settle()

    def test_both_damaged_with_a_living_peer(self):
        """The peer holds the state: nobody rebuilds, the leader writes it again."""
        for name in self.newest_object():
            self.flip(name, right_hash=True)
        self.comes_back()
        self.assertEqual({p["epoch"] for p in self.views()}, {0}, "nobody had to rebuild")
        self.settle()

    def test_no_room_to_read_them(self):
        """The server refuses readers for a while: that says nothing of the snapshots, and nobody rebuilds."""
        for f in list(self.replicas):
            f.kill()
        for f in list(self.replicas):
            self.restart(f, failpoints="snapshot.no_room=error*8")
        for f in self.replicas:
            self.ready_from_snapshot(f, 60)
        self.assertEqual({p["epoch"] for p in self.views()}, {0}, "nobody had to rebuild")
        self.settle()

    def test_both_damaged_and_nobody_else(self):
        """Nobody holds the state: a reset in the log, and the bridges begin anew."""
        for name in self.newest_object():
            self.flip(name, right_hash=True)
        self.written_down()
        for f in list(self.replicas):
            f.kill()
        for f in list(self.replicas):
            self.restart(f)
        for f in self.replicas:
            self.ready(f, 60)
        self.assertTrue(all(p["epoch"] > 0 for p in self.views()))
        self.fill(10)
        self.settle()


if __name__ == "__main__":
    unittest.main()
