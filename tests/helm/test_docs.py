# SPDX-License-Identifier: Apache-2.0
"""What docs/deploy.md, troubleshoot.md, security.md and the page of operations say is so: the chart takes their
commands and values, names of metrics, options and reasons are real, links lead somewhere."""
import glob
import json
import os
import re
import shlex
import subprocess
import unittest

import chart
import jr_procs as jr

PAGES = ("deploy.md", "troubleshoot.md", "security.md", "operations.md")


def page(name):
    with open(os.path.join(jr.ROOT, "docs", name)) as f:
        return f.read()


def docs(what):
    return subprocess.run([jr.JETROUTER, "docs", what], capture_output=True, text=True, check=True).stdout


def source(*globs):
    text = ""
    for pattern in globs:
        for path in sorted(glob.glob(os.path.join(jr.ROOT, "src", pattern), recursive=True)):
            with open(path) as f:
                text += f.read()
    return text


class Names(unittest.TestCase):
    def test_metrics(self):
        table = set(re.findall(r"^\| `([a-z0-9_]+)` ", docs("metrics"), re.M))
        for name in PAGES:
            for metric in re.findall(r"\b(?:jetrouter|dynamo)_[a-z0-9_]*[a-z0-9](?![a-z0-9_])", page(name)):
                self.assertTrue(metric in table, "%s: %s" % (name, metric))

    def test_metrics_that_are_not_set(self):
        """The list of the page is exact: one that is set some day leaves it, a new one is set or named there."""
        table = re.findall(r'X\(([A-Z0-9_]+),\s*(?:COUNTER|GAUGE|HISTOGRAM),\s*"([a-z0-9_]+)"',
                           source("app/metrics_table.h").replace("\\\n", " "))
        used = set(re.findall(r"\bJR_METRIC_([A-Z0-9_]+)\b", source("app/**/*.c")))
        listed = re.findall(r"^- `([a-z0-9_]+)`$", page("operations.md").split("<!-- metrics that are not set -->")[1], re.M)
        self.assertEqual([name for key, name in table if key not in used], listed)

    def test_options(self):
        rows = json.loads(docs("options"))
        flags = {"--" + f for r in rows if r["flag"] for f in [r["flag"], "no-" + r["flag"], *r["aliases"]]}
        variables = {e for r in rows for e in r["env"]}
        for name in PAGES[:3]:
            of_others = {"--kv-events-config", "--set"}
            for flag in re.findall(r"`(--[a-z][a-z0-9-]+)", page(name)):
                self.assertTrue(flag in flags | of_others, "%s: %s" % (name, flag))
            for variable in re.findall(r"^    ([A-Z][A-Z_]+)=", page(name), re.M):
                self.assertTrue(variable in variables, "%s: %s" % (name, variable))

    def test_every_reason_not_to_be_ready_is_told_of(self):
        text = page("troubleshoot.md")
        ready = source("app/frontend/frontend.c").split("bool jr_frontend_ready")[1].split("\n}\n")[0]
        why = source("core/pool_recovery.c").split("*jr_pool_not_ready_because")[1].split("\n}\n")[0]
        found = re.findall(r'"([^"\n]{4,})"', ready + why)
        self.assertGreater(len(found), 12)
        for reason in found:
            self.assertTrue("`%s`" % reason in text, reason)

    def test_actions_of_ctl(self):
        said = subprocess.run([jr.JETROUTER, "ctl"], capture_output=True, text=True).stderr
        for name in PAGES:
            for action in re.findall(r"jetrouter ctl ([a-z]+)", page(name)):
                self.assertIn(action, said, name)

    def test_links(self):
        for name in [*PAGES, "../README.md"]:
            text = page(name)
            for to in re.findall(r"\]\(([^)#:]*)(?:#[^)]*)?\)", text):
                self.assertTrue(not to or os.path.exists(os.path.join(jr.ROOT, "docs", os.path.dirname(name), to)), "%s: %s" % (name, to))
            for to, anchor in re.findall(r"\]\(([^)#:]*)#([^)]*)\)", text):
                target = page(os.path.join(os.path.dirname(name), to) if to else name)
                heads = {re.sub(r"[^a-z0-9 _-]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", target, re.M)}
                self.assertIn(anchor, heads, "%s: %s" % (name, to))


class Chart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        chart.need()

    def test_commands_of_helm(self):
        """As `helm template`, with their own options."""
        found = re.findall(r"^    (helm (?:install|upgrade) .*)$", page("deploy.md"), re.M)
        self.assertGreater(len(found), 5)
        for line in found:
            words = shlex.split(line)
            self.assertEqual(words[2:4], ["router", "helm/jetrouter"], line)
            options = [w for w in words[4:] if w != "--create-namespace"]
            chart.helm("template", "router", chart.CHART, "--kube-version", chart.OLDEST + ".0", *options)

    def test_values(self):
        found = re.findall(r"^```yaml\n(.*?)^```", page("deploy.md"), re.M | re.S)
        self.assertGreater(len(found), 2)
        for text in found:
            chart.template(chart.yaml.safe_load(text))

    def test_objects_that_are_named_are_there(self):
        release = chart.yaml.safe_load_all(chart.helm("template", "router", chart.CHART, "--kube-version", chart.OLDEST + ".0")[1])
        names = {(o["kind"].lower(), o["metadata"]["name"]) for o in release if o}
        self.assertIn(("configmap", "router-jetrouter-bridge-sidecar"), names)
        self.assertIn(("deployment", "router-jetrouter"), names)


if __name__ == "__main__":
    chart.use_venv(__file__)
    unittest.main()
