"""User actions on one DedupJob, and waiting for their effects. Everything here asks the API server directly, never
through the proxy."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dedup_api import names
from dedup_api.reasons import Reason
from fault_injection.api import Api, Json
from fault_injection.etcd import Etcd
from fault_injection.node import STORAGE_CLASS

JOB = "job"
STEP_SECONDS = 90.0
"""How long one step may take. The operator's timeout for a request is 30 s, and one step may contain one such
timeout."""
POLL_SECONDS = 0.2
T = TypeVar("T")

SPEC: Json = {
    "source": {"bootstrapServers": "broker:9092", "topic": "events"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "ts"},
    "watermark": "10m",
    "trigger": {"processingTime": "2s"},
    "sink": {"console": {}},
    "checkpoint": {"claim": {"size": "1Gi", "storageClassName": STORAGE_CLASS}},
}


async def wait_until(is_reached: Callable[[], Awaitable[T | None]], what: str, seconds: float = STEP_SECONDS) -> T:
    """Polls until `is_reached` returns something true, and returns that. `what` says it as a sentence, for the
    failure."""
    deadline = time.monotonic() + seconds
    while not (found := await is_reached()):
        assert time.monotonic() < deadline, f"this did not happen within {seconds:.0f} s: {what}"
        await asyncio.sleep(POLL_SECONDS)
    return found


def _find_condition(job: Json | None, kind: str) -> Json | None:
    conditions = job.get("status", {}).get("conditions", []) if job else []
    return next((condition for condition in conditions if condition["type"] == kind), None)


@dataclass
class Environment:
    """One namespace with one DedupJob."""

    api: Api
    etcd: Etcd
    namespace: str

    async def create(self, **changes: Any) -> None:
        """Creates a small DedupJob. `changes` replace whole fields of its spec."""
        document = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": JOB, "namespace": self.namespace},
            "spec": {**copy.deepcopy(SPEC), **changes},
        }
        await self.api.create(names.PLURAL, self.namespace, document)

    async def edit(self, **spec: Any) -> None:
        await self.api.patch(names.PLURAL, self.namespace, JOB, {"spec": spec})

    async def delete(self, plural: str = names.PLURAL, name: str = JOB) -> str:
        """Deletes an object and returns its UID."""
        found = await self.api.get(plural, self.namespace, name)
        uid = str(found["metadata"]["uid"])
        await self.api.delete(plural, self.namespace, name, uid=uid)
        return uid

    async def find_ready(self) -> Json | None:
        """The condition Ready, or None while the operator has not computed it from the current metadata.generation."""
        job = await self.api.find(names.PLURAL, self.namespace, JOB)
        ready = _find_condition(job, "Ready")
        return ready if job and ready and ready["observedGeneration"] == job["metadata"]["generation"] else None

    async def find_condition(self, kind: str) -> str | None:
        """The status of a condition, or None when the DedupJob has no condition of this type."""
        condition = _find_condition(await self.api.find(names.PLURAL, self.namespace, JOB), kind)
        return str(condition["status"]) if condition else None

    async def get_driver(self) -> str:
        """The UID of the driver's pod, which must exist and not be terminating."""
        pod = await self.api.get("pods", self.namespace, names.driver_pod_name(JOB))
        assert "deletionTimestamp" not in pod["metadata"], "the driver's pod is terminating, but it must keep running"
        return str(pod["metadata"]["uid"])

    async def wait_reason(self, reason: Reason, status: str) -> None:
        async def is_reached() -> bool:
            ready = await self.find_ready()
            return ready is not None and (ready["reason"], ready["status"]) == (reason, status)

        await wait_until(is_reached, f"the condition Ready is {status} with reason {reason}")

    async def wait_running(self) -> None:
        await self.wait_reason(Reason.RUNNING, "True")

    async def wait_deleted(self, plural: str = names.PLURAL, name: str = JOB) -> None:
        async def is_reached() -> bool:
            return await self.api.find(plural, self.namespace, name) is None

        await wait_until(is_reached, f"{plural} {name} is deleted")

    async def wait_recreated(self, plural: str, name: str, uid: str) -> None:
        """Waits until another object has the name."""

        async def is_reached() -> bool:
            found = await self.api.find(plural, self.namespace, name)
            return found is not None and found["metadata"]["uid"] != uid

        await wait_until(is_reached, f"{plural} {name} is recreated")

    async def wait_new_driver(self, uid: str) -> None:
        """Waits until a driver's pod with another UID runs."""

        async def is_reached() -> bool:
            pod = await self.api.find("pods", self.namespace, names.driver_pod_name(JOB))
            return pod is not None and pod["metadata"]["uid"] != uid and pod["status"].get("phase") == "Running"

        await wait_until(is_reached, "another driver pod runs")

    async def find_config_map(self) -> str:
        """The ConfigMap that the StatefulSet names."""
        found = await self.api.get("statefulsets", self.namespace, names.driver_name(JOB))
        volumes = found["spec"]["template"]["spec"]["volumes"]
        return next(str(volume["configMap"]["name"]) for volume in volumes if "configMap" in volume)
