#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes of docs/measured.json, which is written by hand after measuring: a badge (docs/badges/NAME.svg) of each
figure that has a `badge`, and the table of them all in README.md, between its two markers.

usage: make.py [--check]     --check changes nothing, and ends with 1 when something is not as it would be made"""
import html
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BEGIN, END = "<!-- made of docs/measured.json by ./dev docs -->\n", "<!-- end -->\n"

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{all}" height="20" role="img" aria-label="{label}: {value}">
<title>{title}</title>
<rect width="{all}" height="20" rx="3" fill="#3d4148"/>
<path d="M{left} 0h{bend}a3 3 0 0 1 3 3v14a3 3 0 0 1 -3 3h-{bend}z" fill="#1f6f8b"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">
<text x="7" y="14" textLength="{label_n}">{label}</text>
<text x="{value_at}" y="14" textLength="{value_n}">{value}</text>
</g>
</svg>
"""


def read():
    with open(os.path.join(ROOT, "docs", "measured.json")) as f:
        return json.load(f)


def width(text):
    """Of Verdana at 11 pixels, as near as it need be: textLength makes it so."""
    return round(sum(3.9 if c in "il.,:;|'! " else 9.5 if c in "mwMW%→" else 6.9 for c in text))


def badge(figure):
    label, value = figure["badge"]
    label_n, value_n = width(label), width(value)
    left = label_n + 14
    return SVG.format(all=left + value_n + 14, left=left, bend=value_n + 11, label_n=label_n, value_n=value_n, value_at=left + 7,
                      label=html.escape(label), value=html.escape(value),
                      title=html.escape("%s: %s (%s)" % (figure["what"], figure["value"], figure["command"])))


def images(data):
    return " ".join("![%s: %s](docs/badges/%s.svg)" % (*f["badge"], f["name"]) for f in data["figures"] if "badge" in f)


def table(data):
    rows = ["| what | figure | measured by | on |", "|---|---|---|---|"]
    rows += ["| %s | %s | `%s` | %s, %s |" % (f["what"], f["value"], f["command"], f["machine"], f["commit"]) for f in data["figures"]]
    return "\n".join(rows) + "\n"


def made(data):
    """{path: text} of all that is made."""
    with open(os.path.join(ROOT, "README.md")) as f:
        readme = f.read()
    parts = readme.split(BEGIN)
    for i, text in ((1, images(data) + "\n"), (2, table(data))):
        parts[i] = text + END + parts[i].split(END, 1)[1]
    files = {"docs/badges/%s.svg" % f["name"]: badge(f) for f in data["figures"] if "badge" in f}
    return {**files, "README.md": BEGIN.join(parts)}


def is_now(path):
    try:
        with open(os.path.join(ROOT, path)) as f:
            return f.read()
    except FileNotFoundError:
        return None


def main():
    files, failed = made(read()), 0
    left = {"docs/badges/" + n for n in os.listdir(HERE) if n.endswith(".svg")} - set(files)
    for path in sorted(left) + [p for p, text in files.items() if is_now(p) != text]:
        if "--check" in sys.argv:
            print("%s is not what docs/measured.json makes: run ./dev docs" % path, file=sys.stderr)
            failed = 1
        elif path in left:
            os.unlink(os.path.join(ROOT, path))
        else:
            with open(os.path.join(ROOT, path), "w") as f:
                f.write(files[path])
    return failed


if __name__ == "__main__":
    sys.exit(main())
