# SPDX-License-Identifier: Apache-2.0
"""Clients: closed loops that send completions and check every answer in full.

Prompts are token ids. A prompt is one of a few families' common prefix and an own tail, so that
routing has something to find. The mock engine answers the same prompt with the same text wherever
it runs, so an answer that differs from an earlier one of its prompt is wrong, not only odd.
"""
import http.client
import json
import random
import threading
import time

from jr_procs import Failed

OK = "ok"


class Request:
    """One request and how it ended. at, end: time.monotonic()."""

    __slots__ = ("id", "prompt", "stream", "at", "first", "end", "status", "outcome", "replica", "worker",
                 "cached", "tokens")

    def __init__(self, ident, prompt, stream):
        self.id, self.prompt, self.stream = ident, prompt, stream
        self.at = self.first = self.end = 0.0
        self.status = 0
        self.outcome = ""
        self.replica = self.worker = ""
        self.cached = self.tokens = 0

    def line(self):
        return {k: getattr(self, k) for k in self.__slots__}


class BadAnswer(Exception):
    pass


def read_stream(reply, want):
    """The pieces of a streamed completion: text, usage. BadAnswer when it is not whole."""
    text, usage, done, n = [], {}, False, 0
    for raw in reply:
        line = raw.strip()
        if not line:
            continue
        if line.startswith(b"event: error"):
            raise BadAnswer("the stream ended with an error event")
        if not line.startswith(b"data: "):
            raise BadAnswer("a line that is no event: %r" % line[:60])
        if done:
            raise BadAnswer("something follows [DONE]")
        if line == b"data: [DONE]":
            done = True
            continue
        event = json.loads(line[6:])
        if "error" in event and "choices" not in event:
            raise BadAnswer("error in the stream: %s" % event["error"])
        if event.get("usage"):
            usage = event["usage"]
        for choice in event.get("choices", ()):
            text.append(choice.get("text", ""))
            n += 1
    if not done:
        raise BadAnswer("cut before [DONE], after %d events" % n)
    if n != want:
        raise BadAnswer("%d events instead of %d" % (n, want))
    return "".join(text), usage


class Clients:
    """Threads that run self.client(number, rng) until self.stopping is set."""

    def __init__(self, n, seed, timeout=30):
        self.timeout, self.lock, self.stopping = timeout, threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(i, random.Random(seed * 1000 + i)), daemon=True)
                        for i in range(n)]

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def stop(self):
        """No new requests; waits for those under way."""
        self.stopping.set()
        for t in self.threads:
            t.join(self.timeout + 10)
        if any(t.is_alive() for t in self.threads):
            raise Failed("a client did not come back within %d s" % (self.timeout + 10))


class Traffic(Clients):
    """N clients against one or more ports; results() is everything since the start."""

    def __init__(self, ports, seed, clients=4, model="mock-model", block=64, families=12, tails=40,
                 prefix_blocks=6, max_tokens=8, think=0.01, stream_share=0.5, timeout=30):
        super().__init__(clients, seed, timeout)
        self.ports, self.model, self.max_tokens = list(ports), model, max_tokens
        self.think, self.seed, self.block = think, seed, block
        self.rng = random.Random(seed)
        self.stream_share = stream_share
        self.prompts = self._make_prompts(families, tails, prefix_blocks, block)
        self.done, self.texts = [], {}

    def _make_prompts(self, families, tails, prefix_blocks, block):
        prompts = []
        for _ in range(families):
            head = [self.rng.randrange(1, 30000) for _ in range(prefix_blocks * block)]
            for _ in range(tails):
                n = block * self.rng.randint(1, 4) + self.rng.randrange(block)
                prompts.append(head + [self.rng.randrange(1, 30000) for _ in range(n)])
        return prompts

    def results(self):
        with self.lock:
            return list(self.done)

    def count(self):
        with self.lock:
            return len(self.done)

    def client(self, number, rng):
        conns, n = {}, 0
        while not self.stopping.is_set():
            port = self.ports[(number + rng.randrange(len(self.ports))) % len(self.ports)]
            prompt = rng.randrange(len(self.prompts))
            n += 1
            r = Request("%d-%d-%d" % (self.seed, number, n), prompt, rng.random() < self.stream_share)
            self.one(r, port, conns)
            with self.lock:
                self.done.append(r)
            if self.think:
                time.sleep(self.think * rng.random() * 2)
            elif r.outcome != OK:
                time.sleep(0.02)
        for c in conns.values():
            c.close()

    def one(self, r, port, conns):
        """Sends request r; fills it in."""
        body = {"model": self.model, "prompt": self.prompts[r.prompt], "max_tokens": self.max_tokens,
                "temperature": 0, "stream": r.stream}
        if r.stream:
            body["stream_options"] = {"include_usage": True}
        r.at = time.monotonic()
        conn = conns.pop(port, None) or http.client.HTTPConnection("127.0.0.1", port, timeout=self.timeout)
        try:
            conn.request("POST", "/v1/completions", json.dumps(body),
                         {"Content-Type": "application/json", "X-Request-Id": r.id,
                          "X-Jetrouter-Explain": "1"})
            reply = conn.getresponse()
            r.first = time.monotonic()
            r.status, r.replica = reply.status, reply.getheader("X-Replica", "")
            r.worker = reply.getheader("X-Jetrouter-Worker", "")
            self._check(r, reply)
            r.outcome = OK
            conns[port] = conn
        except BadAnswer as e:
            r.outcome = str(e)
        except (OSError, http.client.HTTPException, ValueError) as e:
            r.outcome = "%s: %s" % (type(e).__name__, e)
        r.end = time.monotonic()
        if r.outcome != OK:
            conn.close()

    def _check(self, r, reply):
        if reply.status != 200:
            raise BadAnswer("status %d: %s" % (reply.status, reply.read(300).decode("utf-8", "replace")))
        if r.stream:
            text, usage = read_stream(reply, self.max_tokens)
        else:
            answer = json.loads(reply.read())
            text, usage = answer["choices"][0]["text"], answer.get("usage") or {}
        r.tokens = usage.get("prompt_tokens", 0)
        r.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        with self.lock:
            if self.texts.setdefault(r.prompt, text) != text:
                raise BadAnswer("another answer than before to prompt %d" % r.prompt)
