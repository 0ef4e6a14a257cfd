# SPDX-License-Identifier: Apache-2.0
"""Names in the documentation are real: metrics, options, variables, actions, reasons, links; functions, files, commands
of ./dev and names of tests in the pages for developers."""
import bisect
import functools
import glob
import json
import os
import re
import subprocess
import unittest

import doc_blocks
import doc_world
import jr_procs as jr

PAGES = doc_blocks.pages(jr.ROOT)
# Of vLLM, SGLang, helm and curl.
DEVELOPERS = ("docs/architecture.md", "docs/development.md")
# Limits that are no event of a serving process, and why.
NOT_COUNTED = {
    "a field of a record, an option or a format: what is over it cannot be read, which its reader tells and counts": [
        "NAME_MAX", "URL_MAX", "MODEL_MAX", "RANKS_MAX", "BLOCK_SIZE_MAX", "SESSION_TTL_SECS_MAX"],
    "of options and files that are read at the start, which then ends with words": [
        "POLICY_CLASSES_MAX", "POLICY_BUCKETS_MAX", "POLICY_MODELS_MAX", "POLICY_NAME_MAX", "POLICY_FILE_MAX",
        "HTTP_THREADS_MAX", "CONFIG_VALUE_MAX", "CONFIG_LIST_MAX"],
    "of what a server of ours must take, which is refused with words": ["NATS_PAYLOAD_MIN"],
    "what is beyond it is cut, replaced or waits: the size of a memory, a target or a time": [
        "ALIAS_MORE", "BLOCK_SIZE_DEFAULT", "BATCH_TARGET_BYTES", "SYNC_BYTES_MAX", "SNAPSHOT_CHUNK", "SNAPSHOT_GRACE_MS",
        "SNAPSHOT_RUN", "DIGEST_POINTS", "HTTP_WRITE_HIGH", "TLS_IN_MAX", "TLS_OUT_KEEP", "TLS_PIECE", "OPENAI_ENDS_MAX",
        "TOKEN_MODELS_MAX", "TOKEN_TEMPLATES_MAX", "TOKENIZER_HOSTS_MAX", "LOOP_SLICE_US", "ACCESS_CANDIDATES_MAX",
        "SPAN_ATTRS_MAX", "SPAN_TEXT_MAX", "TRACE_STATE_MAX", "OTLP_BODY_MAX", "OTLP_REPLY_MAX", "OTLP_WAIT_MAX_MS",
        "OTLP_FLUSH_MS", "CHILD_LINE_MAX"],
    "of commands that serve no metrics": [
        "MOCKER_BODY_MAX", "MOCKER_REPLAY_STEPS", "MOCKER_REPLAY_BYTES", "MOCKER_SEQS_MAX", "TRACE_BYTES_MAX",
        "TRACE_ROWS_MAX", "TRACE_HASHES_MAX", "TRACE_MS_MAX", "REPLAY_IN_FLIGHT_MAX", "REPLAY_EVENT_MAX",
        "REPLAY_REASONS_MAX", "REPLAY_WORKERS_MAX"],
}
OF_DYNAMO_ALONE = {"dynamo_router_overhead_seq_hashing_ms"}  # the page for those who move says why
OF_OTHERS = {"--help", "--kv-events-config", "--set", "--reuse-values", "--page-size", "--option", "--no-x"}


def page(name):
    with open(os.path.join(jr.ROOT, name)) as f:
        return f.read()


def docs(what):
    return subprocess.run([doc_world.program_path(), "docs", what], capture_output=True, text=True, check=True).stdout


def source(*globs):
    text = ""
    for pattern in globs:
        for path in sorted(glob.glob(os.path.join(jr.ROOT, "src", pattern), recursive=True)):
            with open(path) as f:
                text += f.read()
    return text


@functools.lru_cache
def all_words():
    words = set()
    for folder in ("src", "tests", "chaos", "include", "helm"):
        for base, _, files in os.walk(os.path.join(jr.ROOT, folder)):
            for file in files:
                if file.endswith((".c", ".h", ".cc", ".py")) and "fixtures" not in base:
                    with open(os.path.join(base, file)) as f:
                        words.update(re.findall(r"\w+", f.read()))
    return words


