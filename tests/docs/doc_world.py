# SPDX-License-Identifier: Apache-2.0
"""The world that the commands of the documentation meet: real processes on free ports, in a folder of its own.

A fleet serves all pages: NATS, four mock workers with bridges, a frontend, a pool that prefills. A server that a page
starts takes over its documented port from then on, on that page. TABLE, SERVERS and AROUND below are all there is of
difference between what a page says and what is run."""
import os
import re
import shutil
import subprocess
import sys

import jr_procs as jr

HERE = os.path.dirname(os.path.abspath(__file__))
WAIT = 60  # s: for broken code, on a busy machine

# What a page says, and what that is here: {work} is the folder, {program} the program.
TABLE = [
    (r"build/(?:release|dev)/jetrouter\b", "{program}"),
    (r"/var/lib/nats\b", "{work}/nats-store"),
    (r"/etc/jetrouter\b", "{work}/etc"),
    (r"/tmp/jetrouter-image\b", "{work}/image"),
    (r"/usr(?:/local)?(?=[ /]|$)", "{work}/prefix"),
    (r"--install build/release", "--install {build}"),
    (r"\bMODEL\b", "mock-model"),
    (r"//nats:", "//127.0.0.1:"),
    (r"//10\.0\.0\.\d+:", "//127.0.0.1:"),
    (r"//otel-collector:", "//127.0.0.1:"),
    (r"(?<=^helm upgrade )(.*?) --reuse-values", r"\1"),  # of values that the release has
    (r"^helm (?:install|upgrade) (.*?)( --create-namespace)?( .*)?$", r"{helm} template \1\3 --kube-version 1.30.0"),
    (r"^\./dev chaos ", "python3 chaos/run.py --jetrouter {program} --out {work}/chaos-runs "),  # without the build
    (r"build/chaos\b", "{work}/chaos-runs"),
    # Without the build, and with less of the trace, which says nothing of the gain.
    (r"^\./dev quickstart$", "python3 tests/lib/quickstart.py --jetrouter {program} --requests 150 --speed 40 "
                             "--snapshot-threshold 20 --gain 0"),
]
PORT = re.compile(r"(?<=:)(4222|4318|5557|5558|6557|8000|8100|9090)\b|(?<=port )(8000|8100|9090)\b")

# How a command begins that serves until it is stopped, the documented ports it takes, and how one sees that it is there.
SERVERS = [
    (r"nats-server ", r"", (4222,), "nats"),
    (r"vllm serve ", r"--port (\d+)|tcp://\*:(\d+)", (), "engine"),
    (r"(?:\w+='[^']*' )?\S*jetrouter frontend (?!.*--check-config)", r"--http-port (\d+)", (8000,), "frontend"),
    (r"\S*image\.sh --run \S+ frontend ", r"--http-port (\d+)", (8000,), "frontend"),
    (r"\S*jetrouter router ", r"--http-port (\d+)", (8000,), "router"),
    (r"\S*jetrouter bridge ", r"--system-port (\d+)", (9090,), "bridge"),
]

# What a page needs around it beside the fleet: what that makes is a method of World.
AROUND = {"docs/operations.md": "engine_of_four_ranks"}


def may_change_root():
    return os.getuid() == 0 or subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True).returncode == 0


# A command that a machine may lack, how one sees it, and what is said then.
LACKING = [
    (r"(^|\| )curl ", lambda: shutil.which("curl"), "curl is not installed"),
    (r"^helm ", lambda: helm(), "helm is not installed"),
    (r"image\.sh --run ", may_change_root, "neither root nor user namespaces"),
]


def helm():
    path = os.path.join(jr.ROOT, "build", "go", "helm")
    return path if os.access(path, os.X_OK) else shutil.which("helm")


def lacks(command):
    """What this machine has not to run it; None: nothing."""
    return next((why for begins, there, why in LACKING if re.search(begins, command) and not there()), None)


class Failed(Exception):
    pass


