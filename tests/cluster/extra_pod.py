"""Extra driver pods. The operator never creates one; a user could, or a cluster after a network failure."""

from __future__ import annotations

import copy
import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from cluster.harness import Jobs, Json, wait_until
from dedup_api import names
from dedup_api.driver_status import DriverStatus, TerminationMessage

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@dataclass(frozen=True)
class ExtraPod:
    """A pod with a job's settings on the job's claim. It has no owner, and nothing starts it again when it ends."""

    jobs: Jobs
    job: str
    name: str

    def create(self, *, node: str | None = None, entry: str | None = None, arguments: tuple[str, ...] = ()) -> ExtraPod:
        """With `node` the scheduler is not involved. `entry`: a ConfigMap whose `entry.py` replaces the driver."""
        template = self.jobs.get_object("statefulset", names.driver_name(self.job))["spec"]["template"]["spec"]
        spec = build_pod_spec(template, node)
        if entry is not None:
            add_entry(spec, entry, arguments)
        metadata = {"name": self.name, "namespace": self.jobs.namespace}
        self.jobs.cluster.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        return self

    @property
    def pod(self) -> Json:
        return self.jobs.get_object("pod", self.name)

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    def find_container(self) -> Json | None:
        """The container's status; None before kubelet has handled the pod."""
        found = self.pod["status"].get("containerStatuses")
        return found[0] if found else None

    def has_run(self) -> bool:
        """Whether its container was ever started."""
        container = self.find_container()
        return container is not None and "waiting" not in container["state"]

    def is_running(self) -> bool:
        container = self.find_container()
        return container is not None and "running" in container["state"]

    def list_warnings(self) -> str:
        """The messages of all warning events about the pod."""
        selector = f"involvedObject.uid={self.uid},type=Warning"
        events = self.jobs.cluster.kubectl("get", "events", "-n", self.jobs.namespace, "--field-selector", selector, "-o", "json")
        return "\n".join(event["message"] for event in json.loads(events)["items"])

    def wait_for_status(self, what: str, check: Callable[[DriverStatus], bool], seconds: float = 120) -> None:
        """Waits until the driver's /status satisfies `check`."""

        def is_reached() -> bool:
            status = self._find_status()
            return status is not None and check(status)

        wait_until(is_reached, f"{self.name} {what}", seconds, self.describe)

    def wait_for_commit(self) -> None:
        self.wait_for_status("commits a micro-batch", lambda status: status.committed_in_this_run)

    def _find_status(self) -> DriverStatus | None:
        address = self.pod["status"].get("podIP")
        if address is None:
            return None
        try:
            with urllib.request.urlopen(f"http://{address}:{names.HTTP_PORT}/status", timeout=5) as answer:
                return DriverStatus.model_validate_json(answer.read())
        except OSError:
            return None

    def wait_for_end(self, seconds: float = 120) -> tuple[int, TerminationMessage]:
        """Exit code and termination message."""

        def find_end() -> Json | None:
            container = self.find_container()
            return container["state"].get("terminated") if container else None

        ended = wait_until(find_end, f"{self.name} ends", seconds, self.describe)
        return int(ended["exitCode"]), TerminationMessage.model_validate_json(ended["message"])

    def read_log(self) -> str:
        return self.jobs.cluster.kubectl("logs", self.name, "-n", self.jobs.namespace)

    def run(self, *command: str) -> bool:
        """Runs a command in the container; returns whether it succeeded."""
        return "yes" in self.jobs.cluster.kubectl(
            "exec", self.name, "-n", self.jobs.namespace, "--", "sh", "-c", f"{' '.join(command)} && echo yes", check=False
        )

    def delete(self) -> None:
        """The driver may finish its micro-batch first."""
        self.jobs.cluster.kubectl("delete", "pod", self.name, "-n", self.jobs.namespace, "--timeout=180s", "--ignore-not-found")

    def describe(self) -> str:
        pod = self.jobs.cluster.kubectl("describe", "pod", self.name, "-n", self.jobs.namespace, check=False)
        log = self.jobs.cluster.kubectl("logs", self.name, "-n", self.jobs.namespace, "--tail=60", check=False)
        return f"{pod}\n{log}\n{self.jobs.describe(self.job)}"


def build_pod_spec(template: Json, node: str | None) -> Json:
    """The StatefulSet's pod, but without restarts and probes: tests read its exit code, and freeze it."""
    spec = {**copy.deepcopy(template), "restartPolicy": "Never"}
    for probe in PROBES:
        spec["containers"][0].pop(probe, None)
    if node is not None:
        spec["nodeName"] = node
    return spec


def add_entry(spec: Json, config_map: str, arguments: tuple[str, ...]) -> None:
    container = spec["containers"][0]
    container["command"] = ["/usr/bin/tini", "--", "python", "/entry/entry.py", *arguments]
    container["volumeMounts"].append({"name": "entry", "mountPath": "/entry"})
    spec["volumes"].append({"name": "entry", "configMap": {"name": config_map}})
