#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes what the chart knows of options from the option table, as `jetrouter docs options` prints it, and of
permissions of NATS from the lists of docs/operations.md:

    jetrouter/files/options.yaml           command: {flag: environment variable}
    jetrouter/files/permissions-ROLE.txt   `publish SUBJECT` and `subscribe SUBJECT`
    jetrouter/values.schema.json           schema.json with its "#/$defs/COMMAND-options" filled in
    jetrouter/README.md                    the values with their defaults, and what values.yaml says of them

usage: options.py [--check] JETROUTER      --check: compares, and ends with 1 when they differ"""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
COMMANDS = ("frontend", "bridge", "mocker")  # those the chart runs
BYTES = r"^[0-9]+([KMGTkmgt][iI]?)?[bB]?$"  # config.c, unit_of


def one(row):
    """What one value may be."""
    kind, low, high = row["type"], row.get("min"), row.get("max")
    if kind == "bool":
        return {"type": "boolean"}
    if kind == "choice":
        return {"enum": row["choices"]}
    if kind in ("integer", "port", "number", "bytes"):
        number = {"type": "number" if kind == "number" else "integer", "minimum": low, "maximum": high}
        return {"anyOf": [number, {"type": "string", "pattern": BYTES}]} if kind == "bytes" else number
    text = {"type": "string", "minLength": 1}
    if kind == "list":
        scalar = {"anyOf": [text, {"type": "number"}]}
        return {"anyOf": [text, {"type": "number"}, {"type": "array", "minItems": 1, "items": scalar}]}
    return text


def schema(row):
    value = one(row)
    if row["nullable"]:
        value = {"anyOf": [value, {"const": "None"}]}
    return {"description": row["help"], **value}


def permissions(role):
    """The lines of the page of operations between its markers, without what it says of them."""
    with open(os.path.join(os.path.dirname(HERE), "docs", "operations.md")) as f:
        part = f.read().split("<!-- permissions of a %s -->" % role)[1].split("```text\n")[1].split("```")[0]
    lines = [" ".join(line.split()[:2]) for line in part.strip().splitlines()]
    return "\n".join(["# Made from docs/operations.md by `./dev docs`; do not edit."] + lines) + "\n"


def values_rows():
    """(path, default or None of a group, what is said of it) of values.yaml, and (title,) of its parts. A value about which
    neither it nor its group says anything is an error."""
    with open(os.path.join(HERE, "jetrouter", "values.yaml")) as f:
        lines = f.read().splitlines()
    rows, keys, said = [], [], []  # keys: (name, is anything said of it) of the groups around
    for at, line in enumerate(lines[1:], 1):
        text = line.strip()
        depth = (len(line) - len(line.lstrip())) // 2
        if not text:
            said = []
        elif text.startswith("# ---"):
            rows.append((text.strip("# -"),))
        elif text.startswith("#"):
            said.append(text.lstrip("# "))
        elif text.startswith("- "):
            rows[-1] = (rows[-1][0], (rows[-1][1] + " " + text).strip(), rows[-1][2])
        else:
            name, _, rest = text.partition(":")
            default, _, comment = rest.partition(" # ")
            default, what = default.strip(), " ".join(said + [comment.strip()]).strip()
            keys[depth:] = [(name, bool(what))]
            follow = next((n for n in lines[at + 1:] if n.strip()), "")
            group = not default and len(follow) - len(follow.lstrip()) > 2 * depth and not follow.strip().startswith("- ")
            if not group and not what and not any(k for _, k in keys[:-1]):
                raise SystemExit("values.yaml says nothing of %s" % ".".join(k for k, _ in keys))
            rows.append((".".join(k for k, _ in keys), None if group else default, what))
            said = []
    return rows


def readme():
    out = ["# JetRouter", "", "What may be set, made from `values.yaml` by `./dev docs`; how it goes together is in docs/deploy.md of the project."]
    for row in values_rows():
        if len(row) == 1:
            out += ["", "## " + row[0].split(" (")[0].capitalize().replace("Nats", "NATS"), "", "| value | default | what |", "|---|---|---|"]
            continue
        path, default, what = (c.replace("|", "\\|") if c else c for c in row)
        out.append("| `%s` | %s | %s |" % (path, "`%s`" % default if default else "", what))
    return "\n".join(out) + "\n"


def texts(rows):
    """{path: text} of the files."""
    env, defs = {}, {}
    for command in COMMANDS:
        mine = [r for r in rows if command in r["commands"] and r["flag"]]
        env[command] = {r["flag"]: r["env"][0] for r in mine}
        defs[command + "-options"] = {"type": "object", "additionalProperties": False,
                                      "properties": {r["flag"]: schema(r) for r in mine}}
    lines = ["# Made from src/app/config_table.h by `./dev docs`; do not edit."]
    for command in COMMANDS:
        lines.append(command + ":")
        lines += ["  %s: %s" % item for item in env[command].items()]
    with open(os.path.join(HERE, "schema.json")) as f:
        whole = json.load(f)
    whole["$defs"].update(defs)
    return {"jetrouter/files/permissions-router.txt": permissions("router"),
            "jetrouter/files/permissions-bridge.txt": permissions("bridge"),
            "jetrouter/files/options.yaml": "\n".join(lines) + "\n",
            "jetrouter/README.md": readme(),
            "jetrouter/values.schema.json": json.dumps(whole, indent=1, ensure_ascii=False) + "\n"}


def main():
    check, program = sys.argv[1] == "--check", sys.argv[-1]
    rows = json.loads(subprocess.run([program, "docs", "options"], check=True, capture_output=True).stdout)
    status = 0
    for name, text in texts(rows).items():
        path = os.path.join(HERE, name)
        if check:
            with open(path) as f:
                if f.read() != text:
                    print("helm/%s is not what the option table or docs/operations.md says: run ./dev docs" % name, file=sys.stderr)
                    status = 1
        else:
            with open(path, "w") as f:
                f.write(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
