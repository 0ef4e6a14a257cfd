# SPDX-License-Identifier: Apache-2.0
"""The index equals the engines: after random load, evictions, lost event batches and restarts each
replica holds of each worker just the blocks that the mock engine lists itself."""
import json
import os
import random
import threading
import time
import unittest

import jr_procs as jr

SEED = int(os.environ.get("JR_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
MASK = (1 << 64) - 1
GOLDEN = 0x9e3779b97f4a7c15
BLOCK = 16
WORKERS = 3


def mix(x):
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9 & MASK
    x = (x ^ x >> 27) * 0x94d049bb133111eb & MASK
    return x ^ x >> 31


def digest(worker, rank, blocks):
    """docs/protocol.md, the digest: a sum over the entries."""
    of_rank = mix((mix((worker + GOLDEN) & MASK) + rank + GOLDEN) & MASK)
    return sum(mix((mix((of_rank + h + GOLDEN) & MASK) + p + GOLDEN) & MASK) for h, p in blocks) & MASK


class IndexEqualsEngine(unittest.TestCase):
    flavour = "vllm"
    ranks = 1

    def setUp(self):
        print("seed", SEED, flush=True)
        self.rng = random.Random(SEED)
        self.procs = jr.procs_of(self)
        nats = self.procs.nats()
        self.mocker = self.procs.mocker(
            "workers", n=WORKERS, bridge=True, nats=nats.url, worker_id=1, block_size=BLOCK,
            num_gpu_blocks_override=300, speedup_ratio=0, max_num_batched_tokens=512, event_flavour=self.flavour,
            lora_modules="adapter-a", fault="drop_events=0.01", lease_ttl_secs=2, ranks=self.ranks)
        self.replicas = [self.procs.frontend(name, nats=nats.url, router_mode="kv", lease_ttl_secs=2)
                         for name in ("a", "b")]
        for f in self.replicas:
            self.procs.wait_ready(f)
        for f in self.replicas:
            jr.wait_for(lambda f=f: [w["state"] for w in jr.pool(f.url)["workers"]] == ["live"] * WORKERS * self.ranks,
                        "live workers", timeout=60)
        self.families = [[self.rng.randrange(30000) for _ in range(400)] for _ in range(20)]

    def ask(self, i, how):
        worker = self.rng.randrange(WORKERS) + 1
        shared = self.rng.choice(self.families)[:self.rng.randrange(20, 400)]
        own = [self.rng.randrange(30000) for _ in range(self.rng.randrange(1, 100))]
        body = {"model": "mock-model", "prompt": shared + own, "max_tokens": self.rng.randrange(1, 40)}
        if how == "direct":  # some workers hold what the router would never put there
            if self.flavour == "vllm" and self.rng.random() < 0.2:
                body["cache_salt"] = "tenant-%d" % self.rng.randrange(3)
            if self.rng.random() < 0.2:
                body["model"] = "adapter-a"
        url = self.mocker.urls[worker - 1] if how == "direct" else self.replicas[i % 2].url
        headers = {"X-data-parallel-rank": str(self.rng.randrange(self.ranks))} if how == "direct" else {}
        return lambda: jr.call("POST", url + "/v1/completions", json.dumps(body), headers=headers)[0]

    def load(self, n, wanted=(200,)):
        """n requests, half of them past the routers, by eight clients."""
        todo = [self.ask(i, "direct" if i % 2 else "routed") for i in range(n)]
        answers = []

        def client():
            while todo:
                try:
                    ask = todo.pop()
                except IndexError:
                    return
                answers.append(ask())
        threads = [threading.Thread(target=client) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(answers), n)
        self.assertEqual(sorted(set(answers) - set(wanted)), [])

    def get(self, worker, path, method="GET"):
        status, _, body = jr.call(method, self.mocker.urls[worker - 1] + path)
        self.assertEqual(status, 200, body)
        return json.loads(body)

    def truths(self, worker):
        """By rank: the blocks that the engine has itself."""
        ranks = self.get(worker, "/mock/cache")["ranks"]
        self.assertEqual([r["dp_rank"] for r in ranks], list(range(self.ranks)))
        return [[(int(h), int(p)) for h, p in r["blocks"]] for r in ranks]

    def truth(self, worker):
        return [b for blocks in self.truths(worker) for b in blocks]

    def differences(self):
        out, lists = [], {w: self.truths(w) for w in range(1, WORKERS + 1)}
        for f in self.replicas:
            rows = {(int(w["worker_id"]), w["dp_rank"]): w for w in jr.pool(f.url)["workers"]}
            for w, ranks in lists.items():
                for rank, blocks in enumerate(ranks):
                    row = rows.get((w, rank), {"blocks": None, "digest": ""})
                    if (row["blocks"], row["digest"]) != (len(blocks), "%016x" % digest(w, rank, blocks)):
                        out.append((f.name, w, rank, row["blocks"], len(blocks)))
        return out

    def await_equal(self, what):
        since = time.monotonic()
        jr.wait_for(lambda: not self.differences(), "%s: index equals engine" % what, timeout=60)
        print("%s: equal after %.2f s, blocks %s" % (
            what, time.monotonic() - since, [len(self.truth(w)) for w in range(1, WORKERS + 1)]), flush=True)

    def dropped(self):
        return sum(self.get(w, "/mock/faults")["batches_dropped"] for w in range(1, WORKERS + 1))

    def lose(self, what):
        """Each rank of each worker says something that nobody hears, and no more."""
        for w in range(1, WORKERS + 1):
            self.get(w, "/mock/faults?drop_events=1", "POST")
        before = self.dropped()
        for w in range(1, WORKERS + 1):
            for rank in range(self.ranks):
                prompt = [self.rng.randrange(30000) for _ in range(5 * BLOCK)]
                body = {"model": "mock-model", "prompt": prompt, "max_tokens": 1}
                status, _, answer = jr.call("POST", self.mocker.urls[w - 1] + "/v1/completions", json.dumps(body),
                                            headers={"X-data-parallel-rank": str(rank)})
                self.assertEqual(status, 200, answer)
        self.assertGreaterEqual(self.dropped() - before, WORKERS * self.ranks)
        for w in range(1, WORKERS + 1):
            self.get(w, "/mock/faults?drop_events=0", "POST")
        self.await_equal(what)

    def test_after_load_drops_and_restarts(self):
        self.load(300)
        while self.dropped() < 3:
            self.load(100)
        print("batches dropped:", self.dropped(), flush=True)
        self.await_equal("1 % of the batches dropped")
        self.assertGreater(min(len(self.truth(w)) for w in range(1, WORKERS + 1)), 100)
        # The last batches of all: nothing comes behind them that would show the gap. The second time the
        # engines have been silent before, so that no look after the end of traffic comes to it by chance.
        for what in ("the last batches dropped", "the only batches after a silence dropped"):
            self.lose(what)
        self.assertEqual(self.get(1, "/mock/restart", "POST"), {"restarted": True})
        self.assertEqual(self.truth(1), [])
        self.await_equal("an engine restarted, and silent")
        self.load(60)
        self.await_equal("load after that")
        self.get(2, "/mock/restart", "POST")
        self.load(60, wanted=(200, 502, 503))
        self.await_equal("an engine restarted, and talking at once")
        self.assertEqual(self.get(3, "/reset_prefix_cache", "POST"), {"success": True})
        self.await_equal("a cache emptied")


class SglangEvents(IndexEqualsEngine):
    flavour = "sglang"


class OldVllmEvents(IndexEqualsEngine):
    flavour = "vllm-0.15"


class DataParallel(IndexEqualsEngine):
    ranks = 2


if __name__ == "__main__":
    unittest.main()
