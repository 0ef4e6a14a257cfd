#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Synthetic traces in the form of Mooncake's, to judge a policy by more than one workload.

    gen_trace.py KIND REQUESTS SEED > trace.jsonl

agents   few long system prompts; tasks of many short turns that come fast and grow (tool calls)
chat     short system prompts; turns that come slowly and grow
unique   hardly anything in common but a template; prompts of all lengths
"""
import json
import random
import sys

TICK_MS = 1000  # of the clock: requests of one tick are spread over it by the bench


class Ids:
    """Fresh hash ids of 512 tokens each."""

    def __init__(self):
        self.next = 0

    def take(self, n):
        self.next += n
        return list(range(self.next - n, self.next))


def session(rng, ids, start_s, prefix, turns, grow, think_s, output):
    """The requests of one conversation: each repeats what was before it."""
    at, blocks, out = start_s, list(prefix), []
    for _ in range(turns):
        blocks = blocks + ids.take(rng.randint(*grow))
        tokens = len(blocks) * 512 - rng.randint(0, 500)
        out.append((at, tokens, rng.randint(*output), list(blocks)))
        at += rng.expovariate(1 / think_s)
    return out


def agents(rng, ids, n):
    systems = [ids.take(rng.randint(4, 16)) for _ in range(40)]
    weights = [1 / (i + 1) for i in range(len(systems))]
    requests, start = [], 0.0
    while len(requests) < n:
        start += rng.expovariate(1 / 4)
        prefix = rng.choices(systems, weights)[0]
        requests += session(rng, ids, start, prefix, rng.randint(4, 24), (1, 4), 8, (40, 300))
    return requests


def chat(rng, ids, n):
    systems = [ids.take(1) for _ in range(8)]
    requests, start = [], 0.0
    while len(requests) < n:
        start += rng.expovariate(1 / 2)
        requests += session(rng, ids, start, rng.choice(systems), rng.randint(1, 10), (1, 5), 60, (100, 700))
    return requests


def unique(rng, ids, n):
    templates = [ids.take(1) for _ in range(4)]
    requests, start = [], 0.0
    for _ in range(n):
        start += rng.expovariate(1 / 0.4)
        blocks = rng.choice(templates) + ids.take(max(1, min(60, int(rng.lognormvariate(2.2, 0.8)))))
        requests.append((start, len(blocks) * 512 - rng.randint(0, 500), rng.randint(50, 500), blocks))
    return requests


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("agents", "chat", "unique"):
        sys.exit(__doc__)
    n, rng = int(sys.argv[2]), random.Random(int(sys.argv[3]))
    requests = {"agents": agents, "chat": chat, "unique": unique}[sys.argv[1]](rng, Ids(), n)
    for at, tokens, output, blocks in sorted(requests, key=lambda r: r[0])[:n]:
        print(json.dumps({"timestamp": int(at * 1000) // TICK_MS * TICK_MS, "input_length": tokens,
                          "output_length": output, "hash_ids": blocks}))


if __name__ == "__main__":
    main()
