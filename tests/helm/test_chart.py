# SPDX-License-Identifier: Apache-2.0
"""The Helm chart: it renders over many sets of values, what it renders is valid for Kubernetes and fits together,
bad values are refused, and every option arrives in the environment as the option table has it."""
import functools
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import chart
import jr_procs as jr

NAME = "rel-jetrouter"
VERSIONS = (chart.OLDEST, "1.34")

# What people do with it. Secrets that are named here are the user's.
VALUE_SETS = {
    "as it is": {},
    "nothing optional": {
        "pdb": {"enabled": False}, "networkPolicy": {"enabled": False}, "serviceAccount": {"create": False},
        "bridge": {"sidecarSnippet": {"enabled": False}}, "preStopSeconds": 0, "topologySpread": [], "replicas": 1},
    "everything": {
        "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "front-tls",
                    "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"}},
        "gateway": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["llm.example.com"],
                    "timeouts": {"request": "1800s"}, "backendTLS": {"enabled": True, "caConfigMapName": "jetrouter-ca"}},
        "autoscaling": {"enabled": True}, "serviceMonitor": {"enabled": True, "labels": {"release": "prom"}},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "LLM"}}, "alerts": {"enabled": True},
        "reset": {"token": "2026-1", "now": True}, "tls": {"secretName": "jetrouter-tls"},
        "workersCa": {"secretName": "workers-ca"}, "bridge": {"daemonSet": {"enabled": True}},
        "mocker": {"enabled": True, "nodeSelector": {"pool": "cpu"}, "priorityClassName": "low"}, "test": {"model": "mock-model"},
        "image": {"tag": "0.2.0", "pullSecrets": [{"name": "pull"}]},
        "policyConfig": "policy_classes: []\n", "podAnnotations": {"a": "b"}, "podLabels": {"team": "llm"}, "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "cpu", "operator": "Exists"}], "priorityClassName": "high",
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}},
    "NATS of one's own, credentials file and TLS": {
        "nats": {"enabled": False, "url": "tls://nats.infra:4222,tls://nats-b.infra:4443", "streamReplicas": 3,
                 "auth": {"frontend": {"secretName": "nats-router", "credentialsKey": "router.creds"},
                          "bridge": {"secretName": "nats-bridge", "credentialsKey": "bridge.creds"}},
                 "tls": {"secretName": "nats-tls", "clientCertificate": True}},
        "mocker": {"enabled": True}, "bridge": {"daemonSet": {"enabled": True}}},
    "NATS of one's own, password, token, nkey": {
        "nats": {"enabled": False, "url": "nats://nats.infra:4222",
                 "auth": {"frontend": {"secretName": "nats", "usernameKey": "user", "passwordKey": "password"},
                          "bridge": {"secretName": "nats", "nkeyKey": "seed"}}},
        "mocker": {"enabled": True}},
    "TLS of the chart's NATS": {"nats": {"tls": {"server": {"secretName": "nats-servers"}}}, "mocker": {"enabled": True}},
    "TLS of the chart's NATS, clients with certificates": {
        "nats": {"tls": {"secretName": "nats-clients", "clientCertificate": True, "server": {
            "secretName": "nats-servers", "requireClientCertificate": True}}},
        "mocker": {"enabled": True}, "bridge": {"daemonSet": {"enabled": True}}},
    "several pools": {
        "config": {"router-mode": "kv", "namespace": "Prod.EU", "component": ["red", "blue.1"]},
        "nats": {"extraPools": [{"namespace": "prod", "component": "green"}], "storage": {"size": "30Gi", "maxFileStore": "27GB"}}},
    "pools that are found": {"config": {"router-mode": "kv", "discover-pools": True}},
    "one NATS server, safe at power failures": {
        "nats": {"replicas": 1, "syncAlways": True, "passwordsSecretName": "nats-passwords",
                 "storage": {"className": "fast", "size": "100Gi", "maxFileStore": "90GB"}},
        "admin": {"port": 9999, "token": {"secretName": "admin-token", "key": "t"}}},
    "other ports and long drains": {
        "config": {"http-port": 9000, "drain-timeout-secs": 900.5, "drain-delay-secs": 7, "stream-max-bytes": 68719476736,
                   "lease-ttl-secs": 10, "router-temperature": 0.25, "retry-statuses": [502, 503]},
        "nats": {"storage": {"size": "100Gi", "maxFileStore": "90GB"}},
        "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}}, "preStopSeconds": 10},
    "who may reach what": {
        "networkPolicy": {"clients": [{"namespaceSelector": {"matchLabels": {"name": "apps"}}}],
                          "admins": [{"namespaceSelector": {"matchLabels": {"name": "ops"}}}],
                          "workers": [{"podSelector": {"matchLabels": {"app": "vllm"}}}],
                          "collector": [{"namespaceSelector": {"matchLabels": {"name": "otel"}}}]}},
    "traces": {"config": {"otel-export-enabled": True, "otel-exporter-otlp-endpoint": "https://otel.example.com"},
               "otlpHeaders": {"secretName": "otlp"}},
    "a platform that gives users": {"platformUser": True, "mocker": {"enabled": True}, "reset": {"now": True}},
    "another name, more of one's own": {
        "fullnameOverride": "router", "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"name": "log", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "log", "mountPath": "/var/log/jetrouter"}],
        "config": {"router-mode": "kv", "access-log": "full", "access-log-file": "/var/log/jetrouter/access"}},
}
OF_THE_USER = {"front-tls", "jetrouter-tls", "workers-ca", "nats-router", "nats-bridge", "nats-tls", "nats",
               "nats-passwords", "nats-servers", "nats-clients", "admin-token", "otlp"}

