# SPDX-License-Identifier: Apache-2.0
"""The promises, as functions from what was recorded to a list of violations.

Each validator has the name of the promise it checks (chaos/README.md lists them). check() applies all
of them to what a run left (record.py); it needs nothing that runs.
"""
import collections

from . import nats

OK = "ok"  # outcome of a request that ended with one whole, right answer

SHOWN = 5  # of each kind of violation


def _some(what, bad):
    """At most SHOWN violations in words, and how many there are."""
    if not bad:
        return []
    more = [] if len(bad) <= SHOWN else ["… and %d more" % (len(bad) - SHOWN)]
    return ["%s: %s" % (what, b) for b in bad[:SHOWN]] + more


# ---------------------------------------------------------------- the observer's history

def _lives(history):
    """Samples of each process in order: {"name, start n": [(t, sample)]}."""
    lives = collections.OrderedDict()
    for line in history:
        for name, s in line["replicas"].items():
            if s and s["pool"]:
                lives.setdefault("%s, start %d" % (name, s["start"]), []).append((line["t"], s))
    return lives


def _same_state(before, now):
    """Whether a replica stayed on what it had: no snapshot took its place between two samples, no
    other stream. One that was away past the purge floor loads one, and is ready all the same."""
    return before["recovery_state"] == now["recovery_state"] == "ready" and \
        before["stream_created"] == now["stream_created"] and \
        before["counters"].get("recoveries") == now["counters"].get("recoveries")


def Ordered(history):
    """A replica's position on one stream only grows, unless it starts again or loads a snapshot."""
    bad = []
    for name, samples in _lives(history).items():
        before = None
        for t, s in samples:
            p = s["pool"]
            if before and _same_state(before, p) and p["applied_seq"] < before["applied_seq"]:
                bad.append("%s went from %d back to %d at %.1f" % (name, before["applied_seq"], p["applied_seq"], t))
            before = p
    return _some("Ordered", bad)


def Unique(history):
    """Between two samples of a ready replica, it applied as many messages as its position moved."""
    bad = []
    for name, samples in _lives(history).items():
        before = None
        for t, s in samples:
            p = s["pool"]
            if before and _same_state(before, p):
                applied = p["counters"]["log_messages"] - before["counters"]["log_messages"]
                moved = p["applied_seq"] - before["applied_seq"]
                if applied != moved:
                    bad.append("%s applied %d messages but moved by %d, to %d at %.1f" % (
                        name, applied, moved, p["applied_seq"], t))
            before = p
    return _some("Unique", bad)


def NothingForgotten(history, cut=()):
    """The stream's first message is never past the previous verified snapshot, nor past what a live,
    ready replica has applied (both as known at or after the look at the stream). cut: (who, since,
    until), while a replica was cut off and may be given up; "" is everybody."""
    bad = []

    def live(name, at):
        return not any(who in (name, "") and since <= at <= until for who, since, until in cut)
    for line in history:
        s = line["stream"]
        if "error" in s or s["first"] <= 1:
            continue
        previous = ((s["snapshots"] or {}).get("previous") or {}).get("seq", 0)
        if s["first"] > int(previous) and s["last"] >= s["first"]:
            bad.append("first message %d, but the previous snapshot covers %s" % (s["first"], previous))
        for name, r in line["replicas"].items():
            p = r and r["pool"]
            if p and r["ready"] and r["nats"]["connected"] and p["recovery_state"] == "ready" and \
                    live(name, line["t"]) and s["first"] > p["applied_seq"] + 1:
                bad.append("first message %d, but %s is at %d" % (s["first"], name, p["applied_seq"]))
    return _some("NothingForgotten", bad)


def SnapshotsOnlyGrow(history):
    """On one stream the newest verified snapshot only gets newer, and its object's revision with it."""
    bad, newest = [], {}
    for line in history:
        n = (line["stream"].get("snapshots") or {}).get("newest")
        if not n:
            continue
        key, now = str(n.get("stream_created_ns")), (int(n["seq"]), int(n.get("revision", 0)))
        before = newest.get(key, (0, 0))
        if now[0] < before[0] or now[1] < before[1]:
            bad.append("(sequence, revision) %s follows %s" % (now, before))
        newest[key] = now
    return _some("NothingForgotten: the record went back", bad)


