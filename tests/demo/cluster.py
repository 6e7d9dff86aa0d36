"""The demo's hands in the cluster: helm, kubectl, and the driver's /status through the API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dedup_api.driver_status import DriverStatus
from dedup_api.names import HTTP_PORT, driver_pod_name
from testbed.layout import CHECKOUT, Layout
from testbed.shell import TestbedError, run

RELEASE = "dedup-operator"
OPERATOR_NAMESPACE = "dedup-system"
CHART = CHECKOUT / "charts" / "dedup-operator"
_RESTRICTED = ("pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/enforce-version=latest")


class DemoCluster:
    """A cluster of the test bed. Every method raises TestbedError with the command's own words when it fails."""

    def __init__(self, layout: Layout, namespace: str) -> None:
        self._layout = layout
        self.namespace = namespace

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return run([self._layout.bin / "kubectl", "--kubeconfig", self._layout.kubeconfig, *arguments], stdin=stdin, timeout=300)

    def helm(self, *arguments: str) -> str:
        return run([self._layout.bin / "helm", "--kubeconfig", str(self._layout.kubeconfig), *arguments], timeout=300)

    def make_namespace(self, name: str) -> None:
        """A namespace that enforces the restricted Pod Security Standard."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        self.kubectl("label", "--overwrite", "namespace", name, *_RESTRICTED)

    def install_operator(self) -> None:
        images = json.loads((self._layout.state / "images.json").read_text())
        operator, job = (images[name].rsplit(":", 1) for name in ("operator", "job"))
        self.make_namespace(OPERATOR_NAMESPACE)
        self.helm(
            "upgrade", "--install", RELEASE, str(CHART), "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "3m",
            # A CRD that `kubectl apply -f crds/` brought is taken into the release.
            "--take-ownership", "--force-conflicts",
            "--set", f"image.repository={operator[0]},image.tag={operator[1]}",
            "--set", f"job.image.repository={job[0]},job.image.tag={job[1]}",
        )  # fmt: skip

    def uninstall_operator(self) -> None:
        if RELEASE in self.helm("list", "--namespace", OPERATOR_NAMESPACE, "--short").split():
            self.helm("uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "3m")

    def apply(self, manifest: Path) -> None:
        self.kubectl("apply", "--namespace", self.namespace, "-f", str(manifest))

    def remove_namespace(self) -> None:
        """The job, its claim and all else of the demo's namespace; returns when they are gone."""
        self.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=5m")

    def read_job(self, name: str) -> dict[str, Any]:
        job: dict[str, Any] = json.loads(self.kubectl("get", "dedupjob", name, "--namespace", self.namespace, "-o", "json"))
        return job

    def read_driver_status(self, name: str) -> DriverStatus | None:
        """What the driver says of itself; None while it does not answer."""
        pod = f"{driver_pod_name(name)}:{HTTP_PORT}"
        try:
            answer = self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}/proxy/status")
        except TestbedError:
            return None
        return DriverStatus.model_validate_json(answer)