class World:
    def __init__(self, procs):
        self.procs = procs
        self.work = os.path.join(procs.folder, "work")
        self._folder()
        self.nats = procs.nats()
        self.mocker = procs.mocker("workers", n=4, bridge=True, nats=self.nats.url, speedup_ratio=0)
        self.prefill = procs.mocker("prefill", n=2, bridge=True, nats=self.nats.url, component="prefill", block_size=64, speedup_ratio=0)
        self.front = procs.frontend("front", nats=self.nats.url, router_mode="kv", drain_delay_secs=0)
        self.ports = {4222: self.nats.port, 8000: self.front.port, 8100: self.mocker.port}
        self.await_workers(self.front, 4)

    def _folder(self):
        """The tree by links, so that what a command writes stays here; `jetrouter` and `vllm` in PATH."""
        os.mkdir(self.work)
        for name in os.listdir(jr.ROOT):
            if not name.startswith("."):
                os.symlink(os.path.join(jr.ROOT, name), os.path.join(self.work, name))
        for name in ("bin", "etc", "etc/engines"):
            os.mkdir(os.path.join(self.work, name))
        os.symlink(self.procs.jetrouter, os.path.join(self.work, "bin", "jetrouter"))
        os.symlink(os.path.join(HERE, "vllm.py"), os.path.join(self.work, "bin", "vllm"))
        with open(os.path.join(self.work, ".curlrc"), "w") as f:
            f.write("silent\nshow-error\nfail-with-body\nmax-time %d\n" % WAIT)  # an answer that is an error is one of the command

    def await_workers(self, proc, n=1):
        self.procs.wait_ready(proc, WAIT)
        jr.wait_for(lambda: [w["state"] for w in self.workers(proc)].count("live") >= n, "live workers at " + proc.url, WAIT)

    @staticmethod
    def workers(proc):
        pools = jr.get_json(proc.url + "/state")["pools"]
        return [w for pool in pools for w in pool["workers"]]

    # ------------------------------------------------------------ what some pages need

    def engine_of_four_ranks(self, page):
        port, events, replay = jr.free_port(), jr.free_port(4), jr.free_port(4)
        page.ports.update({8100: port, 5557: events, 6557: replay})
        p = page.start("engine", [self.procs.jetrouter, "mocker", "--http-host", "127.0.0.1", "--http-port", port,
                                  "--data-parallel-size", 4, "--zmq-kv-events-ports", events, "--zmq-replay-ports", replay])
        jr.wait_http("http://127.0.0.1:%d/health" % port, proc=p, timeout=WAIT)