def StayedReady(history, since, until):
    """No replica that was looked at between two times said that it is not ready."""
    bad = ["%s at %.1f: %s" % (name, line["t"], s["because"]) for line in history if since <= line["t"] <= until
           for name, s in line["replicas"].items() if s and not s["ready"]]
    return _some("Resumable: a replica was not ready", bad)


def ReadyOnlyWhenCaughtUp(readies):
    """At the first 200 of /ready a replica was past what the stream held before it was started."""
    bad = ["%s, start %d, was ready at %d (said: %d of %d) but the stream held %d before its start" % (
        e["who"], e["start"], e["applied_seq"], e["applied_seq_at_ready"], e["stream_last_seq_at_start"], e["last_at_spawn"])
        for e in readies if e["recovery_state"] != "degraded" and (
            e["applied_seq"] < e["last_at_spawn"] or e["applied_seq_at_ready"] < e["stream_last_seq_at_start"])]
    return _some("ReadyOnlyWhenCaughtUp", bad)


# ---------------------------------------------------------------- the stream, as a follower read it

def NoGap(log, gone=()):
    """Event ids of a rank's current incarnation follow each other without a hole.

    A batch of an incarnation that never began on this stream is ignored by rule: a bridge repeats what
    was not acknowledged, also on a stream that was made anew. gone: sequences that a purge took before
    they were read; what they held nobody knows, so each rank is taken up anew behind them."""
    bad, newest = [], {}  # (worker, rank) -> (incarnation, newest id, sequence)
    for seq, b in log:
        if isinstance(b, nats.Control):
            continue
        key = (b.worker, b.rank)
        incarnation, last, at = newest.get(key, (None, 0, 0))
        end = b.first_id + len(b.events) - 1
        if (b.begin and incarnation != b.incarnation) or any(at < g < seq for g in gone):
            newest[key] = (b.incarnation, end, seq)
        elif incarnation == b.incarnation:
            if b.first_id > last + 1:
                bad.append("message %d (%s) follows id %d" % (seq, b, last))
            newest[key] = (incarnation, max(last, end), seq)
    return _some("NoGap", bad)


class Witness:
    """What the workers hold, built from the log by other code than the product's (docs/protocol.md §2).

    For a log that is whole from its first message. known: false once a message rests on a state that
    is not in the log (Adopt)."""

    def __init__(self, log):
        self.rows = {}  # (worker, rank) -> [incarnation, newest id, waiting, set of block hashes]
        self.epoch, self.known = (0, 0), True
        for _, m in log:
            if isinstance(m, nats.Control):
                self._control(m)
            else:
                self._batch(m)

    def _control(self, c):
        if c.kind == 10:
            for rank, incarnation in c.ended.items():
                if self.rows.get((c.worker, rank), [None])[0] == incarnation:
                    del self.rows[c.worker, rank]
        elif c.kind == 11 and c.before == self.epoch:
            self.rows, self.epoch = {}, c.after
        elif c.kind == 14:
            self.known = False

    def _batch(self, b):
        key = (b.worker, b.rank)
        row = self.rows.get(key)
        if b.begin and (row is None or row[0] != b.incarnation or row[2]):
            row = self.rows[key] = [b.incarnation, b.first_id - 1, False, set()]
        if row is None or row[0] != b.incarnation or row[2]:
            return
        if b.first_id > row[1] + 1:
            row[2], row[3] = True, set()
            return
        for i, event in enumerate(b.events):
            if b.first_id + i > row[1]:
                row[1] = b.first_id + i
                self._event(row[3], *event)

    @staticmethod
    def _event(held, kind, has_parent, parent, blocks):
        if kind == nats.STORED and (not has_parent or parent in held):
            held.update(blocks)
        elif kind == nats.REMOVED:
            held.difference_update(blocks)
        elif kind == nats.CLEARED:
            held.clear()

    def blocks(self):
        return {"%d/%d" % k: len(v[3]) for k, v in sorted(self.rows.items()) if v[3]}


