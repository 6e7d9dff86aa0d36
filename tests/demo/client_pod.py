"""The pod that sends the flights and checks the output (`client.py`), from outside: start it, give it the data, ask
it."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from demo.check import Verdict
from demo.client import DATA_WITHIN, Report
from demo.cluster import DemoCluster, Json, find_problem
from demo.flights import find_data
from demo.plan import Plan
from testbed.shell import TestbedError

NAME = "kafka-client"
PROGRAM = ("__init__", "check", "client", "flights", "plan", "producer", "topics")
"""The modules that the pod runs."""
START_WITHIN = 300.0
"""Seconds until the pod must run. The node may have to pull the job image first: 600 megabytes."""
UPLOADS = 3
"""A connection through the API server may break; the checksum tells."""


@dataclass(frozen=True)
class ClientPod:
    cluster: DemoCluster
    bootstrap: str
    source: str
    target: str

    def start(self, image: str, pull_policy: str, plan: Plan) -> None:
        """Returns when the pod has created the topics and waits for the data."""
        program = {f"{name}.py": Path(__file__).with_name(f"{name}.py").read_text() for name in PROGRAM}
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": program}
        pod = build_pod(image, pull_policy, ["feed", self.bootstrap, self.source, self.target, str(plan.flights)])
        for document in (config_map, pod):
            self.cluster.kubectl("apply", "-n", self.cluster.namespace, "-f", "-", stdin=json.dumps(document))
        self._wait_for_step("waiting for the data", START_WITHIN)

    def upload(self) -> int:
        """Gives the pod the flights. It starts to send as soon as it has them. Returns how many it will send."""
        data = find_data().read_bytes()
        checksum = hashlib.sha256(data).hexdigest()
        for attempt in range(UPLOADS):
            try:
                self._exec("receive", checksum, stdin=data)
                break
            except TestbedError:
                if attempt == UPLOADS - 1:
                    raise
        return self._wait_for_step("sending", DATA_WITHIN).planned

    def read_report(self) -> Report:
        """The pod's newest report; raises TestbedError when the pod has failed."""
        log = self.cluster.kubectl("logs", NAME, "-n", self.cluster.namespace, "--tail=50")
        report = parse_log(log)
        if report.error is not None:
            raise TestbedError(f"The pod {NAME} failed: {report.error}\n{log}")
        return report

    def check(self) -> Verdict:
        """Reads both topics completely."""
        return Verdict(**json.loads(self._exec("check", self.bootstrap, self.source, self.target)))

    def delete(self) -> None:
        self.cluster.kubectl("delete", "pod,configmap", NAME, "-n", self.cluster.namespace, "--ignore-not-found", "--wait=false")

    def _exec(self, *arguments: str, stdin: bytes | None = None) -> str:
        program = ["python", "-m", "demo.client", *arguments]
        return self.cluster.kubectl("exec", *(["-i"] if stdin else []), NAME, "-n", self.cluster.namespace, "--", *program, stdin=stdin)

    def _wait_for_step(self, step: str, within: float) -> Report:
        deadline = time.monotonic() + within
        while True:
            pod = self.cluster.find("pod", NAME, self.cluster.namespace) or {}
            phase = pod.get("status", {}).get("phase")
            if phase in ("Failed", "Succeeded"):
                log = self.cluster.kubectl("logs", NAME, "-n", self.cluster.namespace, "--tail=50")
                raise TestbedError(f"The pod {NAME} has ended ({find_problem(pod)}). Its log:\n{log}")
            if phase == "Running" and (report := self.read_report()).step in (step, "sent"):
                return report
            if time.monotonic() > deadline:
                raise TestbedError(f"The pod {NAME} is not {step} after {within:.0f} s: {find_problem(pod) or phase}")
            time.sleep(0.3)


def parse_log(log: str) -> Report:
    """The last report in a log. Other lines are the producer's error messages."""
    for line in reversed(log.splitlines()):
        try:
            return Report.parse(line)
        except (ValueError, TypeError):
            continue
    return Report()


def build_pod(image: str, pull_policy: str, arguments: list[str]) -> Json:
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["/usr/bin/tini", "--", "python", "-m", "demo.client", *arguments],
        "env": [{"name": "PYTHONPATH", "value": "/program"}],
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "program", "mountPath": "/program/demo"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "program", "configMap": {"name": NAME}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec}
