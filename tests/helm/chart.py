# SPDX-License-Identifier: Apache-2.0
"""The chart, rendered. Needs helm (build/go, made by ./dev setup --all, or in PATH), and of PyPI PyYAML and
kubernetes-validate, which a Python venv has (JR_VENV); without, a test says so and is not run."""
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

import jr_procs as jr

try:
    import jsonschema
    import kubernetes_validate
    import yaml
except ImportError:
    yaml = None

CHART = os.path.join(jr.ROOT, "helm", "jetrouter")
OLDEST = "1.30"  # kubeVersion of Chart.yaml


def go_program(name):
    path = os.path.join(jr.ROOT, "build", "go", name)
    return path if os.access(path, os.X_OK) else shutil.which(name)


HELM = go_program("helm")
KUBECONFORM = go_program("kubeconform")


def need():
    """Of setUpModule: what these tests need is there."""
    why = None
    if yaml is None:
        why = "not run: JR_VENV does not name a Python venv with PyYAML and kubernetes-validate"
    elif HELM is None:
        why = "not run: there is no helm"
    if why:
        print(why + " (./dev setup --all)")
        raise unittest.SkipTest(why)


def use_venv(file):
    """The same again with the venv's Python, when it has what this one lacks."""
    python = os.path.join(os.environ.get("JR_VENV", ""), "bin", "python")
    if yaml is None and os.environ.get("JR_VENV") and os.path.exists(python) and sys.executable != python:
        os.execv(python, [python, os.path.abspath(file), *sys.argv[1:]])


def helm(*words, values=None, check=True):
    """A helm command on the chart with these values; (exit code, stdout, stderr)."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        yaml.safe_dump(values or {}, f)
        f.flush()
        done = subprocess.run([HELM, *words, "-f", f.name], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise AssertionError("helm %s: %s" % (" ".join(words), done.stderr))
    return done.returncode, done.stdout, done.stderr


def template(values=None, check=True, version=OLDEST, name="rel", served=()):
    """served: what a cluster has beside Kubernetes' own, as gateway.networking.k8s.io/v1/HTTPRoute."""
    return helm("template", name, CHART, "--namespace", "llm", "--kube-version", version + ".0",
                *("--api-versions=" + s for s in served), values=values, check=check)


class Release:
    """What an installation would make; r["Deployment", "rel-jetrouter"] is an object."""

    def __init__(self, values=None, version=OLDEST, name="rel", served=()):
        self.objects = [o for o in yaml.safe_load_all(template(values, version=version, name=name, served=served)[1]) if o]
        self.named = {(o["kind"], o["metadata"]["name"]): o for o in self.objects}
        assert len(self.named) == len(self.objects), "two objects of one name"

    def __getitem__(self, key):
        return self.named[key]

    def of(self, kind):
        return [o for o in self.objects if o["kind"] == kind]

    def pods(self):
        """(name, labels, spec) of all Pods and templates of Pods."""
        for o in self.objects:
            spec = o.get("spec", {})
            if o["kind"] == "Pod":
                yield o["metadata"]["name"], o["metadata"]["labels"], spec
            elif "template" in spec:
                yield o["metadata"]["name"], spec["template"]["metadata"]["labels"], spec["template"]["spec"]


class Cluster:
    """As much of Kubernetes' API as templates ask of it: objects by kind and name, and which kinds there are."""
    KINDS = {"/api/v1": ("v1", "Secret", "secrets"), "/apis/apps/v1": ("apps/v1", "Deployment", "deployments")}

    def __init__(self, objects=()):
        self.objects = {(o["kind"].lower() + "s", o["metadata"]["name"]): o for o in objects}

    def answer(self, path):
        if path in self.KINDS:
            group, kind, plural = self.KINDS[path]
            return {"kind": "APIResourceList", "groupVersion": group, "resources": [
                {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}]}
        return self.objects.get(tuple(path.split("/")[-2:]))

    def render(self, values=None):
        """What an upgrade of a release that has these objects would make."""
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                found = cluster.answer(self.path.split("?")[0])
                missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
                body = json.dumps(found or missing).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                said = helm("template", "rel", CHART, "--namespace", "llm", "--kube-version", OLDEST + ".0", "--dry-run=server",
                            "--kubeconfig", os.devnull, "--kube-apiserver", "http://127.0.0.1:%d" % server.server_port,
                            values=values)[1]
            finally:
                server.shutdown()
                thread.join()
        return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(said) if o}


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def env(container):
    """{name: value}; of a value that comes from elsewhere the reference."""
    found = {}
    for e in container.get("env", []):
        assert e["name"] not in found, "%s twice" % e["name"]
        found[e["name"]] = e["value"] if "value" in e else e["valueFrom"]
    return found


def options():
    """The option table, a dict each row."""
    said = subprocess.run([jr.JETROUTER, "docs", "options"], capture_output=True, check=True).stdout
    return json.loads(said)


# Kinds that come with operators: what of their specs is used here, checked as strictly.
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SELECTOR = {"type": "object", "required": ["matchLabels"], "additionalProperties": False,
            "properties": {"matchLabels": TEXTS}}
ENDPOINT = {"type": "object", "additionalProperties": False, "required": ["port"], "properties": {
    "port": {"type": "string"}, "path": {"type": "string"}, "interval": {"type": "string"},
    "honorLabels": {"type": "boolean"}, "scheme": {"enum": ["http", "https"]},
    "tlsConfig": {"type": "object", "additionalProperties": False,
                  "properties": {"insecureSkipVerify": {"type": "boolean"}}}}}