def tree_words():
    """All names in our sources; a list of the caller's own."""
    return list(all_words())


def expand(path):
    """a/{b,c}.d as a/b.d and a/c.d."""
    m = re.match(r"(.*)\{(.*)\}(.*)$", path)
    return [m.group(1) + part + m.group(3) for part in m.group(2).split(",")] if m else [path]


class Names(unittest.TestCase):
    maxDiff = None

    def all(self, pattern):
        """(page, what was found) for each place in any page."""
        return [(name, found) for name in PAGES for found in re.findall(pattern, page(name), re.M)]

    def test_metrics(self):
        table = set(re.findall(r"^\| `([a-z0-9_]+)` ", docs("metrics"), re.M)) | {"dynamo_frontend"} | OF_DYNAMO_ALONE  # the prefix
        table |= set(re.findall(r"\b(jetrouter_[a-z_]+)\(", page("include/jetrouter/jetrouter.h")))  # functions of the library
        unknown = [(name, m) for name, m in self.all(r"(?<![a-z_/.$-])(?:jetrouter|dynamo)_[a-z0-9_]*[a-z0-9](?![a-z0-9_(.]|…)")
                   if m not in table and re.sub(r"_(bucket|sum|count)$", "", m) not in table]
        self.assertEqual(unknown, [])

    def test_every_metric_is_set(self):
        """Somewhere in the source; that it appears is what tests/helm/test_observability.py sees."""
        table = re.findall(r'X\(([A-Z0-9_]+),\s*(?:COUNTER|GAUGE|HISTOGRAM),\s*"[a-z0-9_]+"',
                           source("app/metrics_table.h").replace("\\\n", " "))
        self.assertGreater(len(table), 100)
        used = set(re.findall(r"\bJR_METRIC_([A-Z0-9_]+)\b", source("app/**/*.c")))
        self.assertEqual([key for key in table if key not in used], [])

    def test_every_limit_is_counted(self):
        """Those of base/limits.h are what base/limit.h counts, but for what no serving process can run into; each that
        is counted is counted somewhere."""
        limits = re.findall(r"^#define JR_([A-Z0-9_]+)(?: |$)", source("base/limits.h"), re.M)[1:]
        counted = dict(re.findall(r'X\(([A-Z_]+), "([a-z_]+)"\)', source("base/limit.h")))
        self.assertGreater(len(counted), 30)
        where = source("**/*.c", "**/*.cc", "**/*.hh")
        for key, name in counted.items():
            self.assertEqual(name, key.lower())
            self.assertTrue(key in limits or key + "_MAX" in limits, key)
            self.assertRegex(where, r"\bJR_LIMIT_%s\b" % key)
        rest = {limit for limit in limits if re.sub("_MAX$", "", limit) not in counted and limit not in counted}
        self.assertEqual(rest, {limit for group in NOT_COUNTED.values() for limit in group})

    def test_options(self):
        rows = json.loads(docs("options"))
        flags = {"--" + f for r in rows if r["flag"] for f in [r["flag"], "no-" + r["flag"], *r["aliases"]]}
        known = flags | OF_OTHERS | {"--" + f for f in re.findall(r"--([a-z][a-z-]+)", page("dev") + page("chaos/run.py"))}
        self.assertEqual([(name, flag) for name, flag in self.all(r"`(--[a-z][a-z0-9-]+)") if flag not in known], [])

    def test_variables(self):
        """Of environments: the program does not mind one that it does not know."""
        known = {e for row in json.loads(docs("options")) for e in row["env"]}
        known |= {"JETROUTER_FAILPOINTS", "PKG_CONFIG_PATH", "LD_LIBRARY_PATH"} | {w for w in all_words() if w.startswith("JR_")}
        found = self.all(r"^(?:export )?([A-Z][A-Z_]+)=") + self.all(r"`([A-Z][A-Z_]+_[A-Z_]+)=")
        self.assertGreater(len(found), 5)
        self.assertEqual([(name, v) for name, v in found if v not in known], [])

    def test_every_reason_not_to_be_ready_is_told_of(self):
        text = page("docs/troubleshoot.md")
        ready = source("app/frontend/frontend.c").split("bool jr_frontend_ready")[1].split("\n}\n")[0]
        why = source("core/pool_recovery.c").split("*jr_pool_not_ready_because")[1].split("\n}\n")[0]
        found = re.findall(r'"([^"\n]{4,})"', ready + why)
        self.assertGreater(len(found), 12)
        for reason in found:
            self.assertTrue("`%s`" % reason in text, reason)

    def test_actions_of_ctl(self):
        said = subprocess.run([doc_world.program_path(), "ctl"], capture_output=True, text=True).stderr
        for name, action in self.all(r"jetrouter ctl ([a-z]+)"):
            self.assertIn(action, said, name)

    def test_functions_are_there(self):
        """`name()`, `jr_name`, JR_NAME and plain names in backticks that could be functions, of the developers' pages."""
        words = set(tree_words())
        for name in DEVELOPERS:
            named = re.findall(r"`(?:struct |enum )?((?:jr|JR)_\w+|[a-z]\w*_\w+|[a-z]\w+)(?:\(\))?`", page(name))
            self.assertGreater(len(named), 5, name)
            self.assertEqual([w for w in named if w not in words], [], name)

    def test_functions_are_in_the_files_that_are_named_with_them(self):
        """`name` (`file.c`), as the walk-throughs say it."""
        found = re.findall(r"`(\w+)` (?:\(|in )`((?:src|tests)/[\w/.]+|\w+\.c)`", page("docs/development.md"))
        self.assertGreater(len(found), 20)
        for function, path in found:
            text = page(path if "/" in path else os.path.join("src/app/frontend", path))
            self.assertTrue(re.search(r"^ *[a-z].*\b%s\b" % function, text, re.M), "%s is not in %s" % (function, path))

    def test_files_are_there(self):
        for name in PAGES:
            for path in re.findall(r"(?<![\w/.-])((?:src|tests|docs|helm|chaos|proto|include|tools)/[\w./*{},-]*[\w}*])", page(name)):
                if "NAME" not in path and not all(glob.glob(os.path.join(jr.ROOT, p)) for p in expand(path)):
                    self.fail("%s: %s is not in the tree" % (name, path))

    def test_files_without_a_folder_are_there(self):
        names = {f for folder in ("src", "tests", "chaos", "docs", "include", "helm") for _, _, files in os.walk(os.path.join(jr.ROOT, folder))
                 for f in files}
        for name in DEVELOPERS:
            for file in re.findall(r"(?<![\w/.*])(\w+\.(?:c|h|cc|py|sh))\b", page(name)):
                self.assertTrue(file in names or file == "nats.c", "%s: there is no %s" % (name, file))

    def test_tests_are_there(self):
        """Names of tests and of their cases, wherever they are named."""
        names = tree_words()
        for _, _, files in os.walk(os.path.join(jr.ROOT, "tests")):
            names += files
        names.sort()
        for name, test in self.all(r"`(?:unit\.|integration\.|arch\.|sim\.)?(test_\w+?)_?…?`"):
            at = bisect.bisect_left(names, test)
            self.assertTrue(at < len(names) and names[at].startswith(test), "%s: there is no %s" % (name, test))

    def test_commands_of_dev(self):
        script = page("dev")
        for name, command in self.all(r"\./dev ([a-z]+)"):
            self.assertIn("\ncmd_%s()" % command, script, name)
        groups = set(re.findall(r"LABELS \"integration;(\w+)\"", page("tests/CMakeLists.txt"))) | set(
            re.findall(r"jr_group\((\w+) ", page("tests/CMakeLists.txt"))) | {"base", "core", "wire", "io", "app"}
        for name, group in self.all(r"`\./dev test ([a-z]+)`"):
            self.assertIn(group, groups, name)

    def test_links(self):
        wrong = []
        for name in PAGES:
            for to, anchor in re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", page(name)):
                target = os.path.normpath(os.path.join(os.path.dirname(name), to)) if to else name
                if not os.path.exists(os.path.join(jr.ROOT, target)):
                    wrong.append((name, to))
                elif anchor and anchor not in self.heads(target):
                    wrong.append((name, to + "#" + anchor))
        self.assertEqual(wrong, [])

    @staticmethod
    def heads(name):
        return {re.sub(r"[^a-z0-9 _-]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", page(name), re.M)}


if __name__ == "__main__":
    unittest.main()
