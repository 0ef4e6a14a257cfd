# SPDX-License-Identifier: Apache-2.0
"""What the pages hold in fences, and what is wrong with how they hold it. Knows nothing of running.

A command stands in a fence of `sh` (commands alone) or `console` (commands behind `$ `, and what they print). One
that is not run has `<!-- not run: reason -->` on the line before its fence."""
import os
import re
import subprocess

COMMANDS = ("sh", "console")
LANGUAGES = COMMANDS + ("json", "yaml", "haproxy", "c", "text")

# How a line begins that a reader would type: it must not hide in a fence that nothing runs.
TYPED = re.compile(r"\s*(\$ |sudo |export |(jetrouter|curl|helm|kubectl|docker|nats|nats-server|vllm|cc|cmake|ctest|ninja|"
                   r"systemctl|systemd-analyze|python3|apt-get|cat >|\./dev|\.ci/run|build/\S+|helm/\S+\.sh) \S)")
FENCE = re.compile(r"^(\s*)```(.*)$")
MARK = re.compile(r"^<!-- not run:(.*)-->$")


class Block:
    """One fence: where it is, its language, its text, and the reason not to run it (None: it has no mark)."""

    def __init__(self, page, line, language, text, mark):
        self.page, self.line, self.language, self.text, self.mark = page, line, language, text, mark

    @property
    def where(self):
        return "%s:%d" % (self.page, self.line)

    @property
    def runs(self):
        return self.language in COMMANDS and self.mark is None

    def commands(self):
        """[(line, command, what it prints or None)]."""
        return list(split_console(self) if self.language == "console" else split_script(self))


def split_script(block):
    """A script as the commands a reader would enter one after the other: what bash says is whole."""
    first, gathered = 0, []
    lines = block.text.splitlines()
    for n, line in enumerate(lines):
        if not gathered and (not line.strip() or line.lstrip().startswith("#")):
            continue
        first = first if gathered else n
        gathered.append(line)
        if is_whole("\n".join(gathered)) or n == len(lines) - 1:
            yield block.line + 1 + first, "\n".join(gathered), None
            gathered = []


def is_whole(text):
    if text.rstrip(" ").endswith("\\"):
        return False
    here = re.search(r"<<-?\s*'?(\w+)'?", text)
    if here and not re.search(r"^\s*%s$" % here.group(1), text, re.M):
        return False
    return subprocess.run(["bash", "-n", "-c", text], capture_output=True).returncode == 0


def split_console(block):
    lines = block.text.splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
    for n, start in enumerate(starts):
        end = starts[n + 1] if n + 1 < len(starts) else len(lines)
        command, rest = [lines[start][2:]], lines[start + 1:end]
        while rest and not is_whole("\n".join(command)):
            command.append(rest.pop(0))
        yield block.line + 1 + start, "\n".join(command), [line for line in rest if line.strip()]


def wrong_with(block):
    """What a reader of the page, or this reader, could not make use of."""
    if block.language not in LANGUAGES:
        yield "a fence of no language, or an unknown one (%r): one of %s" % (block.language, " ".join(LANGUAGES))
        return
    if block.mark is not None and block.language not in COMMANDS:
        yield "a mark, and no command behind it"
    if block.mark is not None and len(block.mark.split()) < 3:
        yield "a mark without a reason"
    if block.language not in COMMANDS:
        for line in block.text.splitlines():
            if TYPED.match(line):
                yield "a command that is not run, in a fence of %s: %s" % (block.language, line.strip())
    elif not block.commands():
        yield "no command in it"


def read(page, text):
    """(blocks, [what is wrong with the page])."""
    blocks, wrong = [], []
    lines = text.splitlines()
    inside, before = None, ""
    for n, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if inside is not None:
            if fence and not fence.group(2):
                blocks.append(Block(page, *inside[:2], "\n".join(lines[inside[0]:n - 1]), inside[2]))
                inside, before = None, ""
            continue
        if fence:
            mark = MARK.match(before)
            inside = (n, fence.group(2).strip(), mark.group(1).strip() if mark else None)
            continue
        if re.match(r"^( {4}|\t)", line) and re.match(r"$|#|```", lines[n - 2] if n > 1 else ""):  # no line of a paragraph
            wrong.append("%s:%d: an indented block: give it a fence and a language" % (page, n))
        if MARK.match(before) and line.strip():
            wrong.append("%s:%d: a mark, and no fence behind it" % (page, n))
        before = line if line.strip() else before
    if inside is not None:
        wrong.append("%s:%d: a fence without an end" % (page, inside[0]))
    for block in blocks:
        wrong += ["%s: %s" % (block.where, what) for what in wrong_with(block)]
    return blocks, wrong


def pages(root):
    """README.md, docs/*.md and chaos/README.md, relative to the root."""
    docs = sorted(name for name in os.listdir(os.path.join(root, "docs")) if name.endswith(".md"))
    return ["README.md", *(os.path.join("docs", name) for name in docs), "chaos/README.md"]


def read_page(root, page):
    with open(os.path.join(root, page)) as f:
        return read(page, f.read())
