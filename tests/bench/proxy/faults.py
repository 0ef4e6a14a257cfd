#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Black-box fault behaviour of an OpenAI-compatible proxy over four mock workers.

  faults.py --mock ./mockworker --ports 9301-9304 --url http://127.0.0.1:9400 [--label X] [--start 'CMD ...']

Starts one mock process a port (so that single workers can be killed), then,
with --start, the proxy itself, and prints one JSON object: what a client and
the workers saw for disconnects, killed workers, dead workers and 503s.
"""
import argparse
import http.client
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import time
import urllib.parse
import urllib.request

ap = argparse.ArgumentParser()
ap.add_argument("--mock", default="./mockworker")
ap.add_argument("--ports", default="9301-9304")
ap.add_argument("--url", required=True)
ap.add_argument("--label", default="")
ap.add_argument("--start", default="")
ap.add_argument("--n", type=int, default=200, help="requests per dead-worker test")
ap.add_argument("--back", type=float, default=60, help="longest wait for a restarted worker, seconds")
A = ap.parse_args()
lo, hi = (int(x) for x in A.ports.split("-"))
PORTS = list(range(lo, hi + 1))
U = urllib.parse.urlparse(A.url)
procs = {}
seq = 0


def spawn(p):
    procs[p] = subprocess.Popen([A.mock, "-p", str(p)], start_new_session=True)
    for _ in range(100):
        try:
            ctl(p, "stats")
            return
        except OSError:
            time.sleep(0.02)


def ctl(p, what):
    return json.loads(urllib.request.urlopen("http://127.0.0.1:%d/_mock/%s" % (p, what), timeout=2).read() or "{}")


def setall(q):
    for p in PORTS:
        if procs[p].poll() is None:
            ctl(p, "set?" + q)


def stats():
    return {p: ctl(p, "stats") for p in PORTS if procs[p].poll() is None}


def reset():
    for p in PORTS:
        if procs[p].poll() is None:
            ctl(p, "reset")


def body(stream, mt, tag=None):
    global seq
    seq += 1
    word = "p%07d " % (seq * 7919 % 9999991)
    return json.dumps(dict(model="mock", prompt=word * 40, max_tokens=mt, stream=stream, temperature=0.0)).encode()


def raw(b, path="/v1/completions"):
    s = socket.create_connection((U.hostname, U.port), timeout=10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (path, len(b))).encode() + b)
    return s


def one(b, timeout=15):
    """(status or error text, seconds, body)"""
    t = time.monotonic()
    c = http.client.HTTPConnection(U.hostname, U.port, timeout=timeout)
    try:
        c.request("POST", "/v1/completions", b, {"Content-Type": "application/json"})
        r = c.getresponse()
        d = r.read()
        return r.status, time.monotonic() - t, d
    except Exception as e:
        return type(e).__name__, time.monotonic() - t, b""
    finally:
        c.close()


def busy_worker(t=2.0):
    end = time.monotonic() + t
    while time.monotonic() < end:
        for p, s in stats().items():
            if s["active"]:
                return p
        time.sleep(0.005)
    return None


def kill(p):
    procs[p].kill()
    procs[p].wait()


def disconnect(stream):
    lag, extra, n = [], [], 0
    setall("itl_us=20000&ttft_us=0" if stream else "itl_us=0&ttft_us=2000000")
    for _ in range(5):
        reset()
        s = raw(body(stream, 150 if stream else 4))
        got = 0
        if stream:
            buf = b""
            while got < 10:
                d = s.recv(65536)
                if not d:
                    break
                buf += d
                got = buf.count(b"data: {")
        else:
            busy_worker()
            time.sleep(0.1)
        t = time.monotonic_ns()
        s.close()
        end = time.monotonic() + 4
        hit = None
        while time.monotonic() < end and not hit:
            snap = list(stats().values())
            for st in snap:
                if st["aborted"]:
                    hit = st
            if not hit and not any(st["active"] for st in snap) and sum(st["completed"] for st in snap):
                break
            time.sleep(0.01)
        if hit:
            n += 1
            lag.append((hit["last_abort_ns"] - t) / 1e6)
            extra.append(hit["last_abort_sent"] - got)
        time.sleep(0.1)
    setall("itl_us=0&ttft_us=0")
    return dict(cancelled="%d/5" % n, lag_ms_median=round(statistics.median(lag), 2) if lag else None,
                lag_ms_max=round(max(lag), 2) if lag else None, extra_events=max(extra) if stream and extra else None)


def killed_mid(stream):
    res = []
    for _ in range(3):
        setall("itl_us=20000&ttft_us=0" if stream else "itl_us=0&ttft_us=1000000")
        reset()
        import threading
        out = {}

        def go():
            t = time.monotonic()
            if not stream:
                st, sec, d = one(body(False, 4))
                out.update(status=st, sec=round(sec, 2), body=d[:120].decode("utf8", "replace") if st != 200 else "")
                return
            s = raw(body(True, 50))
            buf = b""
            end = "eof"
            try:
                while b"\r\n0\r\n" not in buf[-64:]:
                    d = s.recv(65536)
                    if not d:
                        break
                    buf += d
                else:
                    end = "clean end of chunks"
            except OSError as e:
                end = type(e).__name__
            ev = [x for x in buf.split(b"\n") if x.startswith(b"data: ")]
            err = [x for x in ev if b"error" in x]
            out.update(end=end, events=len(ev), done=b"[DONE]" in buf, sec=round(time.monotonic() - t, 2),
                       error_event=err[0][:200].decode("utf8", "replace") if err else None)
        th = threading.Thread(target=go)
        th.start()
        p = busy_worker()
        time.sleep(0.2)
        if p:
            kill(p)
        th.join()
        out["attempts_elsewhere"] = sum(s["generations"] for s in stats().values())
        res.append(dict(out))
        if p:
            spawn(p)
        setall("itl_us=0&ttft_us=0")
        time.sleep(1.5)
    return res


def sweep(n, gap=0.01):
    errs, first, last, kinds, worst = 0, None, None, {}, 0
    t0 = time.monotonic()
    for i in range(n):
        st, sec, _ = one(body(False, 2))
        worst = max(worst, sec)
        if st != 200:
            errs += 1
            kinds[str(st)] = kinds.get(str(st), 0) + 1
            first = i if first is None else first
            last = i
        time.sleep(gap)
    return dict(requests=n, errors=errs, kinds=kinds, first=first, last=last, worst_ms=round(worst * 1e3, 1), sec=round(time.monotonic() - t0, 1))


def end_proxy(px):
    px.terminate()
    try:
        px.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(px.pid, signal.SIGKILL)
        px.wait()


def proxy(px):
    """(Re)start the proxy, so that each test meets it with every worker in rotation."""
    if not A.start:
        return None
    if px:
        end_proxy(px)
    px = subprocess.Popen(shlex.split(A.start), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    for _ in range(200):
        st, _, _ = one(body(False, 2), 2)
        if st == 200:
            break
        time.sleep(0.1)
    time.sleep(2)
    return px


def main():
    for p in PORTS:
        spawn(p)
    px = proxy(None)
    try:
        r = dict(label=A.label)
        reset()
        r["baseline"] = sweep(60, 0)
        r["spread"] = [s["generations"] for s in stats().values()]
        r["disconnect_stream"] = disconnect(True)
        r["disconnect_wait"] = disconnect(False)
        r["killed_mid_request"] = killed_mid(False)
        px = proxy(px)
        r["killed_mid_stream"] = killed_mid(True)
        v = PORTS[1]
        for key, q in (("worker_closes", "close=1"), ("worker_503", "status=503"), ("worker_500", "status=500")):
            px = proxy(px)
            reset()
            ctl(v, "set?" + q)
            r[key] = sweep(A.n)
            r[key]["seen_by_it"] = ctl(v, "stats")["faults"]
            ctl(v, "set?close=0&status=0")
        px = proxy(px)
        kill(v)
        r["dead_worker"] = sweep(A.n)
        spawn(v)
        t = time.monotonic()
        back = None
        while time.monotonic() - t < A.back:
            one(body(False, 2))
            if ctl(v, "stats")["generations"]:
                back = round(time.monotonic() - t, 2)
                break
            time.sleep(0.02)
        r["back_after_s"] = back
        print(json.dumps(r), flush=True)
    finally:
        if px:
            end_proxy(px)
        for p in procs.values():
            p.kill()


main()
