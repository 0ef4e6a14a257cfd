# SPDX-License-Identifier: Apache-2.0
"""The rig of the fault suite: one nats-server, replicas, bridges that the test plays, a reader of
the log that shares no code with the product, links that can be cut. Python standard library only.

The suite's promise, checked by settle(): after the fault nothing is lost. All replicas have one
digest, it is that of a control replica that reads the same messages on a server of its own and saw
no fault, and each counts as many blocks of every worker as the worker's bridge holds."""
import base64
import json
import os
import random
import shutil
import signal
import sys
import threading
import unittest

import jr_log
import jr_procs as jr
from jr_link import Link

sys.path.insert(0, os.path.join(jr.ROOT, "chaos"))
from lib import nats as witness_nats  # noqa: E402
from lib.validate import Witness  # noqa: E402

TTL = 2
SEED = int(os.environ.get("JR_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
NAMESPACE = "faults"
PREFIX = "namespace-%s-component-backend" % NAMESPACE
STREAM = PREFIX + "-kv-events"
STATE = PREFIX + "-state"
LEASES = PREFIX + "-leases"
OBJECTS = PREFIX + "-snapshots"
AWAY = (OSError, ValueError, RuntimeError, KeyError)  # of a server that is not there


# ---------------------------------------------------------------- what a bridge does

class Bridge:
    """The bridge of one rank of a worker: publishes, mirrors, renews the lease, begins anew with the
    mirror when it is asked, at another epoch, and on another stream. Further ranks of the worker stand
    in the lease of the first."""

    def __init__(self, nats_url, worker, url, rng, ttl=TTL, rank=0, first=None):
        self.nats_url, self.worker, self.rng, self.ttl = nats_url, worker, rng, ttl
        self.url, self.rank, self.first, self.ranks = url, rank, first or self, [self]
        self.runs = {}  # number -> (parent run or None, blocks, local hashes)
        self.runs_n = 0
        self.lock = threading.RLock()
        self.nats = jr_log.Nats(nats_url)
        self.created, self.epoch = self._created(), self._epoch()
        self.incarnation, self.next_id, self.begun, self.acked = 0, 1, 0, 0
        self.begin()
        if first:
            first.ranks.append(self)  # whose thread names this one in its lease from now on
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self):
        self.stop.set()
        self.thread.join()
        self.nats.close()

    @property
    def key(self):
        return "%d/%d" % (self.worker, self.rank)

    def forget(self):
        """As a rank that was started again: nothing is cached, a new incarnation."""
        with self.lock:
            self.runs = {}
            return self.begin()

    def blocks(self):
        return sum(len(blocks) for _, blocks, _ in self.runs.values())

    # ---- events

    def _publish(self, events, begin=False):
        """One batch, repeated unchanged until it is acknowledged. A sequence that goes back is another
        history."""
        first = self.next_id
        body = jr_log.batch(self.worker, self.incarnation, first, events, begin, self.rank)
        headers = {"Nats-Msg-Id": "%d-%d-%d-%d" % (self.worker, self.rank, self.incarnation, first)}

        def stored():
            try:
                return self.nats.publish(STREAM + ".batch", body, headers)
            except AWAY:
                self._reconnect()
                return 0
        seq = jr.wait_for(stored, "worker %d can publish" % self.worker, 60)
        went_back, self.acked = seq < self.acked, seq
        self.next_id += len(events)
        return self.begin() if went_back and not begin else seq

    def begin(self):
        """A new incarnation with all that the mirror holds; the sequence."""
        with self.lock:
            self.incarnation, self.next_id = self.rng.getrandbits(62) | 1, 1
            self.begun += 1
            events = [jr_log.stored(blocks, local, self.runs[parent][1][-1] if parent else None)
                      for parent, blocks, local in self.runs.values()]
            # Without an event it would take no id, and the next batch would have the same Nats-Msg-Id.
            seq = self._publish(events or [jr_log.uint(1, 3)], begin=True)
            self._lease()
            return seq

    def fill(self, n, size=12):
        """n batches, most of which store a run of up to size blocks; the last sequence."""
        seq = 0
        for _ in range(n):
            with self.lock:
                seq = self._publish([self._event(size)])
        return seq

    def _event(self, size):
        leaves = set(self.runs) - {parent for parent, _, _ in self.runs.values()}
        if len(self.runs) > 4 and self.rng.random() < 0.2:
            return jr_log.removed(self.runs.pop(self.rng.choice(sorted(leaves)))[1])
        blocks = [self.rng.getrandbits(64) for _ in range(self.rng.randint(1, size))]
        local = [self.rng.getrandbits(64) for _ in blocks]
        parent = self.rng.choice(sorted(self.runs)) if self.runs and self.rng.random() < 0.5 else None
        self.runs_n += 1
        self.runs[self.runs_n] = (parent, blocks, local)
        return jr_log.stored(blocks, local, self.runs[parent][1][-1] if parent else None)

    # ---- what it looks at

    def _created(self):
        return self.nats.api("STREAM.INFO." + STREAM)["created"]

    def _epoch(self):
        found = self._get("epoch")
        return found[1] if found else b""

    def _get(self, key):
        try:
            m = self.nats.api("STREAM.MSG.GET.KV_" + STATE,
                              {"last_by_subj": "$KV.%s.%s" % (STATE, key)})["message"]
        except RuntimeError:
            return None
        value = base64.b64decode(m.get("data", ""))
        return (m["seq"], value) if value else None

    def _lease(self):
        if self.first is not self:
            return
        lease = {"worker_id": str(self.worker), "url": self.url, "model": "tiny", "block_size": 4,
                 "ranks": [{"dp_rank": r.rank, "incarnation": str(r.incarnation),
                            "acked_id": r.next_id - 1, "acked_seq": r.acked} for r in self.ranks]}
        self.nats.publish("$KV.%s.worker.%d" % (LEASES, self.worker),
                          json.dumps(lease).encode())

    def _look(self):
        self._lease()
        created, epoch = self._created(), self._epoch()
        key = "reannounce.%d.%d" % (self.worker, self.rank)
        asked = self._get(key)
        if (created, epoch) != (self.created, self.epoch) or asked:
            if asked:
                self.nats.publish("$KV.%s.%s" % (STATE, key), b"", {"KV-Operation": "DEL"})
            self.begin()
            self.created, self.epoch = created, epoch

    def _run(self):
        while not self.stop.wait(self.ttl / 8):
            with self.lock:
                try:
                    self._look()
                except AWAY:
                    self._reconnect()

    def _reconnect(self):
        try:
            self.nats.close()
        except OSError:
            pass
        try:
            self.nats = jr_log.Nats(self.nats_url)
        except OSError:
            pass


# ---------------------------------------------------------------- the independent reader

class Scribe:
    """Writes down each message of the stream while it is there. parts: one dict {sequence: message}
    for each history of the stream; another begins when it is another stream, or one that went back."""

    def __init__(self, nats):
        self.nats = nats
        self.parts, self.created, self.next = [], None, 1
        self.stop = threading.Event()
        self.lock = threading.RLock()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self):
        self.stop.set()
        self.thread.join()

    def _same(self, client, info):
        if info["created"] != self.created or info["state"]["last_seq"] + 1 < self.next:
            return False
        before = self.parts[-1].get(self.next - 1)
        now = client.message(STREAM, self.next - 1) if before else None
        return not now or now == before

    def read(self, client):
        with self.lock:
            info = client.stream_info(STREAM)
            if not self._same(client, info):
                self.created, self.next = info["created"], max(1, info["state"]["first_seq"])
                self.parts.append({})
            while self.next <= info["state"]["last_seq"]:
                m = client.message(STREAM, self.next)
                if m is not None:
                    self.parts[-1][self.next] = m
                self.next += 1

    def now(self, client):
        """The sequence of the stream's last message, and messages() up to it: nothing comes in between."""
        with self.lock:
            self.read(client)
            return self.next - 1, self.messages()

    def _run(self):
        while not self.stop.is_set():
            try:
                with witness_nats.Nats(self.nats.port) as client:
                    while not self.stop.wait(0.05):
                        self.read(client)
            except (OSError, ValueError, KeyError, witness_nats.NatsError):
                self.stop.wait(0.1)

    def messages(self):
        """What the present state rests on: the last history, or what follows an Adopt in it and all of
        the history before, whose state was kept. What stands before an Adopt is applied by nobody."""
        out = []
        for part in self.parts:
            part = [part[seq] for seq in sorted(part)]
            adopts = [i for i, m in enumerate(part) if is_control(m, 14)]
            out = out + part[adopts[-1] + 1:] if adopts else part
        return out