def AgreesWithWitness(log, pools):
    """Each replica counts as many blocks of every worker as an independent reader of the log."""
    witness, bad = Witness(log), []
    if not witness.known:
        return []
    want = witness.blocks()
    for name, p in pools.items():
        have = {"%s/%d" % (w["worker_id"], w["dp_rank"]): w["blocks"] for w in p["workers"] if w["blocks"]}
        if have != want:
            bad.append("%s has blocks %s, the log says %s" % (name, have, want))
    return _some("IndexDigestConverges", bad)


# ---------------------------------------------------------------- replicas at rest

def IndexDigestConverges(pools):
    """Replicas at rest are at the same sequence of the same stream, have one digest, and none says mismatch."""
    bad, by_seq = [], {}
    for name, p in pools.items():
        if p is None:
            bad.append("%s does not answer" % name)
            continue
        if p["digest_mismatch"]:
            bad.append("%s says that its digest differs from its peers'" % name)
        by_seq.setdefault((p["stream_created"], p["applied_seq"]), {})[name] = p["digest"]
    for (_, seq), digests in by_seq.items():
        if len(set(digests.values())) > 1:
            bad.append("different digests at %d: %s" % (seq, digests))
    if len(by_seq) > 1:
        bad.append("no common position: %s" % {n: p and p["applied_seq"] for n, p in pools.items()})
    return _some("IndexDigestConverges", bad)


def seen_digests(history):
    """{(stream, sequence): {life of a replica: digest}}, of replicas that were ready with a present index."""
    seen = {}
    for name, samples in _lives(history).items():
        for _, s in samples:
            p = s["pool"]
            if p["recovery_state"] == "ready" and not p["index_is_old"] and p["applied_seq"]:
                seen.setdefault((p["stream_created"], p["applied_seq"]), {}).setdefault(name, p["digest"])
    return seen


def OneDigestPerSequence(history):
    """Under way too: who was at a sequence had the digest of everybody else who was ever there."""
    bad = ["different digests at %d: %s" % (seq, lives) for (_, seq), lives in seen_digests(history).items()
           if len(set(lives.values())) > 1]
    return _some("IndexDigestConverges", bad)


def LoadReturnsToZero(states):
    """Without requests nothing is in flight anywhere, for oneself or for a peer."""
    bad = []
    for name, s in states.items():
        if not s:
            bad.append("%s does not answer" % name)
            continue
        p = s["pools"][0]
        if s["replica"]["inflight"] or p["bookings"]:
            bad.append("%s: inflight %d, bookings %d" % (name, s["replica"]["inflight"], p["bookings"]))
        for w in p["workers"]:
            if w["active_blocks"] or w["active_requests"] or w["active_prefill_tokens"]:
                bad.append("%s: worker %s has %d blocks, %d requests, %d prefill tokens" % (
                    name, w["worker_id"], w["active_blocks"], w["active_requests"], w["active_prefill_tokens"]))
        bad += ["%s: peer %s has %d requests" % (name, q["id"], q["active_requests"])
                for q in p["peers"] if q["listed"] and q["active_requests"]]
    return _some("LoadReturnsToZero", bad)


def Resumable(before, after, started):
    """Who was started again comes back, from snapshot and log, to the digest that it had."""
    bad = []
    for name in started:
        was, p = before[name]["pools"][0], after[name]["pools"][0]
        if p["applied_seq"] == was["applied_seq"] and p["digest"] != was["digest"]:
            bad.append("%s came back with digest %s instead of %s at %d" % (name, p["digest"], was["digest"], p["applied_seq"]))
        if p["stream_first_seq"] > 1 and p["applied_seq"] == p["counters"]["log_messages"]:
            bad.append("%s used no snapshot, though messages were purged" % name)
    return _some("Resumable", bad)


def NeverOverMatches(probes):
    """At rest, routed one by one: of no prompt more is predicted to be cached than the worker has."""
    return _some("NeverOverMatches", [
        "%s predicted %d cached tokens, the worker had %d (%s)" % (e["who"], e["predicted"], e["cached"], e["outcome"])
        for e in probes if e["outcome"] != OK or e["predicted"] > e["cached"]])


# ---------------------------------------------------------------- the clients

def words(r):
    return "%s for prompt %s, from %.2f to %.2f through %s: %s" % (
        r.id, r.prompt, r.at, r.end, r.replica or "-", r.outcome)


