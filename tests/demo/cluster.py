"""The demo's objects in a cluster: namespace, operator, DedupJob; and the driver's /status through the API server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dedup_api.driver_status import DriverStatus
from dedup_api.names import HTTP_PORT, driver_pod_name
from demo.access import Access
from testbed.layout import CHECKOUT
from testbed.shell import TestbedError

RELEASE = "dedup-operator"
CHART = CHECKOUT / "charts" / "dedup-operator"
CRD = "dedupjobs.streamdedup.dev"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}

Json = dict[str, Any]


@dataclass(frozen=True)
class DemoCluster:
    """Every method raises TestbedError with the command's own message when a command fails."""

    access: Access
    namespace: str
    """Of the DedupJob."""

    def kubectl(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        return self.access.kubectl(*arguments, stdin=stdin)

    def find(self, kind: str, name: str, namespace: str = "") -> Json | None:
        where = ["-n", namespace] if namespace else []
        text = self.kubectl("get", kind, name, *where, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def create_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """A namespace that enforces the restricted Pod Security Standard; nothing happens when it exists."""
        metadata = {"name": name, "labels": RESTRICTED | (labels or {})}
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))

    def delete_namespace(self, name: str) -> None:
        """Returns when everything in the namespace is gone."""
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=5m")

    def install_operator(self, namespace: str, values: Json, *flags: str) -> None:
        """Installs or upgrades the chart and waits until the operator is ready."""
        try:
            self.access.helm(
                "upgrade", "--install", RELEASE, str(CHART), "--namespace", namespace, "--wait", "--timeout", "5m", *flags,
                *(part for name, value in values.items() for part in ("--set-json", f"{name}={json.dumps(value)}")),
            )  # fmt: skip
        except TestbedError as error:
            raise TestbedError(f"{error}\n{self.explain_pods(namespace)}".rstrip()) from error

    def wait_for_rollout(self, workload: str, namespace: str) -> None:
        try:
            self.kubectl("rollout", "status", workload, "-n", namespace, "--timeout=5m")
        except TestbedError as error:
            raise TestbedError(f"{error}\n{self.explain_pods(namespace)}".rstrip()) from error

    def explain_pods(self, namespace: str) -> str:
        """One line for each pod that does not run, with the reason that Kubernetes gives."""
        try:
            pods = json.loads(self.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
        except TestbedError:
            return ""
        return "\n".join(f"  pod {pod['metadata']['name']}: {problem}" for pod in pods if (problem := find_problem(pod)))

    def read_job(self, name: str) -> Json:
        job: Json = json.loads(self.kubectl("get", "dedupjob", name, "--namespace", self.namespace, "-o", "json"))
        return job

    def read_ready(self, name: str) -> str:
        """The job's Ready condition as one line: reason and message."""
        conditions = self.read_job(name).get("status", {}).get("conditions", [])
        ready = next((condition for condition in conditions if condition["type"] == "Ready"), None)
        return f"{ready['reason']}: {ready['message']}" if ready else "the operator has not reported yet"

    def read_driver_status(self, name: str) -> DriverStatus | None:
        """None while the driver does not answer."""
        pod = f"{driver_pod_name(name)}:{HTTP_PORT}"
        try:
            answer = self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}/proxy/status")
        except TestbedError:
            return None
        return DriverStatus.model_validate_json(answer)


def find_problem(pod: Json) -> str:
    """Why a pod does not run: the scheduler's message, or why its container waits or ended; empty when it runs."""
    status = pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    for container in status.get("containerStatuses", []):
        for state in (container.get("state", {}), container.get("lastState", {})):
            for kind in ("waiting", "terminated"):
                if kind in state:
                    found = state[kind]
                    return f"{found.get('reason', kind)}: {found.get('message', '') or found.get('exitCode', '')}".rstrip(": ")
    return ""


def image_values(prefix: str, reference: str, pull_policy: str) -> Json:
    """The chart's values for an image by tag or by digest. `prefix` is the values' path."""
    repository, _, digest = reference.partition("@")
    tag = ""
    if ":" in repository.rsplit("/", 1)[-1]:
        repository, tag = repository.rsplit(":", 1)
    values = {"repository": repository, "pullPolicy": pull_policy}
    if digest:
        values["digest"] = digest
    else:
        values["tag"] = tag or "latest"
    return {f"{prefix}.{name}": value for name, value in values.items()}
