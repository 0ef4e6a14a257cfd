# SPDX-License-Identifier: Apache-2.0
"""What is kept of one run, in a folder; the validators see nothing else, so they can run again later.

    run.json        scenario, seed, level, lease time, commit
    events.jsonl    the timeline: what was done to whom, what the scenario looked at (observe.py)
    history.jsonl   replicas and stream, four times a second
    log.jsonl       the event stream, message by message
    rests.jsonl     whole states of all replicas at rest
    requests.jsonl  each request of the checking clients
    w*.log          of the mock workers: which request ids arrived
    violations.txt  what the validators found
"""
import base64
import glob
import json
import os
import re
import types

from . import nats

ARRIVED = re.compile(r'mocker\.request id="?(?:cmpl|chatcmpl)-([^"\s]+)')


def _lines(path):
    """Of a process that was killed the last line may be cut."""
    if not os.path.exists(path):
        return
    with open(path, errors="replace") as f:
        for text in f:
            if text.endswith("\n"):
                yield json.loads(text)


class Log:
    """One part of the event stream: messages = [(sequence, Batch or Control)]; gone = sequences that
    were purged before they were read. whole: from its first message without a gap."""

    def __init__(self):
        self.messages, self.gone, self.whole = [], [], True

    def up_to(self, seq):
        return [m for m in self.messages if m[0] <= seq]


def read_log(lines):
    """The newest part. What nobody can decode is a no-op by rule."""
    log, part = Log(), None
    for line in lines:
        if line["part"] != part:
            log, part = Log(), line["part"]
            log.whole = line["seq"] == 1
        if "data" not in line:
            log.whole = False
            log.gone.append(line["seq"])
            continue
        data = base64.b64decode(line["data"])
        log.messages.append((line["seq"], nats.Batch(data) if line["subject"].endswith(".batch") else nats.Control(data)))
    return log


class Record:
    def __init__(self, folder):
        def path(name):
            return os.path.join(folder, name)
        self.folder = folder
        with open(path("run.json")) as f:
            self.run = json.load(f)
        self.events = list(_lines(path("events.jsonl")))
        self.history = list(_lines(path("history.jsonl")))
        self.rests = list(_lines(path("rests.jsonl")))
        self.requests = [types.SimpleNamespace(**line) for line in _lines(path("requests.jsonl"))]
        self.log = read_log(_lines(path("log.jsonl"))) if os.path.exists(path("log.jsonl")) else None
        self.arrivals = self._arrivals(path("w*.log"))

    @staticmethod
    def _arrivals(pattern):
        """Request id -> the workers that got it, one for each time."""
        found = {}
        for log in sorted(glob.glob(pattern)):
            name = os.path.basename(log)[:-4]
            with open(log, errors="replace") as f:
                for text in f:
                    m = ARRIVED.search(text)
                    if m:
                        found.setdefault(m.group(1), []).append(name)
        return found

    def of(self, what, who=""):
        return [e for e in self.events if e["what"] == what and e["who"].startswith(who)]
