# SPDX-License-Identifier: Apache-2.0
"""An independent look into JetStream: NATS' text protocol and the JSON API, nothing of the product.

Also reads the event batches of the stream (proto/jetrouter/v1/event.proto), as far as the
validators need them. One thread at a time may use a connection.
"""
import base64
import json
import socket
import struct


class NatsError(Exception):
    pass


def pool_names(namespace, component):
    """(prefix of all names of a pool, its event stream)."""
    prefix = "namespace-%s-component-%s" % (namespace, component)
    return prefix, prefix + "-kv-events"


class Nats:
    """A connection that answers requests; it does not reconnect: make a new one."""

    def __init__(self, port, timeout=3.0):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.buf = b""
        self.count = 0
        self._line()  # INFO
        self._send(b'CONNECT {"verbose":false,"pedantic":false,"name":"chaos"}\r\n')
        self._send(b"SUB _INBOX.chaos.%d.* 1\r\n" % id(self))

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise NatsError(str(e)) from e

    def _fill(self):
        try:
            data = self.sock.recv(65536)
        except OSError as e:
            raise NatsError(str(e)) from e
        if not data:
            raise NatsError("the server closed the connection")
        self.buf += data

    def _line(self):
        while b"\r\n" not in self.buf:
            self._fill()
        line, self.buf = self.buf.split(b"\r\n", 1)
        return line

    def _take(self, n):
        while len(self.buf) < n + 2:
            self._fill()
        data, self.buf = self.buf[:n], self.buf[n + 2:]
        return data

    def request(self, subject, payload=b""):
        self.count += 1
        reply = "_INBOX.chaos.%d.%d" % (id(self), self.count)
        self._send(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply.encode(), len(payload), payload))
        while True:
            line = self._line()
            if line == b"PING":
                self._send(b"PONG\r\n")
            elif line.startswith(b"MSG "):
                parts = line.split()
                data = self._take(int(parts[-1]))
                if parts[1].decode() == reply:
                    return data
            elif line.startswith(b"-ERR"):
                raise NatsError(line.decode())

    def api(self, subject, body=None):
        # Debian's server ends when it is asked for a message of a stream that it is still making.
        if subject.startswith("STREAM.MSG.GET."):
            stream = subject.rpartition(".")[2]
            if self.stream_info(stream)["created"].startswith("0001-"):
                raise NatsError("%s: stream %s is still being made" % (subject, stream))
        payload = json.dumps(body).encode() if body is not None else b""
        answer = json.loads(self.request("$JS.API." + subject, payload))
        if "error" in answer:
            raise NatsError("%s: %s" % (subject, answer["error"].get("description")))
        return answer

    def stream_info(self, stream):
        return self.api("STREAM.INFO." + stream)

    def stream_names(self):
        return self.api("STREAM.NAMES").get("streams") or []

    def message(self, stream, seq):
        """(subject, headers, data) of one message, or None where there is none."""
        try:
            m = self.api("STREAM.MSG.GET." + stream, {"seq": seq})["message"]
        except NatsError as e:
            if "no message found" in str(e):
                return None
            raise
        return (m["subject"], base64.b64decode(m.get("hdrs", "")), base64.b64decode(m.get("data", "")))

    def last(self, stream, subject):
        """Newest message of a subject: (seq, data), or None."""
        try:
            m = self.api("STREAM.MSG.GET." + stream, {"last_by_subj": subject})["message"]
        except NatsError as e:
            if "no message found" in str(e):
                return None
            raise
        return m["seq"], base64.b64decode(m.get("data", ""))


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def fields(data):
    """(number, value) of each field of a protobuf message; bytes stay bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 1:
            value = struct.unpack_from("<Q", data, at)[0]
            at += 8
        elif kind == 2:
            n, at = _varint(data, at)
            if at + n > len(data):
                raise ValueError("cut short")
            value, at = data[at:at + n], at + n
        elif kind == 5:
            value = struct.unpack_from("<I", data, at)[0]
            at += 4
        else:
            raise ValueError("wire type %d" % kind)
        yield key >> 3, value


STORED, REMOVED, CLEARED = 1, 2, 3


class Batch:
    """KvEventBatch, decoded without the product's code."""

    def __init__(self, data):
        self.worker = self.rank = self.incarnation = self.first_id = 0
        self.begin = False
        self.events = []  # (type, has_parent, parent, block hashes)
        for number, value in fields(data):
            if number == 2:
                self.worker = value
            elif number == 3:
                self.rank = value
            elif number == 4:
                self.incarnation = value
            elif number == 5:
                self.first_id = value
            elif number == 6:
                self.begin = bool(value)
            elif number == 7:
                self.events.append(self._event(value))

    @staticmethod
    def _event(data):
        kind = parent = 0
        has_parent = False
        blocks = ()
        for number, value in fields(data):
            if number == 1:
                kind = value
            elif number == 2:
                has_parent = bool(value)
            elif number == 3:
                parent = value
            elif number == 4:
                blocks = struct.unpack("<%dQ" % (len(value) // 8), value)
        return kind, has_parent, parent, blocks

    def __str__(self):
        return "worker=%d rank=%d incarnation=%x first_id=%d events=%d%s" % (
            self.worker, self.rank, self.incarnation, self.first_id, len(self.events),
            " begin" if self.begin else "")


class Control:
    """Control (proto/jetrouter/v1/control.proto), as far as the witness needs it."""

    def __init__(self, data):
        self.kind = 0  # the number of the field: 10 worker gone, 11 reset, 14 adopt
        self.worker, self.ended = 0, {}  # ended: rank -> incarnation
        self.before = self.after = (0, 0)  # epochs of a reset: (random, n)
        for number, value in fields(data):
            if number >= 10:
                self.kind = number
                self._body(value)

    def _body(self, data):
        for number, value in fields(data):
            if self.kind == 10 and number == 1:
                self.worker = value
            elif self.kind == 10:
                rank = dict(fields(value))
                self.ended[rank.get(1, 0)] = rank.get(2, 0)
            elif self.kind == 11 and number in (1, 2):
                epoch = dict(fields(value))
                pair = (epoch.get(1, 0), epoch.get(2, 0))
                if number == 1:
                    self.before = pair
                else:
                    self.after = pair

    def __str__(self):
        return "control %d" % self.kind
