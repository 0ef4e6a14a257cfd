# SPDX-License-Identifier: Apache-2.0
"""What is in fences and is no command, given to whom it is for: JSON is read, a policy file by the program's
--check-config, values by helm, a haproxy.cfg by haproxy."""
import json
import subprocess
import tempfile

import doc_world
import jr_procs as jr


def said(argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=jr.ROOT)
    return done.stdout.strip() or "ended with %d" % done.returncode if done.returncode else None


def check_json(block, _):
    try:
        json.loads(block.text)
    except ValueError as e:
        return str(e)
    return None


def check_yaml(block, path):
    if block.page == "docs/policy-classes.md":
        return said([doc_world.program_path(), "frontend", "--router-mode", "kv", "--router-policy-config", path, "--check-config"])
    if not doc_world.helm():
        return None
    return said([doc_world.helm(), "template", "router", "helm/jetrouter", "--kube-version", "1.30.0", "-f", path])


def check_haproxy(_, path):
    return said([jr.find_program("haproxy", "haproxy"), "-c", "-f", path])


CHECKS = {"json": check_json, "yaml": check_yaml, "haproxy": check_haproxy}


def check(block):
    """What is wrong with it; None: nothing, or it is only to be looked at."""
    if block.language not in CHECKS:
        return None
    with tempfile.NamedTemporaryFile("w", suffix="." + block.language) as f:
        f.write(block.text + "\n")
        f.flush()
        return CHECKS[block.language](block, f.name)