def TerminatesOnce(requests, excused=lambda r: False):
    """Every request ended with one whole right answer, but for those that are excused."""
    return _some("TerminatesOnce", ["request " + words(r) for r in requests if r.outcome != OK and not excused(r)])


def sent_twice(arrivals, requests, kills):
    """Ids that reached engines more than once. One that an engine got which died before its answer
    began is not counted: that one the router may give to another."""
    ends, twice = {r.id: r.end for r in requests}, []
    for ident, workers in arrivals.items():
        if len(workers) > 1:
            died = sum(1 for w in workers if any(
                who == w and (ident not in ends or since <= ends[ident]) for since, _, who in kills))
            if len(workers) - died > 1:
                twice.append((ident, workers))
    return twice


def SentOnce(arrivals, requests, kills):
    return _some("TerminatesOnce", ["request %s was sent to %s" % (i, " and ".join(w))
                                    for i, w in sent_twice(arrivals, requests, kills)])


def RoutedToLiveWorker(requests, kills, slack):
    """While a worker is dead (from, to), its death costs no request that was sent later than slack
    seconds after it, and none that nothing had been answered to."""
    excused = cut_at(kills, slack)
    return _some("RoutedToLiveWorker", ["request " + words(r) for r in requests if r.outcome != OK and not excused(r)])


def cut_at(kills, slack=0.3):
    """Excuses requests whose answer was cut when a worker was killed: kills is [(since, until, name)]."""
    def excused(r):
        cut = "cut before" in r.outcome or "IncompleteRead" in r.outcome or "error event" in r.outcome
        return cut and any(since - 1 <= r.end and r.at <= until + slack for since, until, _ in kills)
    return excused


def in_flight_at(kills, slack=0.3):
    """Excuses requests that were under way on a replica when it was killed: kills is [(since, until, name)]."""
    def excused(r):
        return any(r.at <= until + slack and r.end >= since - slack and r.replica in (name, "") for since, until, name in kills)
    return excused


# ---------------------------------------------------------------- all of it

def kills_of(record, who):
    """[(since, until, name)]: each ended in between."""
    return [(e["since"], e["t"], e["who"]) for e in record.of("kill", who)]


def excuses(record):
    """Who may have failed, by what was done: requests under way on a replica that was killed, and all
    that were under way while a scenario says that there was no service at all."""
    under_way = in_flight_at(kills_of(record, "f"))
    down = [(e["since"], e["until"]) for e in record.of("down")]
    return lambda r: under_way(r) or any(r.at <= until and r.end >= since for since, until in down)


def _clients(record):
    excused, worker_kills = excuses(record), kills_of(record, "w")
    left = [r for r in record.requests if not excused(r)]
    out = RoutedToLiveWorker(left, worker_kills, 0.3) if worker_kills else TerminatesOnce(left)
    return out + SentOnce(record.arrivals, record.requests, worker_kills)


def _rests(record):
    out = []
    for rest in record.rests:
        pools = {name: s and s["pools"][0] for name, s in rest["states"].items()}
        out += IndexDigestConverges(pools) + LoadReturnsToZero(rest["states"])
        if record.log and record.log.whole and rest["part"] == record.rests[-1]["part"]:
            out += AgreesWithWitness(record.log.up_to(rest["last_seq"]), pools)
    for before, after in zip(record.rests, record.rests[1:]):
        out += Resumable(before["states"], after["states"], after["started"])
    return out


def check(record):
    """All validators on what a run left."""
    out = Ordered(record.history) + Unique(record.history) + OneDigestPerSequence(record.history)
    cut = [(e["who"], e["since"], e["until"]) for e in record.of("cut_off")]
    out += NothingForgotten(record.history, cut) + SnapshotsOnlyGrow(record.history)
    for e in record.of("outlives"):
        out += StayedReady(record.history, e["since"], e["until"])
    if record.log:
        out += NoGap(record.log.messages, record.log.gone)
    out += ReadyOnlyWhenCaughtUp(record.of("ready")) + NeverOverMatches(record.of("probe"))
    out += _rests(record) + _clients(record)
    return out + [e["words"] for e in record.of("violation")]
