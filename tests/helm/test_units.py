# SPDX-License-Identifier: Apache-2.0
"""The systemd units: systemd takes every line of them, their sandbox is as tight as it says, they name options that
there are, and wait as long as a drain may last. Needs systemd-analyze (Debian package systemd)."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import jr_procs as jr

UNITS = sorted(glob.glob(os.path.join(jr.ROOT, "helm", "systemd", "*.service")))
ANALYZE = shutil.which("systemd-analyze")
TABLE = json.loads(subprocess.run([jr.JETROUTER, "docs", "options"], capture_output=True, check=True).stdout)


def text(path):
    with open(path) as f:
        return f.read()


def default(flag):
    return float(next(r["default"] for r in TABLE if r["flag"] == flag))


class Units(unittest.TestCase):
    def test_there_are_two(self):
        self.assertEqual([os.path.basename(u) for u in UNITS], ["jetrouter-bridge.service", "jetrouter-frontend.service"])

    def test_commands_and_variables_are_ours(self):
        for unit in UNITS:
            command = re.search(r"^ExecStart=/usr/bin/jetrouter (\w+)$", text(unit), re.M).group(1)
            names = {e for r in TABLE if command in r["commands"] for e in r["env"]}
            given = re.findall(r"(\w+)=", " ".join(re.findall(r"^Environment=(.*)$", text(unit), re.M)))
            self.assertTrue(given)
            self.assertLessEqual(set(given), names, unit)

    def test_a_drain_has_its_time(self):
        wait = int(re.search(r"^TimeoutStopSec=(\d+)$", text(UNITS[1]), re.M).group(1))
        self.assertGreaterEqual(wait, default("drain-delay-secs") + default("drain-timeout-secs") + 10)

    def test_others_are_tried_again_for_ever(self):
        for unit in UNITS:
            self.assertIn("StartLimitIntervalSec=0\n", text(unit).split("[Service]")[0])

    def test_exit_codes_that_are_not_tried_again(self):
        """They are those of an error that stays: the codes of a bad option and of options that do not fit."""
        codes = re.search(r"^RestartPreventExitStatus=(.*)$", text(UNITS[1]), re.M).group(1).split()
        for words in (["--no-such"], ["--http-port", "x"], ["--tls-cert-path", "x"]):
            done = subprocess.run([jr.JETROUTER, "frontend", *words], capture_output=True)
            self.assertIn(str(done.returncode), codes, words)


@unittest.skipUnless(ANALYZE, "systemd-analyze is not installed: ./dev setup --all")
class Analyzed(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="jetrouter-units-")
        self.addCleanup(shutil.rmtree, self.folder)
        for unit in UNITS:  # with a program that is there
            with open(os.path.join(self.folder, os.path.basename(unit)), "w") as f:
                f.write(text(unit).replace("/usr/bin/jetrouter", jr.JETROUTER))

    def analyze(self, *words):
        return [subprocess.run([ANALYZE, *words, os.path.join(self.folder, os.path.basename(u))], capture_output=True,
                               text=True) for u in UNITS]

    def test_verify(self):
        for done in self.analyze("verify", "--man=no"):
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_exposure(self):
        for done in self.analyze("security", "--offline=true", "--threshold=15"):
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
