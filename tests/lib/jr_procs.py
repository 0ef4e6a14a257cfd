# SPDX-License-Identifier: Apache-2.0
"""Processes of a JetRouter fleet, for the quickstart and the tests: nats-server, haproxy, mock
workers, frontends. Python standard library only.

    with Procs() as procs:
        nats = procs.nats()
        mocker = procs.mocker("workers", n=2, bridge=True, nats=nats.url, namespace="demo")
        a = procs.frontend("a", nats=nats.url, namespace="demo", router_mode="kv")
        wait_http(a.url + "/ready", lambda status, text: status == 200)

Each child dies with this process (PR_SET_PDEATHSIG) and logs to a file in procs.folder. Nothing here
sleeps for luck: every wait polls a condition and says what it waited for when it did not come."""
import atexit
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIXTURES = os.path.join(ROOT, "tests", "fixtures")
JETROUTER = os.environ.get("JETROUTER", os.path.join(ROOT, "build", "release", "jetrouter"))

EXPLAIN = {"X-Jetrouter-Explain": "1"}  # the answer says which worker it is of

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """Something did not come up or did not come true; the text is for the user."""


# ---------------------------------------------------------------- waiting and asking

def wait_for(cond, what, timeout=30, every=0.02):
    """What cond() returns, once it is true."""
    end = time.monotonic() + timeout
    while True:
        got = cond()
        if got:
            return got
        if time.monotonic() > end:
            raise Failed("not within %g s: %s" % (timeout, what() if callable(what) else what))
        time.sleep(every)


def tls_file(name):
    return os.path.join(FIXTURES, "tls", name)


def connection(parts, timeout):
    """To the host of a split URL; of https the certificate must be of the fixtures' authority."""
    if parts.scheme != "https":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    trust = ssl.create_default_context(cafile=tls_file("ca.pem"))
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=trust)


def call(method, url, body=None, headers=None, timeout=30):
    """(status, headers in lower case, bytes)."""
    parts = urllib.parse.urlsplit(url)
    conn = connection(parts, timeout)
    try:
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        kind = {} if data is None else {"Content-Type": "application/json"}
        path = parts.path + ("?" + parts.query if parts.query else "")
        conn.request(method, path or "/", data, {**kind, **(headers or {})})
        reply = conn.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        conn.close()


def get(url, **kw):
    status, _, text = call("GET", url, **kw)
    return status, text


def post(url, body=None, **kw):
    status, _, text = call("POST", url, {} if body is None else body, **kw)
    return status, text


def get_json(url, **kw):
    status, text = get(url, **kw)
    if status != 200:
        raise Failed("GET %s answered %d: %s" % (url, status, text[:200].decode(errors="replace")))
    return json.loads(text)


def try_get(url, **kw):
    """(status, bytes), or (0, why) while nobody answers."""
    try:
        return get(url, **kw)
    except (OSError, http.client.HTTPException) as e:
        return 0, str(e).encode()


def wait_http(url, cond=lambda status, text: status == 200, timeout=30, proc=None):
    """Polls url until cond(status, text); the text then. Fails at once when proc has ended."""
    last = [None]

    def ask():
        if proc is not None and not proc.running():
            raise Failed("%s has ended with %s\n%s" % (proc.name, proc.code(), proc.tail()))
        last[0] = try_get(url, timeout=5)
        return cond(*last[0])
    try:
        wait_for(ask, url, timeout)
    except Failed as e:
        tail = "" if proc is None or not proc.running() else "\n" + proc.tail()
        said = "" if last[0] is None else "; last answer %d: %s" % (
            last[0][0], last[0][1][:300].decode(errors="replace"))
        raise Failed(str(e) + said + tail) from None
    return last[0][1]


def pool(url):
    """The first pool of a replica's /state."""
    return get_json(url + "/state")["pools"][0]


def wait_booked_out(url, timeout=60):
    """Nothing is booked any more: of an answer that a client has, the end may still be on its way to the pool."""
    wait_for(lambda: pool(url)["bookings"] == 0, lambda: "no booking; there are %d" % pool(url)["bookings"], timeout)


