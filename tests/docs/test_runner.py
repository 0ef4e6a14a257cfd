# SPDX-License-Identifier: Apache-2.0
"""The runner of the documentation's commands finds what it is there to find."""
import os
import subprocess
import sys
import tempfile
import unittest

import doc_blocks
import doc_world
import jr_procs as jr

HERE = os.path.dirname(os.path.abspath(__file__))


def wrong(text):
    return doc_blocks.read("page.md", text)[1]


def fence(language, text, before=""):
    return "%s\n```%s\n%s\n```\n" % (before, language, text)


class Blocks(unittest.TestCase):
    def test_good_pages(self):
        for text in (fence("sh", "jetrouter --version"), fence("text", "a picture ──►"), "- a list\n  goes on\n  - within\n    another\n",
                     fence("sh", "docker build .", "<!-- not run: needs a container engine -->\n"),
                     fence("console", "$ jetrouter --version\njetrouter 0.1.0")):
            self.assertEqual(wrong(text), [], text)

    def test_each_mistake_is_named_with_its_line(self):
        for text, line, word in (
                ("x\n\n    curl -s http://127.0.0.1:8000/\n", 3, "indented"),
                (fence("", "jetrouter --version"), 2, "no language"),
                (fence("bash", "jetrouter --version"), 2, "'bash'"),
                (fence("text", "see:\njetrouter ctl ready"), 2, "jetrouter ctl ready"),
                (fence("json", "$ curl x"), 2, "not run"),
                (fence("sh", "helm install x", "<!-- not run: -->"), 2, "without a reason"),
                (fence("sh", "helm install x", "<!-- not run: cluster -->"), 2, "without a reason"),
                (fence("json", "{}", "<!-- not run: it is no command -->"), 2, "no command behind"),
                ("<!-- not run: for no reason at all -->\n\nwords\n", 3, "no fence behind"),
                (fence("sh", "# nothing"), 2, "no command in it"),
                ("```sh\njetrouter --version\n", 1, "without an end")):
            found = wrong(text)
            self.assertEqual(len(found), 1, (text, found))
            self.assertTrue(found[0].startswith("page.md:%d: " % line) and word in found[0], found)

    def test_a_script_is_split_as_a_reader_enters_it(self):
        block, = doc_blocks.read("page.md", fence("sh", "# first\na \\\n  b\nc 'd\ne'\ncat >f <<'END'\nx y\nEND\nexport A=1   # why"))[0]
        self.assertEqual(block.commands(), [(4, "a \\\n  b", None), (6, "c 'd\ne'", None), (8, "cat >f <<'END'\nx y\nEND", None),
                                            (11, "export A=1   # why", None)])

    def test_a_console_is_commands_and_what_they_print(self):
        block, = doc_blocks.read("page.md", fence("console", "$ a \\\n  b\nx\n\ny\n$ c"))[0]
        self.assertEqual(block.commands(), [(3, "a \\\n  b", ["x", "y"]), (8, "c", [])])

    def test_what_is_printed_is_compared_by_shape(self):
        says = ['{"id":7,"name":"a","more":[…],"x":0.5}']
        doc_world.compare("c", says, '{"id":1234,"name":"bc","more":[1, "x"],"x":12}\n\n')
        for printed in ('{"id":7,"name":"a","x":0.5}', '{"id":7,"other":"a","more":[],"x":0.5}', says[0] + "\nmore", ""):
            with self.assertRaises(doc_world.Failed, msg=printed):
                doc_world.compare("c", says, printed)


PAGES = {
    "README.md": fence("sh", "jetrouter --version\ncurl http://127.0.0.1:8000/ready"),
    "docs/fails.md": fence("sh", "jetrouter --no-such-option\ntouch behind-it"),
    "docs/refused.md": fence("sh", "curl http://127.0.0.1:8000/no-such-path"),
    "docs/pipe.md": fence("sh", "false | cat"),
    "docs/prints.md": fence("console", "$ jetrouter --version\nanother program"),
    "docs/serves-not.md": fence("sh", "jetrouter frontend --no-such-option"),
    "docs/unmarked.md": fence("text", "jetrouter --version"),
    "docs/json.md": fence("json", '{"a": }'),
    "docs/haproxy.md": fence("haproxy", "option no-such-option"),
    "chaos/README.md": fence("sh", "jetrouter ctl no-such-action"),
    "docs/marked.md": fence("sh", "exit 1", "<!-- not run: it would end with an error -->"),
}


class Runs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="jetrouter-docs-")
        cls.addClassCleanup(folder.cleanup)
        cls.root = folder.name
        for name in ("docs", "chaos"):
            os.mkdir(os.path.join(cls.root, name))
        for name, text in PAGES.items():
            with open(os.path.join(cls.root, name), "w") as f:
                f.write(text)

    def run_it(self, *words):
        return subprocess.run([sys.executable, os.path.join(HERE, "run.py"), "--root", self.root, *words], capture_output=True, text=True)

    def test_what_fails_is_found_and_what_does_not_is_run(self):
        done = self.run_it()
        self.assertEqual(done.returncode, 1, done.stdout)
        bad = sorted(set(PAGES) - {"README.md", "docs/marked.md"})
        found = sorted(line.split(":")[0] for line in done.stderr.splitlines() if line.split(":")[0] in PAGES)
        self.assertEqual(found, bad, done.stderr)
        lacks_curl = doc_world.lacks("curl x") is not None
        self.assertIn("%d commands run, 1 marked" % (1 if lacks_curl else 2), done.stdout)
        self.assertFalse(os.path.exists(os.path.join(jr.ROOT, "behind-it")))

    def test_marks_are_listed_with_their_reasons(self):
        done = self.run_it("--list")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.split()[:1] + done.stdout.split()[-2:], ["docs/marked.md:2", "exit", "1"])
        self.assertIn("it would end with an error", done.stdout)


if __name__ == "__main__":
    unittest.main()