def is_control(message, kind):
    (control,) = [m for _, m in decoded([message])] or [None]
    return isinstance(control, witness_nats.Control) and control.kind == kind


def decoded(messages):
    """What an independent reader can decode of it."""
    out = []
    for i, (subject, _, data) in enumerate(messages):
        try:
            if subject.endswith(".batch"):
                out.append((i, witness_nats.Batch(data)))
            elif subject.endswith(".control"):
                out.append((i, witness_nats.Control(data)))
        except (ValueError, IndexError, TypeError):
            pass  # a poison message is a no-op
    return out


# ---------------------------------------------------------------- the tests' base

class LogTest(unittest.TestCase):
    threshold = 1000000
    workers = 2
    options = {}

    def setUp(self):
        print("seed: JR_SEED=%d" % SEED)
        self.rng = random.Random(SEED)
        self.procs = jr.Procs()
        self.addCleanup(self._close)
        self.replicas, self.bridges, self.links = [], [], []
        self.scribe = None
        self.store = os.path.join(self.procs.folder, "nats")
        self.nats = self.start_server()

    def start_server(self):
        return self.procs.nats()

    def tearDown(self):
        """Who still runs ends in order: also where a sanitizer speaks up."""
        for f in self.replicas:
            if f.running() and not f.stopped():
                self.assertEqual(f.stop(), 0, f.tail(60))

    def _close(self):
        for b in self.bridges:
            b.close()
        if self.scribe:
            self.scribe.close()
        for link in self.links:
            link.close()
        for p in self.procs.all:
            p.send(signal.SIGCONT)
        if jr.has_failed(self):
            self.procs.say_ends()
        self.procs.close()

    # ---- pieces

    def link(self, port=None):
        link = Link(port or self.nats.port)
        self.links.append(link)
        return link

    def last_seq(self):
        """Of the stream; 0 while there is none."""
        try:
            return jr.stream_last_seq(self.nats, STREAM)
        except (jr.Failed, OSError):
            return 0

    def first_seq(self):
        return jr.stream_state(self.nats, STREAM)["first_seq"]

    def replica(self, name, failpoints="", url=None, **kw):
        """Starts one; does not wait."""
        last = self.last_seq()
        options = {"namespace": NAMESPACE, "router_mode": "kv", "lease_ttl_secs": TTL,
                   "drain_delay_secs": 0, "log_level": "debug",
                   "router_snapshot_threshold": self.threshold, **self.options, **kw}
        f = self.procs.frontend(name, nats=url or self.nats.url,
                                env={"JETROUTER_FAILPOINTS": failpoints}, **options)
        f.last_at_start, f.log_from = last, 0
        self.replicas.append(f)
        return f

    def restart(self, f, failpoints=""):
        """The same replica again; does not wait."""
        last, log_from = self.last_seq(), os.path.getsize(f.log)
        back = self.procs.restart(f, env={"JETROUTER_FAILPOINTS": failpoints})
        back.last_at_start, back.log_from = last, log_from
        self.replicas[self.replicas.index(f)] = back
        return back

    def kill(self, f):
        f.kill()

    def ready(self, f, timeout=40):
        """Waits for its first 200 of /ready, at which it had caught up; its pool."""
        self.procs.wait_ready(f, timeout)
        p = jr.pool(f.url)
        self.assertGreaterEqual(p["applied_seq_at_ready"], f.last_at_start, "ready before it had caught up")
        self.assertGreaterEqual(p["applied_seq_at_ready"], p["stream_last_seq_at_start"])
        return p

    def ready_from_snapshot(self, f, timeout=40):
        p = self.ready(f, timeout)
        self.assertTrue(self.said(f, "snapshot.restored"), "not from a snapshot")
        return p

    def fleet(self, *names, **kw):
        """Ready replicas, a scribe and bridges that have begun."""
        for name in names:
            self.ready(self.replica(name, **kw))
        self.begin_log()
        return self.replicas

    def begin_log(self):
        self.scribe = Scribe(self.nats)
        for i in range(1, self.workers + 1):
            self.bridge(i)

    def bridge(self, worker, **kw):
        # Nobody answers there: workers with a lease are live.
        b = Bridge(self.nats.url, worker, "http://127.0.0.1:9", self.rng, **kw)
        self.bridges.append(b)
        return b

    def client(self):
        client = jr_log.Nats(self.nats.url)
        self.addCleanup(client.close)
        return client

    def api(self, what, body=None, timeout=15):
        client = jr_log.Nats(self.nats.url, timeout=timeout)
        try:
            return client.api(what, body)
        finally:
            client.close()

    def fill(self, n, size=12):
        """n batches, spread over the workers; the last sequence."""
        return max(b.fill((n + i) // len(self.bridges), size) for i, b in enumerate(self.bridges))

    def fill_chunks(self):
        """So many blocks that a snapshot of them has several chunks (17 bytes each, 128 KiB a chunk)."""
        while sum(b.blocks() for b in self.bridges) < 40000:
            seq = self.fill(2, size=4000)
        return seq

    def written_down(self):
        """The scribe has all that the stream holds, the first leader's parameters too: before messages are made
        to go."""
        awake = [f for f in self.alive() if not f.stopped()]
        jr.wait_for(lambda: not awake or any(jr.pool(f.url)["agreed_block_size"] for f in awake), "the parameters")
        last = self.last_seq()
        jr.wait_for(lambda: self.scribe.next > last, "the scribe has written it down")

    def delete_stream(self, stream):
        """By hand, once it is written down."""
        self.written_down()
        jr.delete_stream(self.nats, stream, [f for f in self.alive() if not f.stopped()])

    def fill_slowly(self, n, each=10):
        """As fill, with the scribe never more than `each` behind: where old messages go by themselves."""
        for _ in range(n // each):
            seq = self.fill(each)
            self.written_down()
        return seq

    def replaying(self, link, name="late"):
        """A replica that is in the middle of its replay, over a link that was made slow, and stays there: what
        comes is held back until the link is healed. On a busy machine the server now and then answers the
        creation of a consumer behind all its messages: then they are applied at one go, and it starts again."""
        link.slow = 0.02
        late = self.replica(name, url=link.url)

        def inside():
            status, text = jr.try_get(late.url + "/state")
            p = json.loads(text)["pools"][0] if status == 200 else {}
            if p.get("recovery_state") == "ready":
                return p
            return p if p.get("recovery_state") == "replay" and p["applied_seq"] else None

        for _ in range(8):
            jr.wait_for(inside, "the middle of the replay", 60)
            link.freeze("down")
            p = jr.pool(late.url)
            if p["recovery_state"] == "replay":
                break
            link.heal()
            late.kill()
            late = self.restart(late)
        self.assertLess(p["applied_seq"], late.last_at_start)
        self.assertEqual(jr.get(late.url + "/ready")[0], 503)
        return late

    # ---- looking

    def alive(self):
        return [f for f in self.replicas if f.running()]

    def views(self):
        return [jr.pool(f.url) for f in self.alive()]

    def leader(self, among=None, timeout=30):
        def one():
            leading = [f for f in among or self.alive() if jr.pool(f.url)["leader"]]
            return leading[0] if len(leading) == 1 else None
        return jr.wait_for(one, "one leader", timeout)

    def leads(self, f):
        """Whether it says so; False also while it does not answer."""
        status, text = jr.try_get(f.url + "/state", timeout=2)
        return status == 200 and json.loads(text)["pools"][0]["leader"]

    def fill_until(self, ended, f, other, what):
        """Fills until f, which leads, is where its failpoint ends it. Should its lease lapse first, as on a
        busy machine, the other one stands still until f leads again."""
        def there():
            if self.leads(other) and not ended():
                other.send(signal.SIGSTOP)
                jr.wait_for(lambda: ended() or self.leads(f), "%s leads again" % f.name)
                other.send(signal.SIGCONT)
            return ended() or self.fill(2) < 0
        jr.wait_for(there, what, 60, 0.1)

    def said(self, f, words):
        """How many lines of its log, since it was started, have the words."""
        with open(f.log, errors="replace") as log:
            log.seek(f.log_from)
            return log.read().count(words)

    def await_said(self, f, words, timeout=30):
        jr.wait_for(lambda: self.said(f, words), "%s says %s\n%s" % (f.name, words, ""), timeout)

    def record(self):
        """The record of verified snapshots in the state bucket; {} when there is none, or a server that
        was killed took the question with it."""
        try:
            m = self.api("STREAM.MSG.GET.KV_" + STATE,
                         {"last_by_subj": "$KV.%s.snapshots" % STATE})["message"]
        except (RuntimeError, TimeoutError):
            return {}
        return json.loads(base64.b64decode(m.get("data", "")) or b"{}")

    def newest(self):
        return int((self.record().get("newest") or {}).get("seq", 0))

    def previous(self):
        return int((self.record().get("previous") or {}).get("seq", 0))

    def ask_snapshot(self, timeout=60):
        """Through ctl, until one is verified: a leader that loses its lease on a busy machine says 74."""
        jr.wait_for(lambda: self.procs.ctl(self.leader().url, "snapshot").returncode == 0,
                    "ctl snapshot ends with 0", timeout)

    def await_snapshot(self, past, timeout=40):
        """A verified snapshot at or past a sequence; its sequence."""
        return jr.wait_for(lambda: (lambda n: n if n >= past else 0)(self.newest()),
                           lambda: "a snapshot past %d" % past, timeout)

    def next_snapshot(self, timeout=40):
        """Fills past the threshold of 30 and waits for the snapshots that this makes due; the sequence of
        the last. With what came after it no further one is due."""
        before, seq = self.newest(), self.fill(40)
        self.written_down()
        return self.await_snapshot(max(before + 1, seq - 29), timeout)

    def nothing_forgotten(self):
        """What left the stream is in the previous verified snapshot, and every replica has it."""
        first = self.first_seq()
        if first > 1:
            self.assertLessEqual(first, self.previous())
            for p in self.views():
                self.assertLessEqual(first, p["applied_seq"] + 1)

    def mirrors(self):
        """Blocks of each (worker, rank), as who has them says."""
        return {b.key: b.blocks() for b in self.bridges if b.blocks()}

    # ---- the end of a test

    def at_rest(self, timeout=40):
        """All living replicas are ready, at the end of the stream and have one digest; their views."""
        seen = []

        def look():
            last = self.last_seq()
            seen[:] = views = self.views()
            good = last and all(v["ready"] and v["recovery_state"] == "ready" and
                                v["applied_seq"] == last and not v["index_is_old"] and not v["digest_mismatch"]
                                for v in views)
            mirror = self.mirrors()
            good = good and all(counts(v) == mirror for v in views)
            return views if good and last == self.last_seq() else None

        try:
            views = jr.wait_for(look, "rest", timeout)
        except jr.Failed as e:
            mirror = self.mirrors()
            self.fail("%s: the stream ends at %d, the mirrors hold %s\n%s" % (e, self.last_seq(), mirror, [
                (v["recovery_state"], v["ready"], v["not_ready_because"], v["applied_seq"],
                 v["index_is_old"], v["digest_mismatch"], counts(v)) for v in seen]))
        self.assertEqual(len({v["digest"] for v in views}), 1, "seed %d: %s" % (
            SEED, [(v["applied_seq"], v["digest"]) for v in views]))
        return views

    def settle(self, timeout=40):
        """Nothing is lost; see the head of this file. The views of the replicas."""
        def look():
            views = self.at_rest(timeout)
            with witness_nats.Nats(self.nats.port, timeout=15) as client:
                last, messages = self.scribe.now(client)
            return (views, messages) if all(v["applied_seq"] == last for v in views) else None
        views, messages = jr.wait_for(look, "a rest that lasts", timeout)
        witness = Witness(decoded(messages))
        if witness.known:  # what is compared is of one moment: more may come while we look
            self.assertEqual(witness.blocks(), counts(views[0]), "the independent reader of the log")
        self.assertEqual(views[0]["digest"], self.control_digest(messages), "seed %d" % SEED)
        return views

    def control_digest(self, messages):
        """Of a replica that reads the messages on a server of its own, with no fault in sight."""
        server = self.procs.nats("control-nats")
        f = self.procs.frontend("control", nats=server.url, namespace=NAMESPACE, router_mode="kv",
                                drain_delay_secs=0, stale_worker_secs=3600)
        self.procs.wait_ready(f)
        client = jr_log.Nats(server.url)
        seq = 0
        for subject, headers, data in messages:
            seq = client.publish(subject, data, jr_headers(headers))
        client.close()
        jr.wait_for(lambda: jr.pool(f.url)["applied_seq"] == seq, "the control replica at %d" % seq)
        digest = jr.pool(f.url)["digest"]
        f.stop()
        server.kill()
        shutil.rmtree(os.path.join(self.procs.folder, "control-nats"), ignore_errors=True)
        for p in (f, server):
            self.procs.all.remove(p)
        return digest

    def adopted(self):
        """The stream has another history, and the replicas kept their index: it stands in the log as an
        Adopt, nobody had to rebuild."""
        self.assertTrue(any(is_control(m, 14) for m in self.scribe.parts[-1].values()), "no Adopt in the log")
        self.assertEqual({p["epoch"] for p in self.views()}, {0}, "nobody had to rebuild")

    # ---- the server

    def stop_nats(self):
        self.nats.kill()

    def start_nats(self):
        self.nats = self.procs.restart(self.nats)
        jr.wait_for(lambda: jr.port_open(self.nats.port), "nats-server")

    def stream_folder(self, stream=STREAM):
        return os.path.join(self.store, "jetstream", "$G", "streams", stream)


def counts(view):
    return {"%s/%d" % (w["worker_id"], w["dp_rank"]): w["blocks"] for w in view["workers"] if w["blocks"]}


def jr_headers(raw):
    """The headers of a stored message that decide what it means."""
    lines = raw.decode().split("\r\n")[1:]
    pairs = (line.split(": ", 1) for line in lines if ": " in line)
    return {k: v for k, v in pairs if k.startswith("Jr-")}