def metric(url, name):
    """Sum over all labels."""
    status, text = try_get(url + "/metrics")
    found = re.findall(r"^%s(?:\{[^}]*\})? (\S+)" % re.escape(name), text.decode(), re.M)
    return sum(float(v) for v in found) if status == 200 else 0.0


def js_api(nats, what, body=b""):
    """An answer of JetStream's, asked from the server itself, without a client library."""
    with socket.create_connection(("127.0.0.1", nats.port), timeout=10) as s, s.makefile("rb") as f:
        f.readline()  # INFO
        s.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB answer 1\r\n'
                  b"PUB $JS.API.%s answer %d\r\n%s\r\n" % (what.encode(), len(body), body))
        while True:
            line = f.readline()
            if line.startswith(b"MSG "):
                said = json.loads(f.read(int(line.split()[-1])))
                if "error" in said:
                    raise Failed("%s: %s" % (what, said["error"].get("description")))
                return said
            if line.startswith(b"PING"):
                s.sendall(b"PONG\r\n")
            elif not line or line.startswith(b"-ERR"):
                raise Failed("nats-server said %r" % line)


def stream_state(nats, stream):
    """first_seq, last_seq, messages, bytes of a stream."""
    return js_api(nats, "STREAM.INFO." + stream)["state"]


def make_stream(nats, stream, subject):
    js_api(nats, "STREAM.CREATE." + stream,
           json.dumps({"name": stream, "subjects": [subject]}).encode())


def stream_last_seq(nats, stream):
    return stream_state(nats, stream)["last_seq"]


def delete_stream(nats, stream, replicas):
    """By hand, while the replicas stand still: the server forgets a stream before it removes its files, and
    who makes it anew in between, as they do at once, has one whose files are gone."""
    for f in replicas:
        f.send(signal.SIGSTOP)
    wait_for(lambda: all(f.stopped() for f in replicas), "they stand still")
    js_api(nats, "STREAM.DELETE." + stream)
    for f in replicas:
        f.send(signal.SIGCONT)


_given = {}
atexit.register(lambda: [claim.close() for claim in _given.values()])


def free_port(n=1):
    """The first of n consecutive TCP ports nobody listens on, below the range that outgoing
    connections use, so that none of them takes it meanwhile. Given to this process until it ends:
    another one that asks here gets others, also before anybody listens."""
    seed = int.from_bytes(os.urandom(4), "little")
    for attempt in range(2000):
        first = 11000 + (seed + attempt * 17) % 20000
        if all(take_port(p) for p in range(first, first + n)):
            return first
    raise Failed("no free port")


def take_port(port):
    """Is it free, and now this process's? The name of an abstract socket is one process's, and free again when that has ended."""
    if port in _given or not _is_free(port):
        return False
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind("\0jetrouter-test-port-%d" % port)
    except OSError:
        claim.close()
        return False
    _given[port] = claim
    return True


