# SPDX-License-Identifier: Apache-2.0
"""A worker is killed and comes back with an empty cache: its requests go elsewhere, its blocks leave
the index and return. Others hold all prompts by then, and have the time to answer them: so requests
that name the worker are what fills it again."""
import json
import time

from lib.process import get_json, wait_for

PROMISES = "RoutedToLiveWorker TerminatesOnce IndexDigestConverges"


def fill(r, w):
    """Prompts that nobody had, one through each replica, to this worker."""
    for f in r.cluster.frontends:
        body = {"model": "mock-model", "prompt": [r.rng.randrange(30000) for _ in range(200)], "max_tokens": 1,
                "nvext": {"backend_instance_id": w.id}}
        wait_for(lambda f=f, body=body: get_json(f.port, "/v1/completions", "POST", json.dumps(body))[0] == 200,
                 "an answer of worker %d through %s" % (w.id, f.name), 60)


def run(r):
    c = r.start(replicas=2, workers=3)
    traffic = r.traffic()
    for i in range(r.rounds(1, 2, 20)):
        c.await_healthy()
        r.answers(traffic, 200)
        w = r.rng.choice(c.workers)
        wait_for(lambda: all(c.blocks_of(w).values()), "blocks of worker %d" % w.id, 60)
        blocks = c.blocks_of(w)
        w.kill()
        if i % 2 == 0:
            wait_for(lambda: not any(c.blocks_of(w).values()), lambda: "no blocks of the dead worker %d; %s" % (
                w.id, c.blocks_of(w)), 60)
        else:
            time.sleep(r.rng.uniform(0.2, 2))
        w.start()
        c.await_workers()
        fill(r, w)
        wait_for(lambda: all(c.blocks_of(w).values()), lambda: "new blocks of worker %d; %s" % (w.id, c.blocks_of(w)), 60)
        r.say("killed worker %d with blocks %s, back with %s" % (w.id, blocks, c.blocks_of(w)))
    r.settle(cold=[r.rng.choice(c.frontends)])
