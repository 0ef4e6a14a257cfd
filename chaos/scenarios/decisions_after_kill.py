# SPDX-License-Identifier: Apache-2.0
"""kill -9 of one of three replicas; back at the same sequence as a survivor, it decides as that one does:
thousands of prompts, asked of both without sending them anywhere."""
import http.client
import json

PROMISES = "Resumable (at one sequence, temperature 0: at least 99.9 % of decisions are the same)"


class Asker:
    """Where would it go? One connection to one replica."""

    def __init__(self, port):
        self.conn = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, prompt):
        body = {"model": "mock-model", "prompt": prompt, "max_tokens": 1,
                "nvext": {"annotations": ["query_instance_id:"]}}
        self.conn.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = self.conn.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise AssertionError("a question was answered with %d: %s" % (reply.status, text[:200]))
        where = json.loads(text)["nvext"]["worker_id"]
        return where["decode_worker_id"], where["decode_dp_rank"]


def question(rng, prompts):
    """A prompt that was sent, cut anywhere, with a tail that nobody has."""
    known = rng.choice(prompts)
    return known[:rng.randrange(len(known) + 1)] + [rng.randrange(1, 30000) for _ in range(rng.randrange(1, 40))]


def workers(f):
    return [(w["worker_id"], w["state"], w["credited"], w["active_requests"]) for w in f.pool()["workers"]]


def run(r):
    # Leases that last: a worker that is late with one on a busy machine is without credit for a moment.
    c = r.start(replicas=3, workers=4, haproxy=True, ttl=15, threshold=60, worker_args=("--block-size", "16"))
    traffic = r.traffic(block=16, prefix_blocks=8, families=30)
    r.answers(traffic, 600)
    victim = r.rng.choice(c.frontends)
    survivor = next(f for f in c.frontends if f is not victim)
    victim.kill()
    r.answers(traffic, 200)
    victim.start()
    victim.await_ready()
    traffic.stop()
    # The first leader writes the pool's parameters into the log; with leases this long that may be after the traffic.
    c.await_pools(lambda p: p["agreed_block_size"], "the pool's parameters in the log")
    r.rest()
    asked, n, same = (Asker(survivor.port), Asker(victim.port)), r.rounds(2000, 10000, 100000), 0
    seqs = {f.pool()["applied_seq"] for f in (survivor, victim)}
    for _ in range(n):
        prompt = question(r.rng, traffic.prompts)
        there, here = (a.ask(prompt) for a in asked)
        same += there == here
        if there != here:
            c.timeline.note("other_decision", victim.name, here=here, there=there, prompt=prompt,
                            workers_here=workers(victim), workers_there=workers(survivor))
    seqs |= {f.pool()["applied_seq"] for f in (survivor, victim)}
    r.require(len(seqs) == 1, "the log went on while they were asked: %s" % seqs)
    c.timeline.note("decisions", victim.name, asked=n, same=same, survivor=survivor.name)
    r.say("%d of %d decisions of %s are those of %s" % (same, n, victim.name, survivor.name))
    r.require(same >= 0.999 * n, "Resumable: %d of %d decisions are the same" % (same, n))
    r.settle()
