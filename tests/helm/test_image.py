# SPDX-License-Identifier: Apache-2.0
"""The files of the container image, made without a container engine: nothing beside the program and what it
needs, nobody may write to them, and the program starts from them, serves and ends as it should."""
import os
import re
import stat
import subprocess
import tempfile
import unittest

import jr_procs as jr

IMAGE = os.path.join(jr.ROOT, "helm", "image.sh")


def files(tree):
    for folder, _, names in os.walk(tree):
        for name in names:
            yield os.path.join(folder, name)


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.procs = jr.Procs()
        cls.addClassCleanup(cls.procs.close)
        folder = tempfile.mkdtemp(prefix="jetrouter-image-")
        os.chmod(folder, 0o755)
        cls.addClassCleanup(lambda: subprocess.run(["sh", "-c", 'chmod -R u+w "$0"; rm -rf "$0"', folder]))
        cls.tree = os.path.join(folder, "tree")
        subprocess.run([IMAGE, cls.procs.jetrouter, cls.tree], check=True)

    def start(self, name, *words):
        return self.procs.start(name, [IMAGE, "--run", self.tree, *words])

    def test_nothing_but_the_program_and_what_it_needs(self):
        programs, libraries = [], []
        for path in files(self.tree):
            name = path[len(self.tree):]
            mode = os.lstat(path)
            if stat.S_ISLNK(mode.st_mode):
                self.assertTrue(os.path.realpath(path).startswith(self.tree), name + " leads out of the tree")
                continue
            self.assertFalse(mode.st_mode & (stat.S_ISUID | stat.S_ISGID), name)
            self.assertFalse(mode.st_mode & 0o222, name + " can be written to")
            if mode.st_mode & 0o111:
                programs.append(name)
            elif name.startswith("/usr/lib"):
                libraries.append(os.path.basename(name))
            else:
                self.assertTrue(name.startswith(("/usr/share/doc/", "/etc/")), name)
        self.assertIn("/usr/bin/jetrouter", programs)
        self.assertEqual(len(programs), 2, programs)  # and the loader
        needed = subprocess.run(["ldd", self.procs.jetrouter], capture_output=True, text=True, check=True).stdout
        wanted = {os.path.basename(os.path.realpath(p)) for p in re.findall(r"=> (/\S+)", needed)}
        self.assertEqual(set(libraries), wanted)

    def test_every_library_comes_with_its_licence_and_version(self):
        doc = os.path.join(self.tree, "usr", "share", "doc")
        with open(os.path.join(doc, "jetrouter", "packages")) as f:
            packages = [line.split() for line in f.read().splitlines()]
        self.assertIn("libc6", [p[0] for p in packages])
        for package, version in packages:
            self.assertTrue(version)
            # A package may share another's, which then is there as well.
            self.assertTrue(os.path.exists(os.path.join(doc, package, "copyright")), package)

    def test_it_serves_from_there_and_ends(self):
        mocker = self.procs.mocker("workers", speedup_ratio=0)
        port = jr.free_port()
        url = "http://127.0.0.1:%d" % port
        p = self.start("image", "frontend", "--http-port", str(port), "--worker", mocker.urls[0],
                       "--drain-delay-secs", "0")
        jr.wait_http(url + "/ready", timeout=60, proc=p)
        with open("/proc/%d/status" % p.pid) as f:
            uids = re.search(r"^Uid:\s+(.*)$", f.read(), re.M).group(1).split()
        if os.getuid() == 0:
            self.assertEqual(set(uids), {"65532"})
        with open("/proc/%d/maps" % p.pid) as f:
            mapped = {line.split()[5] for line in f if len(line.split()) > 5 and line.split()[5].startswith("/")}
        self.assertEqual(os.path.realpath("/proc/%d/root" % p.pid), os.path.realpath(self.tree))
        self.assertTrue(any("libnats" in m for m in mapped), mapped)
        self.assertEqual([m for m in mapped if not m.startswith(os.path.realpath(self.tree) + "/")], [])
        self.assertEqual(self.start("health", "ctl", "--url", url, "live").popen.wait(60), 0)
        self.assertEqual(self.start("ready", "ctl", "--url", url, "ready").popen.wait(60), 0)
        status, text = jr.post(url + "/v1/completions", {"model": "mock-model", "prompt": "hello", "max_tokens": 2})
        self.assertEqual(status, 200, text)
        self.assertEqual(p.stop(timeout=60), 0)
        self.assertNotEqual(self.start("gone", "ctl", "--url", url, "live").popen.wait(60), 0)

    def test_the_dockerfile_says_what_it_should(self):
        with open(os.path.join(jr.ROOT, "helm", "Dockerfile")) as f:
            text = re.sub(r"\\\n\s*", " ", f.read())
        lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
        last = [i for i, line in enumerate(lines) if line[0] == "FROM"][-1]
        final = dict((k, v) for k, v in lines[last:])
        self.assertEqual(final["FROM"], "scratch")
        self.assertEqual(final["USER"], "65532:65532")
        self.assertEqual(final["COPY"], "--from=build /tree/ /")
        for words in (final["ENTRYPOINT"], final["HEALTHCHECK"].split("CMD ")[1]):
            program = words.strip('[]').split(",")[0].strip('"')
            self.assertTrue(os.path.exists(self.tree + program), program)
        self.assertNotIn("RUN", final)


if __name__ == "__main__":
    unittest.main()
