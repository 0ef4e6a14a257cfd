# SPDX-License-Identifier: Apache-2.0
"""One replica is cut off from NATS until its peers have given it up, in four ways: connections end,
everything is lost both ways, only what it sends, only what it should get. It goes on routing; healed, it
catches up. The leader has its turn."""
import time

from lib.process import wait_for

PROMISES = "Resumable (routing outlives NATS) NothingForgotten IndexDigestConverges LoadReturnsToZero"
WAYS = {"cut": lambda link: link.cut(), "both ways lost": lambda link: link.freeze(),
        "up lost": lambda link: link.freeze("up"), "down lost": lambda link: link.freeze("down")}


def listed(c, f):
    """Peers that list f."""
    return [n for n, p in c.pools().items() if n != f.name and any(q["id"] == f.name and q["listed"] for q in p["peers"])]


def part(r, c, f, way):
    led, began, link = c.leader() is f, time.monotonic(), c.links[f.name]
    c.timeline.note("link", f.name, way=way)
    WAYS[way](link)
    own = r.traffic([f.port], clients=1)
    wait_for(lambda: not listed(c, f), lambda: "%s is listed by nobody; by %s" % (f.name, listed(c, f)))
    if led:
        c.await_leader(other_than=f)
    r.answers(own, 30)
    link.heal()
    c.timeline.note("link", f.name, way="healed")
    c.await_healthy(90)
    wait_for(lambda: len(listed(c, f)) == len(c.frontends) - 1, "%s is listed again" % f.name)
    r.outlives(began)
    c.timeline.note("cut_off", f.name, since=began, until=time.monotonic())
    own.stop()
    r.say("%s%s: %s for %.1f s" % (f.name, ", which led" if led else "", way, time.monotonic() - began))


def run(r):
    c = r.start(replicas=3, workers=3, links="replicas", threshold=60)
    traffic = r.traffic()
    r.answers(traffic, 100)
    ways = list(WAYS)
    r.rng.shuffle(ways)
    ways = ways[:2] if r.level == "smoke" else ways * r.rounds(0, 1, 5)
    for i, way in enumerate(ways):
        c.await_healthy()
        part(r, c, c.await_leader() if i == 0 else r.rng.choice(c.frontends), way)
    r.settle(cold=[r.rng.choice(c.frontends)])
