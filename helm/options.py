#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes what the chart knows of options from the option table, as `jetrouter docs options` prints it, and of
permissions of NATS from the lists of docs/operations.md:

    jetrouter/files/options.yaml           command: {flag: environment variable}
    jetrouter/files/permissions-ROLE.txt   `publish SUBJECT` and `subscribe SUBJECT`
    jetrouter/values.schema.json           schema.json with its "#/$defs/COMMAND-options" filled in

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
