# SPDX-License-Identifier: Apache-2.0
"""The figures of README.md are those of docs/measured.json, and each can be measured again: its command is there."""
import os
import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree

import jr_procs as jr

sys.path.insert(0, os.path.join(jr.ROOT, "docs", "badges"))
import make  # noqa: E402


class Badges(unittest.TestCase):
    def setUp(self):
        self.data = make.read()

    def test_nothing_has_drifted(self):
        done = subprocess.run([sys.executable, make.__file__, "--check"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_changed_figure_is_seen(self):
        figure = next(f for f in self.data["figures"] if "badge" in f)
        figure["badge"][1] = figure["value"] = "another figure"
        changed = make.made(self.data)
        self.assertEqual(sorted(p for p, text in changed.items() if make.is_now(p) != text),
                         ["README.md", "docs/badges/%s.svg" % figure["name"]])
        self.assertIn("another figure", changed["README.md"])

    def test_every_figure_is_whole(self):
        names = [f["name"] for f in self.data["figures"]]
        self.assertEqual(len(set(names)), len(names))
        for f in self.data["figures"]:
            self.assertLessEqual({"name", "what", "value", "command", "commit", "machine"}, set(f), f["name"])
            self.assertRegex(f["commit"], r"^[0-9a-f]{7,40}$")
            if "badge" in f:
                said, all_of_it = (set(re.findall(r"\d[\d.,]*\d|\d", text)) for text in (f["badge"][1], f["value"]))
                self.assertLessEqual(said, all_of_it, "the badge says something else than the table")

    def test_every_command_is_there(self):
        with open(os.path.join(jr.ROOT, "dev")) as f:
            script = f.read()
        for f in self.data["figures"]:
            words = f["command"].split()
            self.assertEqual(words[0], "./dev")
            self.assertIn("\ncmd_%s()" % words[1], script, f["command"])
            if words[1] == "bench":
                self.assertRegex(script, r"\n        %s\)" % words[2], f["command"])

    def test_images_are_images_and_local(self):
        for path, text in make.made(self.data).items():
            if path.endswith(".svg"):
                root = xml.etree.ElementTree.fromstring(text)
                self.assertTrue(root.tag.endswith("svg"), path)
                self.assertNotRegex(text.replace("http://www.w3.org/2000/svg", ""), r"https?:")
        with open(os.path.join(jr.ROOT, "README.md")) as f:
            self.assertEqual(re.findall(r"!\[[^]]*\]\(https?:[^)]*\)", f.read()), [])


if __name__ == "__main__":
    unittest.main()
