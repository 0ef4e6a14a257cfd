# SPDX-License-Identifier: Apache-2.0
"""A bare NATS client and what a bridge would publish with it: batches of KV events and leases of
workers. Python standard library only; formats: proto/jetrouter/v1/events.proto, docs/protocol.md."""
import json
import os
import socket
import struct
import threading


class Nats:
    """One connection, one request at a time; from any thread."""

    def __init__(self, url, user=None, password=None, timeout=15):
        host, _, port = url.rpartition("//")[2].partition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=timeout)
        self.file = self.sock.makefile("rb")
        self.file.readline()  # INFO
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True}
        if user:
            options.update(user=user, **{"pass": password})
        self.inbox = "_INBOX." + os.urandom(8).hex()
        self.number = 0
        self.lock = threading.Lock()
        self.sock.sendall(b"CONNECT %s\r\nSUB %s.* 1\r\n" % (json.dumps(options).encode(),
                                                              self.inbox.encode()))

    def close(self):
        self.file.close()
        self.sock.close()

    def request(self, subject, payload=b"", headers=None):
        """The reply's payload."""
        with self.lock:
            self.number += 1
            reply = "%s.%d" % (self.inbox, self.number)
            if headers:
                head = "NATS/1.0\r\n" + "".join("%s: %s\r\n" % h for h in headers.items()) + "\r\n"
                head = head.encode()
                self.sock.sendall(b"HPUB %s %s %d %d\r\n%s%s\r\n" % (
                    subject.encode(), reply.encode(), len(head), len(head) + len(payload), head,
                    payload))
            else:
                self.sock.sendall(b"PUB %s %s %d\r\n%s\r\n" % (
                    subject.encode(), reply.encode(), len(payload), payload))
            while True:
                got, data = self.read()
                if got == reply:
                    return data

    def read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("nats-server has closed the connection")
        words = line.split()
        if words[:1] == [b"PING"]:
            self.sock.sendall(b"PONG\r\n")
        elif words[:1] == [b"-ERR"]:
            raise ConnectionError(line.decode())
        elif words[:1] in ([b"MSG"], [b"HMSG"]):
            data = self.file.read(int(words[-1]) + 2)[:-2]
            head = int(words[-2]) if words[0] == b"HMSG" else 0
            return words[1].decode(), data[head:]
        return None, b""

    def api(self, what, body=None):
        # nats-server 2.9 ends with a nil pointer when a stream that it still makes is asked for a message.
        if what.startswith("STREAM.MSG.GET."):
            stream = what.rpartition(".")[2]
            if self.api("STREAM.INFO." + stream)["created"].startswith("0001-"):
                raise RuntimeError("%s: the stream is still being made" % what)
        reply = json.loads(self.request("$JS.API." + what, json.dumps(body or {}).encode()))
        if "error" in reply:
            raise RuntimeError("%s: %s" % (what, reply["error"]))
        return reply

    def publish(self, subject, payload, headers=None):
        """The sequence it was stored at."""
        ack = json.loads(self.request(subject, payload, headers))
        if "error" in ack:
            raise RuntimeError("%s: %s" % (subject, ack["error"]))
        return ack["seq"]


def varint(n):
    out = b""
    while n > 127:
        out += bytes((n & 127 | 128,))
        n >>= 7
    return out + bytes((n,))


def field(number, kind, body):
    return varint(number << 3 | kind) + body


def fixed64(number, n):
    return field(number, 1, struct.pack("<Q", n)) if n else b""


def uint(number, n):
    return field(number, 0, varint(n)) if n else b""


def packed(number, values):
    body = struct.pack("<%dQ" % len(values), *values)
    return field(number, 2, varint(len(body)) + body)


def stored(blocks, local, parent=None):
    """A run of blocks below the root, or below a block hash."""
    event = uint(1, 1)
    if parent is not None:
        event += uint(2, 1) + fixed64(3, parent)
    return event + packed(4, blocks) + packed(5, local)


