#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the request bodies the load driver sends, into a directory.

Each prompt holds the literal 10000000 half way, which `loadgen -m MOD`
replaces by a counter, so that requests share the first half of their prompt
and differ in the second.  --at moves that point (0 = all unique).
"""
import argparse
import json
import os
import random


def text(n, at, rng):
    words = []
    size = 0
    placed = False
    while size < n:
        if not placed and size >= n * at:
            words.append("10000000")
            placed = True
        else:
            words.append("".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 9))))
        size += len(words[-1]) + 1
    return " ".join(words)[:n] if placed else "10000000"


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("dir")
    ap.add_argument("--model", default="mock")
    ap.add_argument("--at", type=float, default=0.5)
    ap.add_argument("--max-tokens", type=int, default=16)
    ap.add_argument("--chunks", type=int, default=128)
    ap.add_argument("--ints", type=int, default=32768)
    a = ap.parse_args()
    os.makedirs(a.dir, exist_ok=True)
    rng = random.Random(1)

    def put(name, obj):
        data = json.dumps(obj)
        with open(os.path.join(a.dir, name), "w") as f:
            f.write(data)
        print(name, len(data))

    def completion(size, **kw):
        obj = dict(model=a.model, prompt="", max_tokens=a.max_tokens, temperature=0.0, **kw)
        obj["prompt"] = text(size - len(json.dumps(obj)), a.at, rng)
        return obj

    def chat(size, **kw):
        obj = dict(model=a.model, messages=[dict(role="user", content="")], max_tokens=a.max_tokens, temperature=0.0, **kw)
        obj["messages"][0]["content"] = text(size - len(json.dumps(obj)), a.at, rng)
        return obj

    def tokens(n, **kw):
        ids = [rng.randrange(128000) for _ in range(n)]
        ids[min(int(n * a.at), n - 1)] = 10000000
        return dict(model=a.model, prompt=ids, max_tokens=a.max_tokens, temperature=0.0, **kw)

    ints = tokens(a.ints)
    put("c1k.json", completion(1024))
    put("c16k.json", completion(16384))
    put("ids1k.json", tokens(132))
    put("ids16k.json", tokens(2286))
    put("ints32k.json", ints)
    put("text235k.json", completion(len(json.dumps(ints))))
    put("chat1k.json", chat(1024))
    put("chat16k.json", chat(16384))
    a.max_tokens = a.chunks
    put("s1k.json", completion(1024, stream=True))
    put("sids1k.json", tokens(128, stream=True))
    put("schat1k.json", chat(1024, stream=True))


if __name__ == "__main__":
    main()
