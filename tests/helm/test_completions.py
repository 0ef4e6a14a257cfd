# SPDX-License-Identifier: Apache-2.0
"""The completions for bash and zsh (docs/completions, made from the option table), asked as the shells ask."""
import json
import os
import pty
import select
import shutil
import subprocess
import time
import unittest

import jr_procs as jr

FILES = os.path.join(jr.ROOT, "docs", "completions")

BASH = """
source "$0"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_jetrouter
printf '%s\\n' "${COMPREPLY[@]}"
"""

OPTIONS = json.loads(subprocess.run([jr.JETROUTER, "docs", "options"], capture_output=True, check=True).stdout)


def bash(*words):
    """What completes the last of the words."""
    done = subprocess.run(["bash", "-c", BASH, os.path.join(FILES, "jetrouter.bash"), *words],
                          capture_output=True, text=True, cwd=FILES)
    assert done.stderr == "", done.stderr
    return done.stdout.split()


class Bash(unittest.TestCase):
    def test_commands(self):
        self.assertEqual(bash("jetrouter", "fr"), ["frontend"])
        self.assertEqual(set(bash("jetrouter", "")),
                         {"help", "version", "frontend", "router", "bridge", "mocker", "replay", "ctl"})

    def test_every_option_of_every_command(self):
        for command in ("frontend", "router", "bridge", "mocker", "replay", "ctl"):
            want = {"--help"}
            for row in OPTIONS:
                if row["flag"] and command in row["commands"]:
                    want.add("--" + row["flag"])
                    if row["type"] == "bool":
                        want.add("--no-" + row["flag"])
            self.assertEqual(set(bash("jetrouter", command, "--")), want, command)

    def test_values(self):
        modes = next(r["choices"] for r in OPTIONS if r["flag"] == "router-mode")
        self.assertEqual(bash("jetrouter", "frontend", "--router-mode", ""), modes)
        self.assertEqual(bash("jetrouter", "frontend", "--router-mode", "=", ""), modes)
        self.assertEqual(bash("jetrouter", "frontend", "--http-port", "1", "--router-mode", "=", "po"), ["power-of-two"])
        self.assertEqual(bash("jetrouter", "frontend", "--tls-cert-path", "jet"), ["jetrouter.bash"])
        self.assertEqual(bash("jetrouter", "frontend", "--http-port", ""), [])
        self.assertIn("--router-mode", bash("jetrouter", "frontend", "--huge-pages", ""))

    def test_actions_of_ctl(self):
        said = subprocess.run([jr.JETROUTER, "ctl"], capture_output=True, text=True).stderr
        for action in bash("jetrouter", "ctl", ""):
            self.assertIn(action, said)
        self.assertIn("snapshot", bash("jetrouter", "ctl", ""))


@unittest.skipUnless(shutil.which("zsh"), "zsh is not installed: ./dev setup --all")
class Zsh(unittest.TestCase):
    """An interactive zsh in a terminal of its own: keys in, text out."""

    def ask(self, keys, want, tab=b"\t"):
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(TERM="dumb", PS1="ready> ", HOME=FILES)
            os.execvp("zsh", ["zsh", "-f", "-i"])
        got = b""

        def until(text):
            nonlocal got
            end = time.monotonic() + 60
            while text not in got:
                self.assertLess(time.monotonic(), end, "no %r in %r" % (text, got))
                if select.select([fd], [], [], 1)[0]:
                    try:
                        got += os.read(fd, 65536)
                    except OSError:
                        self.fail("zsh ended: %r" % got)
        try:
            os.write(fd, b"stty cols 2000 -echo; unsetopt zle_bracketed_paste; PS1='rea''dy> '; LISTMAX=10000; fpath=(%s $fpath); "
                         b"autoload -Uz compinit && compinit -u -D; echo load''ed\n" % FILES.encode())
            until(b"loaded")
            got = got.split(b"loaded")[-1]
            until(b"ready> ")
            got = b""
            os.write(fd, keys + tab)
            for text in want:
                until(text)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(fd)

    def test_commands_options_and_values(self):
        self.ask(b"jetrouter fronte", [b"frontend"])
        self.ask(b"jetrouter frontend --router-mo", [b"--router-mode="])
        self.ask(b"jetrouter frontend --router-mode=pow", [b"power-of-two"])
        self.ask(b"jetrouter ctl snap", [b"snapshot"])
        self.ask(b"jetrouter bridge --kv-events-", [b"--kv-events-bind", b"listen at --kv-events-endpoint"], tab=b"\t\t")


if __name__ == "__main__":
    unittest.main()
