"""Simulates scheduler, volume binder and kubelet: binds claims, assigns pods to a node, and starts and ends their
drivers.

It lets several pods use one claim, although a real node enforces ReadWriteOncePod. So only the operator and the
StatefulSet controller keep two drivers from using one checkpoint, and the tests see it when they fail to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from dedup_api import names
from dedup_api.driver_status import TerminationMessage
from dedup_api.exits import STOPPED_EARLY, ExitCode
from dedup_api.reasons import Reason
from fault_injection.api import Api, ApiError, Json
from fault_injection.drivers import REFUSED, DriverRun, Drivers, build_status
from fault_injection.object_counts import ObjectCounts

NODE = "simulated"
STORAGE_CLASS = "simulated"
"""Claims of this class can be expanded. The node does it at once."""
POLL_SECONDS = 0.1
STOP_SECONDS = 0.4
"""How long a driver takes to finish its batch after its pod is deleted. A second edit must be possible in this time."""
ONE_SHOT_SECONDS = 0.5
"""How long a driver of a Kubernetes Job takes to read all that the topic holds."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _build_terminated_state(code: int, message: TerminationMessage | None = None) -> Json:
    end: Json = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": _now(), "finishedAt": _now()}
    return {"terminated": {**end, "message": json.dumps(message.to_json_dict())} if message else end}


