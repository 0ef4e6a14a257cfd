#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`vllm serve` of the documentation, on a machine without a GPU: the mock engine, with what the options say."""
import argparse
import json
import os
import sys


def port(endpoint):
    if not endpoint.startswith("tcp://*:"):
        sys.exit("vllm: an engine binds to tcp://*:PORT, not " + endpoint)
    return endpoint[len("tcp://*:"):]


def main():
    p = argparse.ArgumentParser(prog="vllm")
    p.add_argument("serve", choices=["serve"])
    p.add_argument("model")
    p.add_argument("--port", default="8000")
    p.add_argument("--kv-events-config", type=json.loads, default={})
    args = p.parse_args()
    events = args.kv_events_config
    unknown = set(events) - {"enable_kv_cache_events", "publisher", "endpoint", "replay_endpoint", "topic"}
    if unknown or events.get("publisher") != "zmq" or events.get("enable_kv_cache_events") is not True:
        sys.exit("vllm: these options publish no events: %s" % events)
    program = os.environ["JETROUTER"]
    os.execv(program, [program, "mocker", "--http-host", "127.0.0.1", "--http-port", args.port, "--model-name", args.model,
                       "--zmq-kv-events-ports", port(events["endpoint"]), "--zmq-replay-ports", port(events["replay_endpoint"])])


main()