def _is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def port_open(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def sanitizer():
    """What the program was built with: "asan", "tsan" or nothing."""
    with open(JETROUTER, "rb") as program:
        text = program.read()
    return next((name for name in ("asan", "tsan") if b"__%s_init" % name.encode() in text), "")


def find_program(name, package):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Failed("%s is not installed: run ./dev setup (Debian package %s)" % (name, package))
    return path


# ---------------------------------------------------------------- processes

def die_with_parent():
    """preexec_fn of children that must not outlive this process, however it ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Proc:
    """One child. Further attributes (url, port, urls) are what its maker knows of it."""

    def __init__(self, name, argv, log, env=None):
        self.name, self.argv, self.log = name, [str(a) for a in argv], log
        # A session of its own keeps Ctrl-C of the terminal from it: it is stopped in order.
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=out, start_new_session=True,
                                          env={**os.environ, **(env or {})},
                                          preexec_fn=die_with_parent)

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def code(self):
        return self.popen.poll()

    def stopped(self):
        """By SIGSTOP."""
        with open("/proc/%d/stat" % self.pid) as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"

    def tail(self, lines=15):
        with open(self.log, errors="replace") as f:
            last = f.read().splitlines()[-lines:]
        return "--- end of %s\n%s" % (self.log, "\n".join(last))

    def send(self, number):
        if self.running():
            self.popen.send_signal(number)

    def stop(self, number=signal.SIGTERM, timeout=30):
        """Sends the signal and waits; the exit code. SIGKILL when it does not end."""
        self.send(number)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise Failed("%s did not end within %g s of signal %d\n%s"
                         % (self.name, timeout, number, self.tail())) from None

    def kill(self):
        self.send(signal.SIGKILL)
        return self.popen.wait()


def options(kw):
    """http_port=1, json=True, label=["a", "b"] as --http-port 1 --json --label a --label b."""
    argv = []
    for name, value in kw.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            argv.append(flag)
        elif value is False:
            argv.append("--no-" + flag[2:])
        elif isinstance(value, (list, tuple)):
            for v in value:
                argv += [flag, str(v)]
        elif value is not None:
            argv += [flag, str(value)]
    return argv


def has_failed(test):
    """Asked in its cleanup."""
    result = test._outcome.result
    return any(test in (t, getattr(t, "test_case", None)) for t, _ in result.failures + result.errors)


def procs_of(test):
    """Children of one test, ended behind it; if it failed, the ends of their logs are printed."""
    procs = Procs()

    def end():
        if has_failed(test):
            procs.say_ends()
        procs.close()
    test.addCleanup(end)
    return procs


class Procs:
    """Starts children in one temporary folder and ends them all."""

    def __init__(self, jetrouter=None):
        self.jetrouter = os.path.abspath(jetrouter or JETROUTER)
        self.folder = tempfile.mkdtemp(prefix="jetrouter-")
        self.all = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def start(self, name, argv, env=None):
        if not os.path.exists(argv[0]):
            raise Failed("%s is missing: build it with ./dev build" % argv[0])
        p = Proc(name, argv, os.path.join(self.folder, name + ".log"), env)
        self.all.append(p)
        return p

    def start_jetrouter(self, name, command, env=None, **kw):
        return self.start(name, [self.jetrouter, command] + options(kw), env)

    def stop(self, proc, **kw):
        code = proc.stop(**kw)
        self.all.remove(proc)
        return code

    def say_ends(self, lines=60):
        """Of all logs, for whoever looks at a failure."""
        for p in self.all:
            print(p.tail(lines))

    def close(self, keep_logs=False):
        """In reverse order: who uses something goes before it. Never raises."""
        for p in reversed(self.all):
            p.send(signal.SIGTERM)
        end = time.monotonic() + 3
        for p in reversed(self.all):
            try:
                p.popen.wait(max(0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                p.kill()
        self.all = []
        if not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)

    # ------------------------------------------------------------ the pieces

    def nats(self, name="nats", jetstream=True, config=None):
        """config: text of a configuration file, beside what is set here."""
        program = os.environ.get("JR_NATS_SERVER") or find_program("nats-server", "nats-server")
        port = free_port()
        argv = [program, "-a", "127.0.0.1", "-p", port]
        if jetstream:
            argv += ["-js", "-sd", os.path.join(self.folder, name)]
        if config is not None:
            path = os.path.join(self.folder, name + ".conf")
            with open(path, "w") as f:
                f.write(config)
            argv += ["-c", path]
        p = self.start(name, [str(a) for a in argv])
        p.port, p.url = port, "nats://127.0.0.1:%d" % port
        wait_for(lambda: port_open(port) or not p.running(), "nats-server at " + p.url)
        if not p.running():
            raise Failed("nats-server has ended\n" + p.tail())
        return p

    def nats_cluster(self, program, n=3):
        """n servers that know each other, named n0, n1 ...; does not wait until they place streams."""
        port, routes = free_port(n), free_port(n)
        servers = []
        for i in range(n):
            p = self.start("nats-%d" % i, [
                program, "-a", "127.0.0.1", "-p", str(port + i), "-n", "n%d" % i, "-js",
                "-sd", os.path.join(self.folder, "nats-%d" % i), "--cluster_name", "cluster",
                "--cluster", "nats://127.0.0.1:%d" % (routes + i),
                "--routes", ",".join("nats://127.0.0.1:%d" % (routes + k) for k in range(n))])
            p.port, p.url = port + i, "nats://127.0.0.1:%d" % (port + i)
            servers.append(p)
        return servers

    def mocker(self, name, n=1, bridge=False, nats=None, events=False, ranks=1, **kw):
        """n engines of one process; .urls are theirs. Waits until all are there."""
        port = free_port(n)
        if bridge or events:
            kw.update(zmq_kv_events_ports=free_port(n * ranks), zmq_replay_ports=free_port(n * ranks))
        if ranks > 1:
            kw.update(data_parallel_size=ranks)
        if bridge:
            kw.update(bridge=True, nats_server=nats)
        p = self.start_jetrouter(name, "mocker", http_host="127.0.0.1", http_port=port,
                                 num_workers=n, **kw)
        p.port, p.urls = port, ["http://127.0.0.1:%d" % (port + i) for i in range(n)]
        for url in p.urls:
            wait_http(url + "/health", proc=p)
        return p

    def frontend(self, name, nats=None, port=None, env=None, command="frontend", **kw):
        """One replica; its name is its replica id. Does not wait: see wait_ready."""
        port = port or free_port()
        p = self.start_jetrouter(name, command, env, http_host="127.0.0.1", http_port=port,
                                 nats_server=nats, replica_id=name, **kw)
        scheme = "https" if kw.get("tls_cert_path") else "http"
        p.port, p.url = port, "%s://127.0.0.1:%d" % (scheme, port)
        return p

    def router(self, name, nats, endpoint, **kw):
        """A replica of the standalone router."""
        return self.frontend(name, nats=nats, command="router", endpoint=endpoint, **kw)

    def restart(self, proc, env=None):
        """The same command again, without what was added to its environment; its log goes on."""
        if proc in self.all:
            self.all.remove(proc)
        p = Proc(proc.name, proc.argv, proc.log, env)
        for key, value in vars(proc).items():
            if key in ("port", "url", "urls"):
                setattr(p, key, value)
        self.all.append(p)
        return p

    def wait_ready(self, proc, timeout=30):
        """The body of the first /ready that is 200."""
        return json.loads(wait_http(proc.url + "/ready", timeout=timeout, proc=proc))

    def haproxy(self, ports, name="haproxy", port=None):
        """Round robin over the ports of 127.0.0.1 whose /ready is 200."""
        program = find_program("haproxy", "haproxy")
        port = port or free_port()
        path = os.path.join(self.folder, name + ".cfg")
        servers = "\n".join("    server s%d 127.0.0.1:%d check" % (i, p)
                            for i, p in enumerate(ports))
        with open(path, "w") as f:
            f.write(HAPROXY % (port, servers))
        p = self.start(name, [program, "-db", "-f", path])
        p.port, p.url = port, "http://127.0.0.1:%d" % port
        return p

    def ctl(self, url, action, *args, timeout=30):
        return subprocess.run([self.jetrouter, "ctl", "--url", url, action, *args],
                              capture_output=True, text=True, timeout=timeout)


# Streams may be silent between tokens and a prompt may wait: the timeouts are of minutes. A replica
# that is not ready gets nothing new, but what it relays goes on.
HAPROXY = """\
global
    maxconn 8192
    hard-stop-after 10s
defaults
    mode http
    timeout connect 5s
    timeout client 30m
    timeout server 30m
    timeout http-request 30s
    option http-server-close
    option http-no-delay
    option redispatch
    retries 2
frontend in
    bind 127.0.0.1:%d
    default_backend replicas
backend replicas
    balance roundrobin
    option httpchk GET /ready
    default-server inter 200ms fall 2 rise 1
%s
"""
