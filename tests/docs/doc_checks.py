# SPDX-License-Identifier: Apache-2.0
"""What is in fences and is no command, given to whom it is for: JSON is read, a policy file and an environment by the
program's --check-config, values by helm, lines of a haproxy.cfg by haproxy."""
import json
import os
import subprocess
import tempfile

import doc_world
import jr_procs as jr


def said(argv, env=None):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=jr.ROOT, env={**os.environ, **(env or {})})
    return done.stdout.strip() or "ended with %d" % done.returncode if done.returncode else None


def check_json(block, _):
    try:
        json.loads(block.text)
    except ValueError as e:
        return str(e)
    return None


def check_ini(block, _):
    return said([doc_world.program_path(), "frontend", "--check-config"], dict(line.split("=", 1) for line in block.text.splitlines()))


def check_yaml(block, path):
    if block.page == "docs/policy-classes.md":
        return said([doc_world.program_path(), "frontend", "--router-mode", "kv", "--router-policy-config", path, "--check-config"])
    if not doc_world.helm():
        return None
    return said([doc_world.helm(), "template", "router", "helm/jetrouter", "--kube-version", "1.30.0", "-f", path])


HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30m
    timeout server 30m
frontend in
    bind 127.0.0.1:1
    default_backend replicas
backend replicas
%s
    server a 127.0.0.1:2 check
"""


def check_haproxy(block, path):
    with open(path, "w") as f:
        f.write(HAPROXY % block.text)
    return said([jr.find_program("haproxy", "haproxy"), "-c", "-f", path])


CHECKS = {"json": check_json, "ini": check_ini, "yaml": check_yaml, "haproxy": check_haproxy}


def check(block):
    """What is wrong with it; None: nothing, or it is only to be looked at."""
    if block.language not in CHECKS:
        return None
    with tempfile.NamedTemporaryFile("w", suffix="." + block.language) as f:
        f.write(block.text + "\n")
        f.flush()
        return CHECKS[block.language](block, f.name)
