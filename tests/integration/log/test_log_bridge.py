# SPDX-License-Identifier: Apache-2.0
"""Bridges of real (mock) engines: refused by the server, cut off past their lease, and one rank of a
worker that starts again."""
import json
import unittest

import jr_procs as jr
import log_rig as rig
from lib.validate import NoGap

BLOCK = 4


class Engines(rig.LogTest):
    workers = 0

    def start(self, ttl=rig.TTL):
        self.fleet("a", "b", lease_ttl_secs=ttl)
        self.up = self.link()
        self.engine = self.procs.mocker("engine", bridge=True, nats=self.up.url, namespace=rig.NAMESPACE,
                                        worker_id=7, lease_ttl_secs=ttl, block_size=BLOCK,
                                        num_gpu_blocks_override=400, speedup_ratio=0, log_level="debug")
        self.asked = 0
        jr.wait_for(lambda: all(p["workers"] for p in self.views()), "the worker is listed")

    def ask(self, n):
        """n prompts that share nothing; the engine evicts all the time."""
        for _ in range(n):
            self.asked += 1
            self.complete(self.engine.urls[0], self.asked, max_tokens=2)

    def complete(self, url, n, **more):
        """Prompt n; the answer."""
        prompt = [n] + [(n * 7919 + i * 31) % 30000 for i in range(10 * BLOCK)]
        status, _, text = jr.call("POST", url + "/v1/completions", {
            "model": "mock-model", "prompt": prompt, **more})
        self.assertEqual(status, 200, text)
        return json.loads(text)

    def overlap(self, replica, n, **more):
        """What the replica believes the engine holds of prompt n, in blocks, and the answer."""
        before = jr.pool(replica.url)["counters"]["overlap_blocks"]
        answer = self.complete(replica.url, n, max_tokens=1, **more)
        return jr.pool(replica.url)["counters"]["overlap_blocks"] - before, answer

    def told_of_the_last(self):
        """All that the engine did before it has reached every replica with the last prompt, which is only looked up."""
        where = {"nvext": {"annotations": ["query_instance_id:"]}}
        jr.wait_for(lambda: all(self.overlap(r, self.asked, **where)[0] for r in self.replicas),
                    "the replicas know of the last prompt")

    def mirrors(self):
        """The engine does not tell its blocks: the independent reader of the log counts them."""
        return rig.counts(jr.pool(self.replicas[0].url))

    def incarnation(self):
        m = self.api("STREAM.MSG.GET.KV_" + rig.LEASES,
                     {"last_by_subj": "$KV.%s.worker.7" % rig.LEASES})["message"]
        return json.loads(rig.base64.b64decode(m["data"]))["ranks"][0]["incarnation"]

    def never_over_matches(self):
        """The last prompts are cached as predicted, by the engine's own word."""
        total = 0
        for n in range(self.asked, max(0, self.asked - 20), -1):
            predicted, answer = self.overlap(self.replicas[0], n)
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"] // BLOCK
            self.assertLessEqual(predicted, cached + 1, "the last token is always computed")
            total += predicted
        self.assertGreater(total, 0)

    def settled(self):
        self.told_of_the_last()
        self.settle()
        self.assertEqual(NoGap(rig.decoded(self.scribe.messages())), [])
        views = self.views()
        self.assertGreater(views[0]["blocks"], 0)
        self.never_over_matches()

    def test_batch_refused_while_there_is_more_to_send(self):
        """The stream is full, discard new: the refused batch is repeated before anything later."""
        self.start()
        self.ask(20)
        self.at_rest()
        config = self.api("STREAM.INFO." + rig.STREAM)["config"]
        full = dict(config, max_msgs=self.api("STREAM.INFO." + rig.STREAM)["state"]["messages"])
        self.api("STREAM.UPDATE." + rig.STREAM, full)
        last = self.last_seq()
        self.ask(40)
        jr.wait_for(lambda: "bridge.publish_failed" in self.engine_log(), "it is refused")
        self.assertEqual(self.last_seq(), last)
        self.ask(40)
        self.api("STREAM.UPDATE." + rig.STREAM, config)
        jr.wait_for(lambda: self.last_seq() > last, "it goes on")
        self.ask(20)
        self.settled()

    def engine_log(self):
        with open(self.engine.log, errors="replace") as log:
            return log.read()

    def test_bridge_cut_off_past_its_lease(self):
        """A lease that is over is a new life: a new incarnation, with the mirror."""
        self.start()
        self.ask(20)
        self.at_rest()
        before = self.incarnation()
        self.up.cut()
        self.ask(60)
        jr.wait_for(lambda: all(w["state"] != "live" for p in self.views() for w in p["workers"]),
                    "its lease is over")
        self.ask(20)
        self.up.heal()
        jr.wait_for(lambda: all(w["state"] == "live" and w["credited"] for p in self.views()
                                for w in p["workers"]), "it is back", 40)
        self.assertNotEqual(self.incarnation(), before)
        self.ask(20)
        self.settled()

    def test_bridge_cut_off_within_its_lease(self):
        """Nothing ended: the batch under way is repeated, the incarnation stays."""
        self.start(ttl=20)
        self.ask(20)
        self.at_rest()
        before = self.incarnation()
        self.up.cut()
        self.ask(20)
        self.up.heal()
        self.ask(20)
        self.settled()
        self.assertEqual(self.incarnation(), before)


class Ranks(rig.LogTest):
    workers = 0

    def test_one_rank_restarts(self):
        """Its blocks go, those of the other rank and of other workers stay."""
        self.fleet("a", "b")
        first = self.bridge(1)
        second = self.bridge(1, rank=1, first=first)
        other = self.bridge(2)
        self.fill(60)
        before = rig.counts(self.at_rest()[0])
        self.assertEqual(sorted(before), ["1/0", "1/1", "2/0"])
        second.forget()
        after = rig.counts(self.at_rest()[0])
        self.assertEqual(after, {k: n for k, n in before.items() if k != "1/1"})
        second.fill(10)
        first.fill(2)
        self.settle()
        # What it still sends of its former life is ignored.
        late = second.incarnation
        second.forget()
        second.nats.publish(rig.STREAM + ".batch", rig.jr_log.batch(
            1, late, 1000, [rig.jr_log.stored([1, 2, 3], [4, 5, 6])], rank=1))
        second.fill(5)
        for view in self.settle():
            self.assertGreater(view["counters"]["dropped_stale"], 0)
        self.assertGreater(other.blocks(), 0)


if __name__ == "__main__":
    unittest.main()
