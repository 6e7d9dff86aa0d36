"""Plays scheduler, kubelet and volumes: binds claims, gives pods to a node, starts and ends their drivers as kubelet would.

It keeps no second pod from a claim, although ReadWriteOncePod would: that two drivers never meet on a checkpoint must come from the
operator and the StatefulSet controller alone.
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
from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from fault_injection.api import Api, ApiError, Json
from fault_injection.drivers import REFUSED, Drivers, Run, build_status
from fault_injection.object_counts import Census

NODE = "played"
STORAGE_CLASS = "played"
"""Its claims can grow, at once and without limit."""
POLL_SECONDS = 0.1
STOP_SECONDS = 0.4
"""A driver finishes its batch when it is asked to stop. Long enough for a second edit to come in between."""
ONE_SHOT_SECONDS = 0.5
"""What a driver with an end of its own takes to get there."""


STOPPED = 143
"""Exit code of a driver that was to end by itself and is stopped before: its work is not done."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _build_end(code: int, message: TerminationMessage | None = None) -> Json:
    end: Json = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": _now(), "finishedAt": _now()}
    return {"terminated": {**end, "message": json.dumps(message.to_json_dict())} if message else end}


@dataclass
class PodLife:
    """A pod that the node knows: its task, and how the watch wakes it."""

    task: asyncio.Task[None] | None = None
    going: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Node:
    api: Api
    drivers: Drivers
    census: Census
    _pods: dict[str, PodLife] = field(default_factory=dict)
    _tasks: dict[str, set[asyncio.Task[None]]] = field(default_factory=dict)
    _forgotten: set[str] = field(default_factory=set)

    async def attach(self) -> None:
        growing = {"metadata": {"name": STORAGE_CLASS}, "provisioner": "played.test/volumes", "allowVolumeExpansion": True}
        await self.api.create("storageclasses", None, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", **growing})
        self.census.listeners["pods"].append(self._on_pod)
        self.census.listeners["persistentvolumeclaims"].append(self._on_claim)

    async def forget(self, namespace: str) -> None:
        """Nothing more is played in this namespace."""
        self._forgotten.add(namespace)
        tasks = self._tasks.pop(namespace, set())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in self.drivers.runs:
            if run.namespace == namespace:
                await self.drivers.stop(run)

    async def close(self) -> None:
        for namespace in list(self._tasks):
            await self.forget(namespace)

    def _spawn(self, namespace: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        tasks = self._tasks.setdefault(namespace, set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def _on_claim(self, kind: str, claim: Json) -> None:
        namespace = claim["metadata"]["namespace"]
        asked = claim["spec"]["resources"]["requests"]
        status = claim.get("status", {})
        if kind != "DELETED" and namespace not in self._forgotten and (status.get("phase") != "Bound" or status.get("capacity") != asked):
            self._spawn(namespace, self._bind_claim(claim, asked))

    async def _bind_claim(self, claim: Json, size: Json) -> None:
        status = {"phase": "Bound", "accessModes": claim["spec"]["accessModes"], "capacity": size}
        await self._patch("persistentvolumeclaims", claim, {"status": status})

    def _on_pod(self, kind: str, pod: Json) -> None:
        metadata = pod["metadata"]
        uid, namespace = metadata["uid"], metadata["namespace"]
        if namespace in self._forgotten:
            return
        if uid not in self._pods and kind != "DELETED":
            life = self._pods[uid] = PodLife()
            life.task = self._spawn(namespace, self._live(pod, life))
        if uid in self._pods and (kind == "DELETED" or "deletionTimestamp" in metadata):
            self._pods[uid].going.set()

    async def _live(self, pod: Json, life: PodLife) -> None:
        """From the first sight of a pod to its removal."""
        starting = asyncio.create_task(self._start(pod))
        going = asyncio.create_task(life.going.wait())
        try:
            await asyncio.wait({starting, going}, return_when=asyncio.FIRST_COMPLETED)
            run = await starting if starting.done() else None
            if run is not None:
                await self._run(pod, run, going)
            await going
            await self._remove(pod, run)
        finally:
            starting.cancel()
            going.cancel()

    async def _start(self, pod: Json) -> Run:
        """Like scheduler and kubelet: not before the claim is bound and the settings are there."""
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

    async def _run(self, pod: Json, run: Run, going: asyncio.Task[bool]) -> None:
        """Until the driver ends by itself, or the pod is to go."""
        settings = await self.api.get("configmaps", run.namespace, self._find_config_map(pod))
        run.topic = json.loads(settings["data"][PurePath(names.CONFIG_FILE).name])["source"]["topic"]
        refused = run.topic == REFUSED
        one_shot = pod["spec"]["restartPolicy"] != "Always"
        if refused:
            message = TerminationMessage(reason=Reason.CONFIGURATION_REFUSED, message="as told")
            await self.drivers.stop(run)
            await self._report(pod, run, _build_end(int(ExitCode.CONFIGURATION), message), "Running")  # kubelet would try again
            return
        await self._report(pod, run, {"running": {"startedAt": _now()}}, "Running")
        if one_shot:
            await asyncio.wait({going}, timeout=ONE_SHOT_SECONDS)
            if not going.done():
                await self.drivers.stop(run)
                message = TerminationMessage(reason=Reason.COMPLETED, message="through", status=build_status(run))
                await self._report(pod, run, _build_end(0, message), "Succeeded")

    async def _remove(self, pod: Json, run: Run | None) -> None:
        metadata = pod["metadata"]
        if run is not None and run.ended is None:
            await asyncio.sleep(STOP_SECONDS)
            await self.drivers.stop(run)
            one_shot = pod["spec"]["restartPolicy"] != "Always"
            await self._report(pod, run, _build_end(STOPPED if one_shot else 0), "Failed" if one_shot else "Succeeded")
        await self.api.delete("pods", metadata["namespace"], metadata["name"], uid=metadata["uid"], grace=0)

    async def _report(self, pod: Json, run: Run, state: Json, phase: str) -> None:
        up = "True" if "running" in state else "False"
        container = pod["spec"]["containers"][0]
        told = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        status = {
            "phase": phase,
            "podIP": run.address,
            "podIPs": [{"ip": run.address}],
            "startTime": _now(),
            "conditions": [{"type": kind, "status": up} for kind in ("Ready", "ContainersReady")]
            + [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{**told, "ready": up == "True", "started": up == "True", "state": state}],
        }
        await self._patch("pods", pod, {"status": status})

    async def _patch(self, plural: str, item: Json, change: Json) -> None:
        """Of this very object; one that is gone or another one now is left."""
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