@dataclass
class PodTask:
    """The asyncio task that runs a pod, and the event that tells it that the pod is being deleted."""

    task: asyncio.Task[None] | None = None
    deletion: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Node:
    api: Api
    drivers: Drivers
    object_counts: ObjectCounts
    _pods: dict[str, PodTask] = field(default_factory=dict)
    _tasks: dict[str, set[asyncio.Task[None]]] = field(default_factory=dict)
    _stopped_namespaces: set[str] = field(default_factory=set)

    async def register(self) -> None:
        expandable = {"metadata": {"name": STORAGE_CLASS}, "provisioner": "simulated.test/volumes", "allowVolumeExpansion": True}
        await self.api.create("storageclasses", None, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", **expandable})
        self.object_counts.listeners["pods"].append(self._on_pod)
        self.object_counts.listeners["persistentvolumeclaims"].append(self._on_claim)

    async def stop_namespace(self, namespace: str) -> None:
        """Ends all drivers of the namespace and ignores its pods and claims from now on."""
        self._stopped_namespaces.add(namespace)
        tasks = self._tasks.pop(namespace, set())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in self.drivers.runs:
            if run.namespace == namespace:
                await self.drivers.stop(run)

    async def close(self) -> None:
        for namespace in list(self._tasks):
            await self.stop_namespace(namespace)

    def _spawn(self, namespace: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        tasks = self._tasks.setdefault(namespace, set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def _on_claim(self, kind: str, claim: Json) -> None:
        namespace = claim["metadata"]["namespace"]
        requested = claim["spec"]["resources"]["requests"]
        status = claim.get("status", {})
        is_bound = status.get("phase") == "Bound" and status.get("capacity") == requested
        if kind != "DELETED" and namespace not in self._stopped_namespaces and not is_bound:
            self._spawn(namespace, self._bind_claim(claim, requested))

    async def _bind_claim(self, claim: Json, size: Json) -> None:
        status = {"phase": "Bound", "accessModes": claim["spec"]["accessModes"], "capacity": size}
        await self._patch("persistentvolumeclaims", claim, {"status": status})

    def _on_pod(self, kind: str, pod: Json) -> None:
        metadata = pod["metadata"]
        uid, namespace = metadata["uid"], metadata["namespace"]
        if namespace in self._stopped_namespaces:
            return
        if uid not in self._pods and kind != "DELETED":
            pod_task = self._pods[uid] = PodTask()
            pod_task.task = self._spawn(namespace, self._run_pod(pod, pod_task))
        if uid in self._pods and (kind == "DELETED" or "deletionTimestamp" in metadata):
            self._pods[uid].deletion.set()

    async def _run_pod(self, pod: Json, pod_task: PodTask) -> None:
        """Runs from the first event about the pod until the pod is removed."""
        starting = asyncio.create_task(self._start(pod))
        deletion = asyncio.create_task(pod_task.deletion.wait())
        try:
            await asyncio.wait({starting, deletion}, return_when=asyncio.FIRST_COMPLETED)
            run = await starting if starting.done() else None
            if run is not None:
                await self._run(pod, run, deletion)
            await deletion
            await self._remove(pod, run)
        finally:
            starting.cancel()
            deletion.cancel()

    async def _start(self, pod: Json) -> DriverRun:
        """Starts the driver when the claim is bound and the ConfigMap exists, as scheduler and kubelet do."""
        metadata, volumes = pod["metadata"], pod["spec"]["volumes"]
        namespace = metadata["namespace"]
        claim_name = next(volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume)
        claim = await self._wait("persistentvolumeclaims", namespace, claim_name)
        while claim.get("status", {}).get("phase") != "Bound":
            await asyncio.sleep(POLL_SECONDS)
            claim = await self._wait("persistentvolumeclaims", namespace, claim_name)
        if "nodeName" not in pod["spec"]:
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"], "uid": metadata["uid"]}}
            await self.api.create(
                "pods", namespace, {**binding, "target": {"kind": "Node", "name": NODE}}, name=metadata["name"], subresource="binding"
            )
        await self._wait("configmaps", namespace, self._find_config_map(pod))
        return await self.drivers.start(namespace, metadata["name"], claim["metadata"]["uid"])

    async def _run(self, pod: Json, run: DriverRun, deletion: asyncio.Task[bool]) -> None:
        """Returns when the driver has ended, or when the pod is being deleted."""
        settings = await self.api.get("configmaps", run.namespace, self._find_config_map(pod))
        run.topic = json.loads(settings["data"][PurePath(names.CONFIG_FILE).name])["source"]["topic"]
        refused = run.topic == REFUSED
        one_shot = pod["spec"]["restartPolicy"] != "Always"
        if refused:
            message = TerminationMessage(reason=Reason.CONFIGURATION_REFUSED, message="the topic's name says so")
            await self.drivers.stop(run)
            state = _build_terminated_state(int(ExitCode.CONFIGURATION), message)
            await self._report(pod, run, state, "Running")  # the phase of a pod whose container kubelet will start again
            return
        await self._report(pod, run, {"running": {"startedAt": _now()}}, "Running")
        if one_shot:
            await asyncio.wait({deletion}, timeout=ONE_SHOT_SECONDS)
            if not deletion.done():
                await self.drivers.stop(run)
                message = TerminationMessage(reason=Reason.COMPLETED, message="all records are read", status=build_status(run))
                await self._report(pod, run, _build_terminated_state(0, message), "Succeeded")

    async def _remove(self, pod: Json, run: DriverRun | None) -> None:
        metadata = pod["metadata"]
        if run is not None and run.ended is None:
            await asyncio.sleep(STOP_SECONDS)
            await self.drivers.stop(run)
            one_shot = pod["spec"]["restartPolicy"] != "Always"
            has_state = build_status(run).checkpoint_has_state
            message = TerminationMessage(
                reason=Reason.DRIVER_FAILED, message="stopped as requested", checkpoint_has_state=has_state, attempt=run.attempt
            )
            state = _build_terminated_state(STOPPED_EARLY if one_shot else 0, message)
            await self._report(pod, run, state, "Failed" if one_shot else "Succeeded")
        await self.api.delete("pods", metadata["namespace"], metadata["name"], uid=metadata["uid"], grace=0)

    async def _report(self, pod: Json, run: DriverRun, state: Json, phase: str) -> None:
        up = "True" if "running" in state else "False"
        container = pod["spec"]["containers"][0]
        container_status = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        status = {
            "phase": phase,
            "podIP": run.address,
            "podIPs": [{"ip": run.address}],
            "startTime": _now(),
            "conditions": [{"type": kind, "status": up} for kind in ("Ready", "ContainersReady")]
            + [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{**container_status, "ready": up == "True", "started": up == "True", "state": state}],
        }
        await self._patch("pods", pod, {"status": status})

    async def _patch(self, plural: str, item: Json, change: Json) -> None:
        """Patches the status of this object. Does nothing when it is deleted, or when another object has its name by
        now."""
        metadata = item["metadata"]
        body = {"metadata": {"uid": metadata["uid"]}, **change}
        try:
            await self.api.patch(plural, metadata["namespace"], metadata["name"], body, "status")
        except ApiError as error:
            if error.status not in {404, 409, 422}:
                raise

    async def _wait(self, plural: str, namespace: str, name: str) -> Json:
        while True:
            found = await self.api.find(plural, namespace, name)
            if found is not None:
                return found
            await asyncio.sleep(POLL_SECONDS)

    def _find_config_map(self, pod: Json) -> str:
        return next(str(volume["configMap"]["name"]) for volume in pod["spec"]["volumes"] if "configMap" in volume)
