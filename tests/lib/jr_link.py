# SPDX-License-Identifier: Apache-2.0
"""A link that can be cut, frozen, or made slow: what a network does to one process and nobody else.
Python standard library only."""
import socket
import threading


class Link:
    """A TCP proxy to a port of 127.0.0.1. "up" is the way to the server, "down" the way back.

    freeze() holds back what passes in a direction, as a network does that loses packets; delay is how
    many seconds each way holds up what passes (up to twice that: what comes meanwhile waits for its
    turn); slow is how many seconds each 2 KiB from the server take; cut() ends all connections and
    takes no new ones; heal() ends all of it but slow. when(needle, call) runs call in the pump before
    what holds the needle is passed up."""

    def __init__(self, port):
        self.target, self.slow = port, 0
        self.delay = {"up": 0, "down": 0}
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.url = "nats://127.0.0.1:%d" % self.port
        self.flow = threading.Condition()
        self.frozen, self.is_cut, self.closed = set(), False, False
        self.socks, self.watched = set(), None
        self.closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.closed = True
        self.closing.set()
        self.server.close()
        self.cut()

    def _accept(self):
        while not self.closed:
            try:
                near, _ = self.server.accept()
                if self.is_cut:
                    near.close()
                    continue
            except OSError:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            with self.flow:
                self.socks.update((near, far))
            for a, b, way in ((near, far, "up"), (far, near, "down")):
                threading.Thread(target=self._pump, args=(a, b, way), daemon=True).start()

    def _pump(self, a, b, way):
        before = b""  # the end of what passed: the needle may come in two pieces
        try:
            while True:
                data = a.recv(2048 if self.slow and way == "down" else 65536)
                if not data:
                    break
                wait = self.delay[way] + (self.slow if way == "down" else 0)
                if wait:
                    self.closing.wait(wait)
                watched = self.watched if way == "up" else None
                before = before[1 - len(watched[0]):] + data if watched else b""
                if watched and watched[0] in before:
                    before, self.watched = b"", None
                    watched[1]()
                with self.flow:
                    self.flow.wait_for(lambda: way not in self.frozen or self.is_cut)
                if self.is_cut:
                    break
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            s.close()
        with self.flow:
            self.socks.difference_update((a, b))

    def freeze(self, *ways):
        with self.flow:
            self.frozen.update(ways or ("up", "down"))

    def cut(self):
        with self.flow:
            self.is_cut = True
            for s in self.socks:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.flow.notify_all()

    def heal(self):
        with self.flow:
            self.is_cut = False
            self.frozen.clear()
            self.delay = {"up": 0, "down": 0}
            self.flow.notify_all()

    def when(self, needle, call):
        self.watched = (needle, call)