RULE = {"type": "object", "additionalProperties": False, "required": ["expr"], "properties": {
    "alert": {"type": "string"}, "record": {"type": "string"}, "expr": {"type": "string"}, "for": {"type": "string"},
    "labels": TEXTS, "annotations": TEXTS}}


def spec(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def ref(kind):
    return spec(["group", "kind", "name"], group={"const": ""}, kind={"const": kind}, name={"type": "string", "minLength": 1})


# Authorities are named or the system's, not both.
BACKEND_TLS = spec(
    ["targetRefs", "validation"], targetRefs={"type": "array", "minItems": 1, "maxItems": 16, "items": ref("Service")},
    validation={**spec(["hostname"], hostname={"type": "string", "minLength": 1, "maxLength": 253},
                       caCertificateRefs={"type": "array", "minItems": 1, "maxItems": 8, "items": ref("ConfigMap")},
                       wellKnownCACertificates={"const": "System"}),
                "oneOf": [{"required": ["caCertificateRefs"]}, {"required": ["wellKnownCACertificates"]}]})

CUSTOM = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): spec(
        ["selector", "endpoints"], jobLabel={"type": "string"}, selector=SELECTOR,
        endpoints={"type": "array", "minItems": 1, "items": ENDPOINT}),
    ("monitoring.coreos.com/v1", "PodMonitor"): spec(
        ["selector", "podMetricsEndpoints"], jobLabel={"type": "string"}, selector=SELECTOR,
        podMetricsEndpoints={"type": "array", "minItems": 1, "items": ENDPOINT}),
    ("monitoring.coreos.com/v1", "PrometheusRule"): spec(
        ["groups"], groups={"type": "array", "minItems": 1, "items": {
            "type": "object", "additionalProperties": False, "required": ["name", "rules"],
            "properties": {"name": {"type": "string"}, "rules": {"type": "array", "items": RULE, "minItems": 1}}}}),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): spec(
        ["parentRefs", "rules"], hostnames={"type": "array", "items": {"type": "string"}},
        parentRefs={"type": "array", "minItems": 1, "items": {"type": "object", "required": ["name"]}},
        rules={"type": "array", "minItems": 1, "items": spec(
            ["backendRefs"], matches={"type": "array"}, timeouts=TEXTS, backendRefs={"type": "array", "minItems": 1})}),
    ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"): BACKEND_TLS,
    ("gateway.networking.k8s.io/v1alpha3", "BackendTLSPolicy"): BACKEND_TLS,
}


def validate(o, version):
    """Against the schema of that Kubernetes version, unknown fields refused."""
    custom = CUSTOM.get((o["apiVersion"], o["kind"]))
    if custom is None:
        kubernetes_validate.validate(o, version, strict=True)
    else:
        jsonschema.validate(o["spec"], custom)


def schema(o, version):
    """The strict schema of an object's kind as one file, with no more definitions than it uses."""
    custom = CUSTOM.get((o["apiVersion"], o["kind"]))
    if custom is not None:
        text = {"type": "string"}
        return {"type": "object", "additionalProperties": False, "required": ["apiVersion", "kind", "metadata", "spec"],
                "properties": {"apiVersion": text, "kind": text, "metadata": {"type": "object"}, "spec": custom}}
    folder = os.path.join(os.path.dirname(kubernetes_validate.__file__), "kubernetes-json-schema",
                          "v%s.0-local-strict" % version)
    with open(os.path.join(folder, schema_name(o))) as f:
        found = f.read()
    with open(os.path.join(folder, "_definitions.json")) as f:
        known = json.load(f)["$defs"]
    used, left = {}, set(USES.findall(found))
    while left:
        name = left.pop()
        used[name] = known[name]
        left |= set(USES.findall(json.dumps(known[name]))) - set(used)
    whole = json.loads(found)
    whole.pop("$id", None)
    return json.loads(USES.sub(r'"$ref": "#/$defs/\1"', json.dumps({**whole, "$defs": used})))


USES = re.compile(r'"\$ref": "(?:/api/_definitions.json)?#/\$defs/([^"]+)"')


def schema_name(o):
    """deployment-apps-v1.json, as kubeconform and kubernetes-validate both call it."""
    group, _, version = o["apiVersion"].rpartition("/")
    return "-".join(filter(None, [o["kind"].lower(), group.split(".")[0], version])) + ".json"


def kubeconform(objects, version):
    """What a second program says of the objects: [(kind and name, message)] of those that are not valid."""
    with tempfile.TemporaryDirectory() as folder:
        for o in objects:
            with open(os.path.join(folder, schema_name(o)), "w") as f:
                json.dump(schema(o, version), f)
        done = subprocess.run(
            [KUBECONFORM, "-strict", "-verbose", "-output", "json", "-kubernetes-version", version + ".0", "-schema-location",
             os.path.join(folder, "{{.ResourceKind}}{{.KindSuffix}}.json"), "-"],
            input=yaml.safe_dump_all(objects), capture_output=True, text=True)
    said = json.loads(done.stdout)["resources"]
    assert len(said) == len(objects), done.stderr
    return [("%(kind)s %(name)s" % r, r["msg"]) for r in said if r["status"] != "statusValid"]