# (values, what the refusal names)
BAD = [
    ({"replicas": 0}, "replicas"),
    ({"replicas": "3"}, "replicas"),
    ({"replica": 3}, "replica"),
    ({"config": {"router-mod": "kv"}}, "router-mod"),
    ({"config": {"router-mode": "fastest"}}, "router-mode"),
    ({"config": {"http-port": 70000}}, "http-port"),
    ({"config": {"http-port": 0}}, "http-port"),
    ({"config": {"admin-port": 0}}, "admin-port"),
    ({"config": {"admin-port": "None"}}, "admin-port"),
    ({"bridge": {"config": {"system-port": 0}}}, "system-port"),
    ({"bridge": {"config": {"system-port": "None"}, "daemonSet": {"enabled": True}}}, "system-port"),
    ({"config": {"router-temperature": "hot"}}, "router-temperature"),
    ({"config": {"http-threads": 1.5}}, "http-threads"),
    ({"config": {"tokenizer-prefixes": "yes"}}, "tokenizer-prefixes"),
    ({"config": {"stream-max-bytes": "lots"}}, "stream-max-bytes"),
    ({"config": {"stream-max-bytes": "1.5GiB"}}, "stream-max-bytes"),
    ({"config": {"block-size": 16}}, "block-size"),  # a bridge's
    ({"config": {"namespace": ""}}, "namespace"),
    ({"config": {"component": []}}, "component"),
    ({"bridge": {"config": {"router-mode": "kv"}}}, "router-mode"),
    ({"mocker": {"config": {"fault": {}}}}, "fault"),
    ({"mocker": {"enabled": True, "config": {"num-workers": 2}}}, "mocker.replicas"),
    ({"nats": {"enabled": False}}, "url"),
    ({"nats": {"enabled": False, "url": "http://nats"}}, "url"),
    ({"nats": {"replicas": 2}}, "replicas"),
    # Half of TLS.
    ({"nats": {"tls": {"secretName": "clients"}}}, "nats.tls.server.secretName"),
    ({"nats": {"tls": {"clientCertificate": True, "server": {"secretName": "s"}}}}, "nats.tls.secretName"),
    ({"nats": {"tls": {"server": {"requireClientCertificate": True}}}}, "nats.tls.server.secretName"),
    ({"nats": {"tls": {"server": {"secretName": "s", "requireClientCertificate": True}}}}, "nats.tls.clientCertificate"),
    ({"nats": {"enabled": False, "url": "tls://x", "tls": {"server": {"secretName": "s"}}}}, "nats.tls.server"),
    ({"nats": {"enabled": False, "url": "tls://x", "tls": {"clientCertificate": True}}}, "nats.tls.secretName"),
    ({"nats": {"streamReplicas": 6}}, "streamReplicas"),
    ({"nats": {"streamReplicas": 5}}, "nats.streamReplicas"),  # of three servers
    ({"nats": {"replicas": 1}, "config": {"nats-replicas": 3}}, "nats.streamReplicas"),
    # Of three servers with 18 GB each.
    ({"config": {"component": ["a", "b", "c"]}}, "nats.storage.maxFileStore"),
    ({"config": {"stream-max-bytes": "64GiB"}}, "nats.storage.maxFileStore"),
    ({"config": {"stream-max-bytes": 19327352833}}, "nats.storage.maxFileStore"),
    ({"nats": {"extraPools": [{"namespace": "x", "component": c} for c in "ab"]}}, "nats.storage.maxFileStore"),
    ({"nats": {"storage": {"size": "20"}}}, "size"),
    ({"nats": {"extraPools": [{"namespace": "x"}]}}, "component"),
    ({"tls": {"secretName": "Not A Name"}}, "secretName"),
    ({"admin": {"port": 0}}, "port"),
    ({"gateway": {"enabled": True}}, "gateway.parentRefs"),
    ({"gateway": {"timeouts": {"request": "long"}}}, "request"),
    ({"gateway": {"timeouts": {"whole": "9s"}}}, "whole"),
    ({"gateway": {"enabled": True, "parentRefs": [{"name": "g"}], "backendTLS": {"enabled": True}}}, "tls.secretName"),
    ({"gateway": {"backendTLS": {"hostname": "*.example.com"}}}, "hostname"),
    ({"gateway": {"backendTLS": {"caConfigMapName": "Not A Name"}}}, "caConfigMapName"),
    ({"pdb": {"maxUnavailable": "half"}}, "maxUnavailable"),
    ({"pdb": {"maxUnavailable": 0}}, "maxUnavailable"),  # no node could be drained
    ({"pdb": {"maxUnavailable": "0%"}}, "maxUnavailable"),
    ({"podLabels": {"app.kubernetes.io/component": "x"}}, "component"),
    ({"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}, "minReplicas"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"reset": {"token": "t" * 64}}, "token"),
    ({"service": {"type": "Public"}}, "type"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"topologySpread": [{"maxSkew": 1}]}, "topologyKey"),
    ({"serviceMonitor": {"interval": "often"}}, "interval"),
    ({"reset": {"now": "yes"}}, "now"),
]


LABEL = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")
DNS_LABEL = re.compile(r"^[a-z]([a-z0-9-]*[a-z0-9])?$")


def setUpModule():
    chart.need()


def fits(selector, labels):
    return all(labels.get(k) == v for k, v in selector.items())


@functools.lru_cache
def releases():
    return {name: chart.Release(values) for name, values in VALUE_SETS.items()}


class Rendered(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.releases = releases()

    def each(self):
        for name, release in self.releases.items():
            with self.subTest(name):
                yield release

    def test_lint(self):
        for name, values in VALUE_SETS.items():
            with self.subTest(name):
                # Lint knows no Kubernetes version but its own; the templates do not ask for one.
                said = chart.helm("lint", "--strict", "--kube-version", chart.OLDEST + ".0", chart.CHART,
                                  values=values)[1]
                self.assertIn("0 chart(s) failed", said)

    def test_valid_for_kubernetes(self):
        seen = set()  # most sets have most objects alike
        for release in self.each():
            for o in release.objects:
                text = json.dumps(o, sort_keys=True)
                for version in VERSIONS if text not in seen else ():
                    chart.validate(o, version)
                seen.add(text)

    def test_valid_for_a_second_program(self):
        if chart.KUBECONFORM is None:
            print("not run: there is no kubeconform (./dev setup --all)")
            self.skipTest("there is no kubeconform")
        every = {json.dumps(o, sort_keys=True): o for r in self.releases.values() for o in r.objects}
        for version in VERSIONS:
            self.assertEqual(chart.kubeconform(list(every.values()), version), [])
        # It does say what is wrong, strictly.
        r = chart.Release(VALUE_SETS["everything"])
        r["Deployment", NAME]["spec"]["template"]["spec"]["containers"][0]["prots"] = []
        r["PrometheusRule", NAME]["spec"]["groups"][0]["rules"][0]["four"] = "5m"
        self.assertEqual(sorted(name for name, _ in chart.kubeconform(r.objects, VERSIONS[0])),
                         ["Deployment " + NAME, "PrometheusRule " + NAME])

    def test_selectors_fit_and_are_apart(self):
        for release in self.each():
            pods = list(release.pods())
            for o in release.objects:
                spec = o.get("spec", {})
                if o["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
                    labels = spec["template"]["metadata"]["labels"]
                    self.assertTrue(fits(spec["selector"]["matchLabels"], labels), o["metadata"]["name"])
                    self.assertEqual([n for n, l, _ in pods if fits(spec["selector"]["matchLabels"], l)],
                                     [o["metadata"]["name"]])
                elif o["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
                    selector = spec.get("selector", spec.get("podSelector"))["matchLabels"]
                    self.assertEqual(len([n for n, l, _ in pods if fits(selector, l)]), 1, o["metadata"]["name"])
                elif o["kind"] == "PodMonitor":
                    found = [n for n, l, _ in pods if fits(spec["selector"]["matchLabels"], l)]
                    self.assertEqual(sorted(found), [NAME + "-bridge", NAME + "-mocker"])
                elif o["kind"] == "ServiceMonitor":
                    found = [s for s in release.of("Service") if fits(spec["selector"]["matchLabels"], s["metadata"]["labels"])]
                    self.assertEqual([s["metadata"]["name"] for s in found], [NAME])

    def test_services_reach_ports_that_are_there(self):
        for release in self.each():
            for s in release.of("Service"):
                ports = [p["name"] for _, labels, spec in release.pods() if fits(s["spec"]["selector"], labels)
                         for c in chart.containers(spec) for p in c.get("ports", [])]
                for port in s["spec"]["ports"]:
                    self.assertIn(port["targetPort"], ports, s["metadata"]["name"])
            for name, _, spec in release.pods():
                for c in chart.containers(spec):
                    ports = [p["name"] for p in c.get("ports", [])]
                    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                        if probe in c:
                            self.assertIn(c[probe]["httpGet"]["port"], ports, name)

    def test_what_may_never_change(self):
        """Kubernetes refuses an upgrade that changes these, whatever values are switched on or off."""
        def fixed(o):
            spec = o["spec"]
            return [spec["selector"], spec.get("serviceName"), spec.get("podManagementPolicy"),
                    [c["metadata"] for c in spec.get("volumeClaimTemplates", [])]]
        seen = {}
        for name, release in self.releases.items():
            for o in release.objects:
                key = o["kind"], o["metadata"]["name"]
                if "fullnameOverride" in VALUE_SETS[name]:
                    continue  # a new name is a new object
                if o["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
                    self.assertEqual(fixed(o), seen.setdefault(key, fixed(o)), key)
                if o["kind"] == "Service":
                    self.assertEqual(o["spec"].get("clusterIP"), seen.setdefault(key, o["spec"].get("clusterIP")), key)

    def test_names_of_every_length_and_kind(self):
        longest = {"StatefulSet": 52, "Deployment": 52, "DaemonSet": 52}  # a hash is hung on
        for name, more in (("a-release-name-as-long-as-helm-takes-them-53-chars-00", {}), ("1.2", {}), ("7b.llm.eu", {}),
                           ("true", {}), ("rel", {"nameOverride": "x" * 60}), ("rel", {"fullnameOverride": "9" * 60}),
                           ("rel", {"image": {"tag": "t" * 100 + "."}}), ("rel", {"nameOverride": "a.b"})):
            release = chart.Release({**VALUE_SETS["everything"], **more}, name=name)
            for o in release.objects:
                with self.subTest(name, kind=o["kind"], object=o["metadata"]["name"]):
                    chart.validate(o, VERSIONS[0])
                    self.assertLessEqual(len(o["metadata"]["name"]), longest.get(o["kind"], 63))
                    self.assertRegex(o["metadata"]["name"], DNS_LABEL)
                    for labels in (o["metadata"]["labels"], o.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})):
                        for value in labels.values():
                            self.assertRegex(value, LABEL)

    def test_the_autoscaler_asks_for_a_metric_that_is_there(self):
        hpa = self.releases["everything"]["HorizontalPodAutoscaler", NAME]["spec"]
        names = [m["pods"]["metric"]["name"] for m in hpa["metrics"] if m["type"] == "Pods"]
        table = subprocess.run([jr.JETROUTER, "docs", "metrics"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(len(names), 1)
        self.assertRegex(table, r"\| `%s` \| gauge" % names[0])
        self.assertNotIn("replicas", self.releases["everything"]["Deployment", NAME]["spec"])

    def test_images_by_digest(self):
        digest = "sha256:" + "0" * 64
        release = chart.Release({"image": {"tag": "1", "digest": digest}, "mocker": {"enabled": True}})
        images = {c["image"] for _, _, spec in release.pods() for c in chart.containers(spec) if c["name"] != "nats"}
        self.assertEqual(images, {"jetrouter@" + digest})

    def test_what_is_mounted_or_read_is_there(self):
        for release in self.each():
            mine = {k: {o["metadata"]["name"] for o in release.of(k)} for k in ("Secret", "ConfigMap")}
            for name, _, spec in release.pods():
                volumes = {v["name"]: v for v in spec.get("volumes", [])}
                for t in release.of("StatefulSet"):
                    if t["metadata"]["name"] == name:
                        volumes.update((c["metadata"]["name"], {}) for c in t["spec"]["volumeClaimTemplates"])
                for v in volumes.values():
                    if "secret" in v:
                        self.secret(release, mine, v["secret"]["secretName"], [i["key"] for i in v["secret"].get("items", [])])
                    if "configMap" in v:
                        self.assertIn(v["configMap"]["name"], mine["ConfigMap"])
                for c in chart.containers(spec):
                    for m in c.get("volumeMounts", []):
                        self.assertIn(m["name"], volumes, name)
                    for value in chart.env(c).values():
                        if isinstance(value, dict) and "secretKeyRef" in value:
                            self.secret(release, mine, value["secretKeyRef"]["name"], [value["secretKeyRef"]["key"]])
                        elif isinstance(value, str) and value.startswith("/etc/jetrouter/"):
                            self.assertTrue(any(value.startswith(m["mountPath"]) for m in c["volumeMounts"]), value)

    def secret(self, release, mine, name, keys):
        if name in OF_THE_USER:
            return
        self.assertIn(name, mine["Secret"])
        for key in keys:
            self.assertIn(key, release["Secret", name]["data"])

    def test_pods_have_no_rights(self):
        for release in self.each():
            for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
                self.assertEqual(release.of(kind), [])
            for account in release.of("ServiceAccount"):
                self.assertIs(account["automountServiceAccountToken"], False)
            for name, _, spec in release.pods():
                self.assertIs(spec["automountServiceAccountToken"], False, name)
                self.assertIs(spec["securityContext"]["runAsNonRoot"], True, name)
                self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"}, name)
                users = {s.get(key) for s in [spec["securityContext"], *(c["securityContext"] for c in chart.containers(spec))]
                         for key in ("runAsUser", "runAsGroup", "fsGroup")} - {None}
                given = release is self.releases["a platform that gives users"]
                self.assertEqual(users, set() if given else {1000} if name.endswith("-nats") else {65532}, name)
                for c in chart.containers(spec):
                    s = c["securityContext"]
                    self.assertIs(s["readOnlyRootFilesystem"], True, name)
                    self.assertIs(s["allowPrivilegeEscalation"], False, name)
                    self.assertEqual(s["capabilities"], {"drop": ["ALL"]}, name)
                    self.assertIn("memory", c["resources"]["limits"], name)

    def test_policies_let_pass_what_is_needed_and_nothing_else(self):
        monitor = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
        apps = {"namespaceSelector": {"matchLabels": {"name": "apps"}}}
        engines = {"podSelector": {"matchLabels": {"app": "vllm"}}}
        release = chart.Release({
            "networkPolicy": {"clients": [apps], "monitoring": [monitor], "workers": [engines]},
            "mocker": {"enabled": True}, "bridge": {"daemonSet": {"enabled": True}}, "reset": {"now": True}})
        pods = {name: labels for name, labels, _ in release.pods()}
        front, nats, job, test = pods[NAME], pods[NAME + "-nats"], pods[NAME + "-reset"], pods[NAME + "-test"]
        bridge, engine, other = pods[NAME + "-bridge"], {"app": "vllm"}, {"app": "other"}
        ports = {p["name"]: p["containerPort"] for _, _, spec in release.pods() for c in chart.containers(spec) for p in c.get("ports", [])}

        def peer_fits(peer, who):
            if isinstance(who, str):  # a namespace
                return peer.get("namespaceSelector", {}).get("matchLabels") == {"name": who}
            return "namespaceSelector" not in peer and fits(peer["podSelector"].get("matchLabels", {}), who)

        def passes(way, mine, other, port):
            """Do the policies of the Pods of these labels let them reach, or be reached by, the other?"""
            policies = [p["spec"] for p in release.of("NetworkPolicy") if not isinstance(mine, str)
                        and fits(p["spec"]["podSelector"]["matchLabels"], mine) and way in p["spec"]["policyTypes"]]
            rules = [r for p in policies for r in p.get(way.lower(), [])]
            peers = "to" if way == "Egress" else "from"
            return not policies or any(
                (peers not in r or any(peer_fits(p, other) for p in r[peers]))
                and ("ports" not in r or any(p["port"] in (port, ports.get(port)) for p in r["ports"])) for r in rules)

        def reaches(a, b, port):
            return passes("Egress", a, b, port) and passes("Ingress", b, a, port)

        for a, b, port in [(front, nats, "client"), (bridge, nats, "client"), (engine, nats, "client"), (nats, nats, "cluster"),
                           (job, front, "admin"), (test, front, "http"), ("apps", front, "http"), ("monitoring", front, "http"),
                           ("monitoring", nats, "monitor"), (front, engine, 8000), (front, "kube-system", 53), (nats, "kube-system", 53),
                           (front, "kube-system", 5353), (nats, "kube-system", 5353),
                           ("monitoring", bridge, "bridge")]:
            with self.subTest("needed", a=a, b=b, port=port):
                self.assertTrue(passes("Egress", a, b, port) if b == "kube-system" else reaches(a, b, port))
        for a, b, port in [(other, front, "http"), (other, front, "admin"), ("apps", front, "admin"), ("monitoring", front, "admin"),
                           (front, nats, "cluster"), (other, nats, "cluster"), ("apps", nats, "monitor"), (front, other, 8000),
                           (nats, engine, 8000), (nats, "apps", 443), (front, "apps", 443)]:
            with self.subTest("not needed", a=a, b=b, port=port):
                self.assertFalse(reaches(a, b, port))
        # Not every network knows the names of ports at the other end.
        for p in release.of("NetworkPolicy"):
            for port in [port for rule in p["spec"]["egress"] for port in rule.get("ports", [])]:
                self.assertIsInstance(port["port"], int)
        # Nobody said who: requests from all, workers anywhere; not /admin and not the routes.
        release = chart.Release()
        self.assertTrue(reaches(other, front, "http") and reaches(front, other, 8000))
        self.assertFalse(reaches(other, front, "admin") or reaches(other, nats, "cluster"))

    def test_a_roll_never_takes_one_away_and_leaves_time_to_drain(self):
        for release in self.each():
            for o in release.of("Deployment"):
                if "mocker" in o["metadata"]["name"]:
                    continue
                self.assertEqual(o["spec"]["strategy"]["rollingUpdate"], {"maxUnavailable": 0, "maxSurge": 1})
                pod = o["spec"]["template"]["spec"]
                c = pod["containers"][0]
                e = chart.env(c)
                stop = c.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                drain = sum(math.ceil(float(e.get(name, default))) for name, default in (
                    ("JETROUTER_DRAIN_DELAY_SECS", 5), ("JETROUTER_DRAIN_TIMEOUT_SECS", 300)))
                self.assertEqual(pod["terminationGracePeriodSeconds"], stop + drain + 10)

    def test_a_gateway_speaks_tls_to_frontends_that_do(self):
        gateway = {"enabled": True, "parentRefs": [{"name": "public"}]}
        tls = {"secretName": "jetrouter-tls"}
        self.assertEqual(chart.Release({"gateway": gateway, "tls": tls}).of("BackendTLSPolicy"), [])  # is asked for
        kind = "gateway.networking.k8s.io/%s/BackendTLSPolicy"
        for served, version in (((), "v1"), (("v1alpha3",), "v1alpha3"), (("v1alpha3", "v1"), "v1")):
            for more, hostname in (({}, NAME), ({"hostname": "llm.example.com"}, "llm.example.com")):
                release = chart.Release({"gateway": {**gateway, "backendTLS": {"enabled": True, **more}}, "tls": tls},
                                        served=[kind % v for v in served])
                policy, = release.of("BackendTLSPolicy")
                chart.validate(policy, chart.OLDEST)
                self.assertEqual(policy["apiVersion"], "gateway.networking.k8s.io/" + version)
                route, = release.of("HTTPRoute")
                self.assertEqual([t["name"] for t in policy["spec"]["targetRefs"]],
                                 [b["name"] for b in route["spec"]["rules"][0]["backendRefs"]])
                self.assertEqual(policy["spec"]["validation"], {"hostname": hostname, "wellKnownCACertificates": "System"})

    def test_admin_stays_inside(self):
        for release in self.each():
            for s in release.of("Service"):
                if s["metadata"]["name"].endswith("-admin"):
                    self.assertEqual(s["spec"]["type"], "ClusterIP")
                elif s["metadata"]["labels"]["app.kubernetes.io/component"] == "frontend":
                    self.assertEqual([p["targetPort"] for p in s["spec"]["ports"]], ["http"])
            for o in release.of("Deployment"):
                if "mocker" not in o["metadata"]["name"]:
                    e = chart.env(o["spec"]["template"]["spec"]["containers"][0])
                    self.assertIn("JETROUTER_ADMIN_PORT", e)
                    self.assertIn("JETROUTER_ADMIN_TOKEN_FILE", e)

    def test_values_arrive(self):
        release = self.releases["other ports and long drains"]
        c = release["Deployment", NAME]["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual({p["name"]: p["containerPort"] for p in c["ports"]}, {"http": 9000, "admin": 9091})
        e = chart.env(c)
        self.assertEqual(e["JETROUTER_STREAM_MAX_BYTES"], "68719476736")  # not 6.8719476736e+10
        self.assertEqual(e["DYN_ROUTER_TEMPERATURE"], "0.25")
        self.assertEqual(e["JETROUTER_RETRY_STATUSES"], "502,503")
        # Bridges make the same streams.
        snippet = chart.yaml.safe_load(release["ConfigMap", NAME + "-bridge-sidecar"]["data"]["sidecar.yaml"])
        e = chart.env(snippet["initContainers"][0])
        self.assertEqual((e["JETROUTER_STREAM_MAX_BYTES"], e["JETROUTER_LEASE_TTL_SECS"]), ("68719476736", "10"))
        release = self.releases["everything"]
        e = chart.env(release["Deployment", NAME]["spec"]["template"]["spec"]["containers"][0])
        self.assertEqual(e["DYN_ROUTER_RESET_STATES"], "2026-1")
        job = release["Job", NAME + "-reset"]
        self.assertEqual(job["metadata"]["annotations"]["helm.sh/hook"], "post-install,post-upgrade")
        self.assertEqual(chart.env(job["spec"]["template"]["spec"]["containers"][0])["JETROUTER_RESET_TOKEN"], "2026-1")
        for o in release.of("Deployment"):
            self.assertEqual({c["image"] for c in chart.containers(o["spec"]["template"]["spec"])}, {"jetrouter:0.2.0"})

    def test_tls_of_the_servers(self):
        for name, release in self.releases.items():
            clients = [(n, spec, c) for n, _, spec in release.pods() for c in chart.containers(spec) if "NATS_SERVER" in chart.env(c)]
            snippet = next((chart.yaml.safe_load(o["data"]["sidecar.yaml"]) for o in release.of("ConfigMap")
                            if "sidecar.yaml" in o["data"]), None)
            if snippet:
                clients.append(("snippet", snippet, snippet["initContainers"][0]))
            for pod, spec, c in clients:
                e, volumes = chart.env(c), {v["name"]: v for v in spec.get("volumes", [])}
                mounted = {i["key"] for i in volumes["nats-tls"]["secret"]["items"]} if "nats-tls" in volumes else set()
                with self.subTest(name, pod=pod):
                    # All have TLS or none has; none has a key that is not its own.
                    self.assertEqual({u.split("://")[0] for u in e["NATS_SERVER"].split(",")},
                                     {"tls"} if "TLS" in name else {"nats"})
                    self.assertEqual("JETROUTER_NATS_TLS_CA" in e, "TLS" in name)
                    own = name.startswith("NATS of one's own, cred") or name.endswith("certificates")
                    self.assertEqual(mounted, {"ca.crt", "tls.crt", "tls.key"} if own else {"ca.crt"} if "TLS" in name else set())
                    self.assertEqual({"JETROUTER_NATS_TLS_CERT", "JETROUTER_NATS_TLS_KEY"} <= set(e), own)
        r = self.releases["TLS of the chart's NATS"]
        hosts = [u.split("://")[1].split(":")[0] for u in chart.env(r["Deployment", NAME]["spec"]["template"]["spec"][
            "containers"][0])["NATS_SERVER"].split(",")]
        self.assertEqual(hosts, ["%s-nats-%d.%s-nats.llm.svc" % (NAME, i, NAME) for i in range(3)])

    def test_an_upgrade_of_the_routers_is_none_of_the_servers(self):
        def servers(tag):
            return chart.Release({"image": {"tag": tag}})["StatefulSet", NAME + "-nats"]["spec"]["template"]
        self.assertEqual(servers("0.2.0"), servers("0.3.0"))

    def test_labels_of_pools_are_kept(self):
        release = self.releases["everything"]
        for endpoint in (release["ServiceMonitor", NAME]["spec"]["endpoints"]
                         + release["PodMonitor", NAME + "-bridge"]["spec"]["podMetricsEndpoints"]):
            self.assertIs(endpoint["honorLabels"], True)

    def test_hooks_leave_nothing(self):
        for o in self.releases["everything"].objects:
            annotations = o["metadata"].get("annotations", {})
            if "helm.sh/hook" in annotations:
                self.assertEqual(annotations["helm.sh/hook-delete-policy"], "before-hook-creation,hook-succeeded", o["kind"])

    def test_nats_takes_its_configuration(self):
        """Of every set; the servers that are started have one of them."""
        program = chart.go_program("nats-server") or jr.find_program("nats-server", "nats-server")
        seen = set()
        for release in self.each():
            config = release.named.get(("ConfigMap", NAME + "-nats"), {}).get("data", {}).get("nats.conf")
            if config is None or config in seen:
                continue
            seen.add(config)
            c = release["StatefulSet", NAME + "-nats"]["spec"]["template"]["spec"]["containers"][0]
            e = {k: v if isinstance(v, str) and "$(" not in v else "x" for k, v in chart.env(c).items()}
            e.update({k: "nats://c:x@127.0.0.1:1%s" % k[-1] for k in e if k.startswith("ROUTE_")}, STORE_DIR="/nonexistent")
            for key, file in (("TLS_CA", "cluster-ca.pem"), ("TLS_CERT", "cluster-server.pem"), ("TLS_KEY", "cluster-server-key.pem")):
                if key in e:
                    e[key] = os.path.join(jr.FIXTURES, "nats", file)
            with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
                f.write(config)
                f.flush()
                done = subprocess.run([program, "-t", "-c", f.name], env=e, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(len(seen), 5)

    def test_pools_that_users_may_use(self):
        def config(name):
            return self.releases[name]["ConfigMap", NAME + "-nats"]["data"]["nats.conf"]
        for pool in ("namespace-prod-eu-component-red", "namespace-prod-eu-component-blue-1", "namespace-prod-component-green"):
            self.assertIn('"%s-kv-events.batch"' % pool, config("several pools"))
        self.assertNotIn("component-backend", config("several pools"))
        self.assertIn('"$JS.API.STREAM.NAMES"', config("pools that are found"))
        self.assertNotIn('"$JS.API.STREAM.NAMES"', config("as it is"))

    def test_alerts_know_when_a_snapshot_is_due(self):
        for age, limit in ((None, 5400), (60, 1860)):
            values = {"alerts": {"enabled": True}, "config": {"snapshot-max-age-secs": age} if age else {}}
            rules = chart.Release(values)["PrometheusRule", NAME]["spec"]["groups"][0]["rules"]
            expr = next(r["expr"] for r in rules if r["alert"] == "JetrouterSnapshotOverdue")
            self.assertTrue(expr.endswith("> %d" % limit), expr)

    def test_the_snippet_is_a_part_of_a_valid_pod(self):
        for release in self.each():
            for o in release.of("ConfigMap"):
                if "sidecar.yaml" in o["data"]:
                    part = chart.yaml.safe_load(o["data"]["sidecar.yaml"])
                    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "engine"},
                           "spec": {"containers": [{"name": "engine", "image": "vllm"}], **part}}
                    chart.validate(pod, chart.OLDEST)

    def test_notes_say_what_is_next(self):
        # Only an installation shows them: a copy of the chart renders them as an object.
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "jetrouter")
            shutil.copytree(chart.CHART, copy)
            os.rename(os.path.join(copy, "templates", "NOTES.txt"), os.path.join(copy, "notes.txt"))
            with open(os.path.join(copy, "templates", "notes.yaml"), "w") as f:
                f.write('{"kind": "Notes", "text": {{ tpl (.Files.Get "notes.txt") . | toJson }}}')
            for values, words in (
                    ({}, ["helm -n llm test rel", "rollout status deployment/rel-jetrouter", "bridge-sidecar", "Upgrading:"]),
                    ({"config": {"http-port": 9000}}, ["ctl digest --url http://127.0.0.1:9000\n"]),
                    ({"tls": {"secretName": "x"}}, ["ctl workers --url https://127.0.0.1:8000 --https-insecure\n"]),
                    ({"config": {"router-reset-states": "x"}}, ["WARNING", "reset.token"]),
                    ({"nats": {"tls": {"server": {"secretName": "s"}}}}, ["*.rel-jetrouter-nats.llm.svc", "Secret s "]),
                    (VALUE_SETS["everything"], ["reset.token=2026-1", "rel-jetrouter-reset", "https://"])):
                said = chart.helm("template", "rel", copy, "--namespace", "llm", "--kube-version", chart.OLDEST + ".0",
                                  "--show-only", "templates/notes.yaml", values=values)[1]
                text = chart.yaml.safe_load(said)["text"]
                for word in words:
                    self.assertIn(word, text)


class Values(unittest.TestCase):
    def test_the_schema_knows_what_there_is_and_no_more(self):
        with open(os.path.join(chart.CHART, "values.schema.json")) as f:
            schema = json.load(f)
        with open(os.path.join(chart.CHART, "values.yaml")) as f:
            values = chart.yaml.safe_load(f)
        with open(os.path.join(chart.CHART, "README.md")) as f:
            listed = set(re.findall(r"^\| `([A-Za-z.-]+)` \|", f.read(), re.M))

        def walk(rules, value, path):
            rules = schema["$defs"][rules["$ref"].rpartition("/")[2]] if "$ref" in rules else rules
            if path:
                self.assertIn(".".join(path), listed)
            # What is closed has all its values in values.yaml, but for the options, which have a table of their own.
            if rules.get("type") != "object" or "properties" not in rules:
                return
            self.assertIs(rules.get("additionalProperties"), False, path)
            if path[-1:] == ["config"]:
                return
            below = {k: v for k, v in rules["properties"].items() if path or k != "global"}  # of the chart around, if any
            self.assertEqual(set(below), set(value), path)
            for key, rules in below.items():
                if path[:2] != ["nats", "auth"]:  # a row for each role
                    walk(rules, value[key], [*path, key])
        walk(schema, values, [])


class Upgrade(unittest.TestCase):
    """Templates that look at what is there already."""
    SECRETS = {("Secret", NAME + "-admin"): {"token"},
               ("Secret", NAME + "-nats"): {"router-password", "bridge-password", "sys-password", "cluster-password"}}

    def test_passwords_are_made_once(self):
        first, other = chart.Cluster().render(), chart.Cluster().render()
        made = [first[s] for s in self.SECRETS]
        again = chart.Cluster(made).render({"replicas": 5, "nats": {"replicas": 5}})
        for s, keys in self.SECRETS.items():
            self.assertEqual(set(first[s]["data"]), keys)
            self.assertEqual(len(set(first[s]["data"].values())), len(keys), "two of them are the same")
            self.assertFalse(set(first[s]["data"].values()) & set(other[s]["data"].values()), "not made by chance")
            self.assertEqual(again[s]["data"], first[s]["data"])

    def test_a_password_that_lacks_is_made(self):
        first = chart.Cluster().render()
        made = first["Secret", NAME + "-nats"]
        lost = made["data"].pop("sys-password")
        again = chart.Cluster([made]).render()["Secret", NAME + "-nats"]["data"]
        self.assertNotEqual(again.pop("sys-password"), lost)
        self.assertEqual(again, made["data"])

    def test_an_autoscaler_keeps_the_replicas_there_are(self):
        there = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}, "spec": {"replicas": 7}}
        for values, objects, want in (({"autoscaling": {"enabled": True}}, [there], 7), ({"autoscaling": {"enabled": True}}, [], None),
                                      ({"replicas": 4}, [there], 4)):
            self.assertEqual(chart.Cluster(objects).render(values)["Deployment", NAME]["spec"].get("replicas"), want)


class Refused(unittest.TestCase):
    def test_bad_values(self):
        for values, word in BAD:
            with self.subTest(json.dumps(values)):
                code, _, said = chart.template(values, check=False)
                self.assertNotEqual(code, 0, "it was taken")
                self.assertIn(word, said)

    def test_streams_that_just_fit(self):
        for values in ({"config": {"stream-max-bytes": 19327352832}}, {"config": {"component": ["a", "b"]}},
                       {"config": {"component": list("abcdef")}, "nats": {"streamReplicas": 1}},
                       {"config": {"component": list("abc"), "stream-max-bytes": "6g"}},
                       {"config": {"stream-max-bytes": "64GiB", "nats-server": "nats://other:4222"}}):
            with self.subTest(json.dumps(values)):
                chart.template(values)

    def test_without_a_schema_an_unknown_option_is_refused_too(self):
        code, _, said = chart.helm("template", "rel", chart.CHART, "--kube-version", chart.OLDEST + ".0",
                                   "--skip-schema-validation", values={"config": {"no-such": 1}}, check=False)
        self.assertNotEqual(code, 0)
        self.assertIn("no-such", said)


# Texts that only such an option takes.
SPECIAL = {
    "retry-statuses": [502, "504"], "model-alias": ["a=b", "c=d"], "worker": ["http://10.0.0.1:8000"],
    "engine-url": "http://10.0.0.1:8000", "kv-events-endpoint": "tcp://10.0.0.1:5557",
    "kv-events-replay-endpoint": "tcp://10.0.0.1:5558", "zmq-kv-events-ports": "5557",
    "zmq-replay-ports": 5559, "metrics-prefix": "front", "nats-server": "nats://10.0.0.1:4222",
    "fault": ["slow=2", "hang=true"], "lora-modules": ["x", "z"], "component": "red", "http-bodies-max-mb": 2048, "router-mode": "kv",
    "endpoint-types": "chat", "http-host": "127.0.0.1", "system-host": "127.0.0.1", "embedded-nats": "/data",
    "check-config": True,
}
TOGETHER = [{"tls-cert-path", "tls-key-path"}, {"nats-tls-cert", "nats-tls-key", "nats-tls-ca"},
            {"router-durable-kv-events", "router-kv-events"}, {"enable-cache-control", "router-mode"},
            {"zmq-kv-events-ports", "bridge"}, {"router-policy-config", "router-mode"}]


@functools.lru_cache
def policy_file():
    """The example of the documentation, as a file that is read."""
    with open(os.path.join(jr.ROOT, "docs", "policy-classes.md")) as f:
        text = f.read().split("```yaml\n")[1].split("models:\n")[0]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as f:
        f.write(text)
    unittest.addModuleCleanup(os.unlink, f.name)
    return f.name


def a_file(flag):
    if flag in ("access-log-file", "dump-config-to", "custom-jinja-template"):
        return "/tmp/a-file"
    pem = {"tls-cert-path": "server.pem", "tls-key-path": "server.key", "nats-tls-cert": "server.pem",
           "nats-tls-key": "server.key"}.get(flag, "ca.pem")
    return jr.tls_file(pem)


def some_values(row):
    """What may be given for an option: the first is not its default; then its bounds and other ways to write it."""
    flag, kind, default = row["flag"], row["type"], row["default"]
    none = ["None"] if row["nullable"] else []
    if flag in SPECIAL:
        return [SPECIAL[flag]]
    if flag == "router-policy-config":
        return [policy_file()]
    if row["metavar"] == "FILE":
        return [a_file(flag)]
    if kind == "bool":
        return [default != "true", default == "true"]
    if kind == "choice":
        return [c for c in row["choices"] if c != default] + [default]
    if kind in ("number", "integer", "port", "bytes"):
        low, high = row["min"], row["max"]
        some = (0.5, 0.25, 1.5) if kind == "number" else (3, 2, 512, 4097, 1048577)
        first = next(v for v in some if low <= v <= high and str(v) != default)
        return [first, high, low, *none, *(["3GiB", "2M"] if kind == "bytes" else [])]
    return ["some-text", *none]


def as_text(value):
    """As an environment variable has it: never 1e+06."""
    if isinstance(value, list):
        return ",".join(as_text(v) for v in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "%d" % value if isinstance(value, float) and value == int(value) else str(value)


def same(row, value, got):
    """Is what the program took what was given?"""
    if value == "None":
        return got is None
    if row["type"] == "bytes":
        return got == {"3GiB": 3 << 30, "2M": 2 << 20}.get(value, value)
    if row["type"] == "bool":
        return got is value
    if row["type"] in ("number", "integer", "port"):
        return math.isclose(got, value)
    return (",".join(got) if isinstance(got, list) else got) == as_text(value)


class Options(unittest.TestCase):
    """Every option of the three commands, given as a value of the chart, is read by the program from the
    environment of the rendered container."""

    def container(self, command, config):
        if command == "frontend":
            r = chart.Release({"config": config})
            return r["Deployment", NAME]["spec"]["template"]["spec"]["containers"][0]
        if command == "bridge":
            r = chart.Release({"bridge": {"config": config, "daemonSet": {"enabled": True}}})
            return r["DaemonSet", NAME + "-bridge"]["spec"]["template"]["spec"]["containers"][0]
        config = {k: v for k, v in config.items() if k not in ("num-workers", "http-port")}
        r = chart.Release({"mocker": {"config": config, "enabled": True}})
        return r["Deployment", NAME + "-mocker"]["spec"]["template"]["spec"]["containers"][0]

    def read(self, command, env, flags):
        """The program's own dump of what it took, with these variables alone."""
        with tempfile.NamedTemporaryFile() as f:
            done = subprocess.run([jr.JETROUTER, command, "--check-config", "--dump-config-to", f.name], env=env,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, "%s %s: %s" % (command, env, done.stderr))
            said = json.load(f)["options"]
        return {flag: said[flag] for flag in flags}

    def test_rendered_environment_is_the_table(self):
        table = chart.options()
        for command in ("frontend", "bridge", "mocker"):
            rows = [r for r in table if command in r["commands"] and r["flag"]
                    and not (command == "mocker" and r["flag"] in ("num-workers", "http-port"))]  # the chart's own
            choices = {r["flag"]: some_values(r) for r in rows}
            if command == "frontend":
                choices.update({"http-port": [9000, 65535], "admin-port": [9001, 65534],  # others are refused: BAD
                                "http-body-limit-mb": [3, 1024, 1]})  # of more than --http-bodies-max-mb
            if command == "bridge":
                choices["system-port"] = [9002, 65535]
            for turn in range(4):
                config = {flag: values[turn % len(values)] for flag, values in choices.items()}
                env = chart.env(self.container(command, config))
                for r in rows:
                    self.assertEqual(env.get(r["env"][0]), as_text(config[r["flag"]]), "%s of %s" % (r["flag"], command))
                # And nothing else but what is no option: credentials.
                secret = {r["env"][0] for r in table if command in r["commands"] and not r["flag"]}
                self.assertEqual(set(env) - {r["env"][0] for r in rows} - secret, set())
                again = [r for r in rows if turn < len(choices[r["flag"]])]
                self.each_is_read(command, again, config)

    def each_is_read(self, command, rows, config):
        engine = {"JETROUTER_ENGINE_URL": "http://10.0.0.1:1", "JETROUTER_KV_EVENTS_ENDPOINT": "tcp://10.0.0.1:2"}
        done, named = set(), {r["flag"]: r for r in rows}
        for flag in named:
            if flag in done or flag in ("check-config", "dump-config-to"):  # given by the call itself
                continue
            flags = set(named) & next((t for t in TOGETHER if flag in t), {flag})
            env = {named[f]["env"][0]: as_text(config[f]) for f in flags}
            if command == "bridge" and flag != "engines-dir":
                env = {**engine, **env}
            for f, got in self.read(command, env, flags).items():
                self.assertEqual(got["source"], "env", "%s of %s" % (f, command))
                self.assertTrue(same(named[f], config[f], got["value"]), "%s of %s: %r is %r" % (f, command, config[f], got))
            done |= flags

    def test_what_the_chart_runs_has_all_options(self):
        """The commands of the table that serve are run by it, but for the router, which has the frontend's options."""
        table = chart.options()
        with open(os.path.join(chart.CHART, "files", "options.yaml")) as f:
            known = chart.yaml.safe_load(f)
        for command, names in known.items():
            self.assertEqual(names, {r["flag"]: r["env"][0] for r in table if command in r["commands"] and r["flag"]})
        self.assertEqual({c for r in table for c in r["commands"]} - set(known), {"router", "ctl", "replay"})

    def test_the_secret_ones_come_from_secrets(self):
        secret = {r["env"][0] for r in chart.options() if "frontend" in r["commands"] and not r["flag"]}
        seen = set()
        for release in releases().values():
            for _, _, spec in release.pods():
                for c in chart.containers(spec):
                    for name, value in chart.env(c).items():
                        if name in secret:
                            seen.add(name)
                            if name not in ("NATS_AUTH_USERNAME", "NATS_AUTH_CREDENTIALS_FILE"):
                                self.assertIn("secretKeyRef", value, name)
        r = chart.Release({"nats": {"enabled": False, "url": "nats://x:1", "auth": {"frontend": {
            "secretName": "s", "tokenKey": "t"}}}})
        seen |= set(chart.env(r["Deployment", NAME]["spec"]["template"]["spec"]["containers"][0]))
        self.assertEqual(secret - seen, set())


if __name__ == "__main__":
    chart.use_venv(__file__)
    unittest.main()