def removed(blocks):
    return uint(1, 2) + packed(4, blocks)


def batch(worker, incarnation, first_id, events, begin=False, rank=0):
    body = uint(1, 1) + fixed64(2, worker) + uint(3, rank) + fixed64(4, incarnation)
    body += uint(5, first_id) + uint(6, begin)
    for event in events:
        body += field(7, 2, varint(len(event)) + event)
    return body


class Pool:
    """The bridges of one pool: publishes batches, keeps the leases of its workers."""

    def __init__(self, nats_url, namespace, component="backend", ttl=2.0):
        self.nats_url, self.prefix = nats_url, "namespace-%s-component-%s" % (namespace, component)
        self.stream = self.prefix + "-kv-events"
        self.nats = Nats(nats_url)
        self.ttl = ttl
        self.workers = {}  # id -> lease
        self.listing = threading.Lock()  # whether a worker is one of ours, and what NATS is told of it
        self.next_id = {}
        self.stop = threading.Event()
        self.thread = None

    def close(self):
        self.stop.set()
        if self.thread:
            self.thread.join()
        self.nats.close()

    def reconnect(self):
        self.nats.close()
        self.nats = Nats(self.nats_url)

    def info(self):
        return self.nats.api("STREAM.INFO." + self.stream)

    # ---- leases

    def put(self, key, value, headers=None):
        self.nats.publish("$KV.%s-leases.%s" % (self.prefix, key), value, headers)

    def add_worker(self, worker, url, model="tiny", block_size=4, incarnation=None):
        incarnation = incarnation or int.from_bytes(os.urandom(7), "big") + 1
        self.workers[worker] = {
            "worker_id": str(worker), "url": url, "model": model, "block_size": block_size,
            "ranks": [{"dp_rank": 0, "incarnation": str(incarnation)}]}
        self.put("worker.%d" % worker, json.dumps(self.workers[worker]).encode())
        if not self.thread:
            self.thread = threading.Thread(target=self.renew, daemon=True)
            self.thread.start()
        return incarnation

    def renew(self):
        while not self.stop.wait(self.ttl / 6):
            for worker in list(self.workers):
                try:
                    self.renew_one(worker)
                except (OSError, ValueError, RuntimeError):
                    pass  # NATS is away: a test does that

    def renew_one(self, worker):
        with self.listing:
            lease = self.workers.get(worker)
            if lease:  # it may have left since
                self.put("worker.%d" % worker, json.dumps(lease).encode())

    def drop_worker(self, worker):
        """Gives the lease back."""
        with self.listing:
            del self.workers[worker]
            self.put("worker.%d" % worker, b"", {"KV-Operation": "DEL"})

    # ---- events

    def send(self, worker, events, begin=False, incarnation=None):
        """One batch, acknowledged; its sequence."""
        lease = self.workers[worker]
        incarnation = incarnation or int(lease["ranks"][0]["incarnation"])
        first = 1 if begin else self.next_id[worker]
        body = batch(worker, incarnation, first, events, begin)
        seq = self.nats.publish(self.stream + ".batch", body,
                                {"Nats-Msg-Id": "%d-0-%d-%d" % (worker, incarnation, first)})
        self.next_id[worker] = first + len(events)
        return seq

    def fill(self, worker, n, rng, begin=True):
        """n batches of random runs, some of them removed again, never all; the last sequence."""
        seq, runs = 0, []
        for i in range(n):
            if len(runs) > 1 and rng.random() < 0.2:
                events = [removed(runs.pop(rng.randrange(len(runs))))]
            else:
                blocks = [rng.getrandbits(64) for _ in range(rng.randint(1, 12))]
                parent = rng.choice(runs)[-1] if runs and rng.random() < 0.5 else None
                events = [stored(blocks, [rng.getrandbits(64) for _ in blocks], parent)]
                runs.append(blocks)
            seq = self.send(worker, events, begin=begin and i == 0)
        return seq