class Page:
    """One page's commands, in order; its servers end with it."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.ports, self.servers, self.count = dict(world.ports), [], 0
        self.cwd = world.work
        self.env = {"HOME": world.work, "JETROUTER": world.procs.jetrouter, "TMPDIR": world.procs.folder,
                    "PATH": ":".join([os.path.join(world.work, "bin"), os.environ["PATH"], "/usr/sbin"]),
                    "PYTHONPATH": os.path.dirname(jr.__file__),
                    "DYN_HTTP_HOST": "127.0.0.1", "JETROUTER_DRAIN_DELAY_SECS": "0"}
        if name in AROUND:
            getattr(world, AROUND[name])(self)

    def start(self, name, argv, env=None):
        self.count += 1
        p = self.world.procs.start("%s-%d-%s" % (os.path.basename(self.name), self.count, name), [str(a) for a in argv], env)
        self.servers.append(p)
        return p

    def meant(self, command):
        for says, here in TABLE:
            for name, is_ in (("work", self.world.work), ("program", self.world.procs.jetrouter), ("helm", helm() or "helm"),
                              ("build", os.path.dirname(self.world.procs.jetrouter))):
                here = here.replace("{%s}" % name, is_)
            command = re.sub(says, here, command, flags=re.M)
        return PORT.sub(lambda m: str(self.port(int(m.group(0)))), command)

    def port(self, documented):
        if documented not in self.ports:
            self.ports[documented] = jr.free_port()
        return self.ports[documented]

    def environment(self):
        return {**self.env, "NATS_SERVER": "nats://127.0.0.1:%d" % self.port(4222), "DYN_HTTP_PORT": str(self.port(8000)),
                "JETROUTER_URL": "http://127.0.0.1:%d" % self.port(8000)}

    def run(self, command, prints):
        """What it was as run; raises Failed."""
        for begins, taken, always, kind in SERVERS:
            if re.match(begins, command):
                return self.serve(command, taken, always, kind)
        meant = self.meant(command)
        told = os.path.join(self.world.work, "exported")
        if command.startswith("export "):  # what it exports counts on the rest of the page
            meant += "\nenv -0 >" + told
        try:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", meant], env={**os.environ, **self.environment()}, cwd=self.cwd,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  timeout=5 * WAIT, preexec_fn=jr.die_with_parent)
        except subprocess.TimeoutExpired as e:
            raise Failed("%s\nit does not end: is it a server that SERVERS does not know?\n%s" % (meant, e.stdout)) from None
        if done.returncode:
            raise Failed("%s\nended with %d\n%s" % (meant, done.returncode, (done.stdout + done.stderr)[-3000:]))
        if command.startswith("export "):
            with open(told) as f:
                after = dict(entry.split("=", 1) for entry in f.read().split("\0") if entry)
            self.env.update({name: after[name] for name in re.findall(r"\b([A-Z][A-Z0-9_]*)=", command)})
        if prints:
            compare(meant, prints, done.stdout)

    def serve(self, command, taken, always, kind):
        named = [p for found in re.finditer(taken, command) for p in found.groups() if p] if taken else []
        for port in [*always, *map(int, named)]:
            self.ports[port] = jr.free_port()
        command = self.meant(command)
        if kind == "nats":
            command += " -a 127.0.0.1 -p %d" % self.port(4222)
        env = {**self.environment(), **({"DYN_SYSTEM_PORT": str(self.port(9090))} if kind == "bridge" else {})}
        p = self.start(kind, ["/bin/bash", "-c", "cd '%s' && exec %s" % (self.cwd, exec_form(command))], env)
        try:
            getattr(self, "await_" + kind)(p)
        except jr.Failed as e:
            raise Failed("%s\n%s" % (command, e)) from None

    def await_nats(self, p):
        jr.wait_for(lambda: jr.port_open(self.port(4222)) or not p.running(), "nats-server", WAIT)
        if not p.running():
            raise jr.Failed(p.tail())

    def await_engine(self, p):
        jr.wait_http("http://127.0.0.1:%d/health" % self.port(8100), proc=p, timeout=WAIT)

    def await_bridge(self, p):
        jr.wait_http("http://127.0.0.1:%d/ready" % self.port(9090), proc=p, timeout=WAIT)

    def await_frontend(self, p):
        """It serves: with the workers that the page gave it."""
        p.url = "http://127.0.0.1:%d" % self.port(8000)
        jr.wait_http(p.url + "/ready", proc=p, timeout=WAIT)
        jr.wait_http(p.url + "/v1/models", lambda status, text: status == 200 and b'"mock-model"' in text, proc=p, timeout=WAIT)

    def await_router(self, p):
        p.url = "http://127.0.0.1:%d" % self.port(8000)
        self.world.await_workers(p)

    def end(self):
        """All that serves ends as it should."""
        wrong = []
        for p in reversed(self.servers):
            try:
                running, code = p.running(), p.stop(timeout=WAIT)
            except jr.Failed as e:
                running, code = False, str(e)
            self.world.procs.all.remove(p)
            if not running or (code != 0 and not p.name.endswith("-nats")):
                wrong.append("%s ended with %s\n%s" % (p.name, code, p.tail()))
        self.servers = []
        if wrong:
            raise Failed("\n".join(wrong))


def exec_form(command):
    """Assignments before a command, as `env` has them, so that the shell becomes the command."""
    return "env " + command if re.match(r"\w+=", command) else command


def compare(command, prints, output):
    """What the page shows is what comes, line by line; numbers and texts may be others, and … is anything."""
    got = [line for line in output.splitlines() if line.strip()]
    wrong = len(got) != len(prints) or not all(re.fullmatch(shape(want), line) for want, line in zip(prints, got))
    if wrong:
        raise Failed("%s\nprints\n%s\nand the page says\n%s" % (command, output, "\n".join(prints)))


def shape(line):
    text = re.escape(line).replace("…", ".*")
    text = re.sub(r'(?<=:)"[^"]*"', lambda m: '"[^"]*"', text)
    return re.sub(r"\d+(\\\.\d+)?", r"[0-9.]+", text)


def program_path():
    return os.path.abspath(os.environ.get("JETROUTER", jr.JETROUTER))


if __name__ == "__main__":
    sys.exit("run.py is what is run")
