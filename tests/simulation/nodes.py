"""Scheduler, volume binder and kubelet: they start a process for a pod, and end it after the pod is deleted.

kubelet acts only while its node is connected; without it, processes keep running. A pod's status always lags a little
behind its process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dedup_api import names
from dedup_api.driver_status import TerminationMessage
from dedup_api.exits import STOPPED_EARLY, ExitCode
from dedup_api.reasons import Reason
from simulation.api_server import Address, Change, Event, Json, Kind, render_time
from simulation.checkpoint_location import build_volume_key, find_claim_name, find_mounted_location
from simulation.driver import DriverProcess, Volume
from simulation.faults import Fault

if TYPE_CHECKING:
    from simulation.run import Simulation

KUBELET = "kubelet"
CONFIG_KEY = "job.json"
LONGEST_BACKOFF = 300.0
BACKOFF_RESET = 600.0


@dataclass
class Node:
    name: str
    reachable_at: float = 0.0
    """The node is disconnected until this time."""


@dataclass
class PodRun:
    """What kubelet knows about a pod. After `is_over` nothing more happens for it."""

    address: Address
    uid: str
    grace: int
    restart: str
    node: Node | None = None
    process: DriverProcess | None = None
    restarts: int = 0
    backoff: float = 10.0
    started: float = 0.0
    terminating: bool = False
    evicted: bool = False
    is_over: bool = False


class Nodes:
    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.nodes = [Node("one"), Node("two")]
        self.runs: dict[str, PodRun] = {}
        self.image_missing_until = 0.0

    def on_change(self, change: Change) -> None:
        if change.address.kind is not Kind.PODS:
            return
        rng = self.simulation.rng
        if change.event is Event.ADDED and change.new is not None:
            spec = change.new["spec"]
            uid = change.new["metadata"]["uid"]
            run = PodRun(change.address, uid, spec.get("terminationGracePeriodSeconds", 30), spec.get("restartPolicy", "Always"))
            self.runs[uid] = run
            self._run_later(run, rng.uniform(0.02, 0.5), self._schedule)
        elif change.event is Event.MODIFIED and change.new is not None and "deletionTimestamp" in change.new["metadata"]:
            run = self.runs[change.new["metadata"]["uid"]]
            if not run.terminating and run.node is not None:
                run.terminating = True
                self._run_later(run, rng.uniform(0.01, 0.5), self._stop)
        elif change.event is Event.DELETED and change.old is not None:
            run = self.runs[change.old["metadata"]["uid"]]
            if run.process is not None and run.process.alive:
                self._run_later(run, rng.uniform(0.1, 1.0), self._stop_orphaned_process)
            else:
                run.is_over = True

    def _run_later(self, run: PodRun, delay: float, action: Callable[[PodRun], None]) -> None:
        def act() -> None:
            if run.is_over:
                return
            now = self.simulation.loop.now
            if run.node is not None and run.node.reachable_at > now:
                self.simulation.loop.after(run.node.reachable_at - now + 0.1, act)
            else:
                action(run)

        self.simulation.loop.after(delay, act)

    def _find_pod(self, run: PodRun) -> Json | None:
        pod = self.simulation.server.peek(Kind.PODS, run.address.namespace, run.address.name)
        return pod if pod is not None and pod["metadata"]["uid"] == run.uid else None

    def _report(self, run: PodRun, edit: Callable[[Json], None]) -> None:
        if self._find_pod(run) is not None:
            self.simulation.server.change_status(Kind.PODS, run.address.namespace, run.address.name, edit, KUBELET)

    def _schedule(self, run: PodRun) -> None:
        pod = self._find_pod(run)
        if pod is None:
            run.is_over = True
            return
        server, rng, namespace = self.simulation.server, self.simulation.rng, run.address.namespace
        claim = server.peek(Kind.CLAIMS, namespace, find_claim_name(pod))
        free = [node for node in self.nodes if node.reachable_at <= self.simulation.loop.now]
        if claim is None or "deletionTimestamp" in claim["metadata"] or not free:
            self._report(run, lambda body: _set_scheduled(body, "0/2 nodes are available: persistentvolumeclaim not found"))
            self._run_later(run, 3.0, self._schedule)
            return
        if claim["status"]["phase"] == "Pending":
            uid = claim["metadata"]["uid"]
            self.simulation.loop.after(rng.uniform(0.05, 1.0), self._bind, namespace, claim["metadata"]["name"], uid)
            self._run_later(run, 1.2, self._schedule)
            return
        run.node = rng.choice(free)
        node = run.node.name

        def assign(body: Json) -> None:
            body["spec"]["nodeName"] = node
            _set_scheduled(body, None)

        self.simulation.server.change(Kind.PODS, run.address.namespace, run.address.name, assign, KUBELET)
        self._run_later(run, rng.uniform(0.05, 2.0), self._start)

    def _bind(self, namespace: str, name: str, uid: str) -> None:
        def bind(body: Json) -> None:
            if body["metadata"]["uid"] == uid:
                body["status"]["phase"] = "Bound"

        self.simulation.server.change_status(Kind.CLAIMS, namespace, name, bind, "binder")

    def _start(self, run: PodRun) -> None:
        pod = self._find_pod(run)
        if pod is None or run.terminating or run.evicted:
            return
        server, now = self.simulation.server, self.simulation.loop.now
        if self.simulation.faults.active and now < self.image_missing_until and run.restarts == 0:
            self.simulation.faults.record(Fault.IMAGE_MISSING)
            self._set_container(run, {"waiting": {"reason": "ErrImagePull", "message": "not found"}})
            self._run_later(run, 8.0, self._start)
            return
        config = server.peek(Kind.CONFIG_MAPS, run.address.namespace, find_config_name(pod))
        claim = server.peek(Kind.CLAIMS, run.address.namespace, find_claim_name(pod))
        if config is None or claim is None:
            self._run_later(run, 2.0, self._start)
            return
        volume = self.simulation.volumes.setdefault(build_volume_key(claim["metadata"]["uid"], find_mounted_location(pod)[1]), Volume())
        one_shot = run.restart != "Always"
        run.process = DriverProcess(
            self.simulation, run.uid, config["data"][CONFIG_KEY], volume, one_shot=one_shot, on_exit=self._record_exit
        )
        run.started = now
        self.simulation.log(f"container of {run.address.name} ({run.uid}) starts")
        started = render_time(now)
        self._run_later(run, self.simulation.rng.uniform(0.01, 0.5), lambda _: self._report_running(run, started))

    def _report_running(self, run: PodRun, started: str) -> None:
        if run.process is not None and run.process.alive:
            self._set_container(run, {"running": {"startedAt": started}}, phase="Running", ready=True)

    def _record_exit(self, process: DriverProcess, code: int, reason: str) -> None:
        run = self.runs[process.pod_uid]
        self.simulation.log(f"container of {run.address.name} ({run.uid}) ends with {code}")
        finished = render_time(self.simulation.loop.now)
        message = f'{{"reason": "{reason}", "message": "the simulation says so"}}' if reason else ""
        if process.all_read:
            message = TerminationMessage(reason=Reason.COMPLETED, message="all read", status=process.describe()).model_dump_json(
                by_alias=True
            )
        elif process.stopping and code in {ExitCode.DONE, STOPPED_EARLY} and process.attempt is not None:
            has_state = process.volume.state_config is not None
            message = TerminationMessage(
                reason=Reason.DRIVER_FAILED, message="stopped as requested", checkpoint_has_state=has_state, attempt=process.attempt
            ).model_dump_json(by_alias=True)
        end = {"exitCode": int(code), "reason": "Completed" if code == 0 else "Error", "message": message, "finishedAt": finished}
        self._run_later(run, self.simulation.rng.uniform(0.01, 0.5), lambda _: self._report_exit(run, end))

    def _report_exit(self, run: PodRun, end: Json) -> None:
        if self._find_pod(run) is None:
            run.is_over = True
            return
        if run.evicted:
            return
        final = run.restart == "OnFailure" and end["exitCode"] == 0
        if run.terminating or final:
            phase = ("Succeeded" if end["exitCode"] == 0 else "Failed") if run.restart == "OnFailure" or run.terminating else "Running"
            self._set_container(run, {"terminated": end}, phase=phase)
            if run.terminating:
                self._run_later(run, self.simulation.rng.uniform(0.05, 0.5), self._remove)
            return
        if self.simulation.loop.now - run.started > BACKOFF_RESET:
            run.backoff = 10.0
        self._set_container(run, {"waiting": {"reason": "CrashLoopBackOff"}}, last=end)
        run.restarts += 1
        if run.restarts == 1:  # kubelet restarts a container at once after its first exit
            self._run_later(run, self.simulation.rng.uniform(0.1, 1.5), self._start)
            return
        self._run_later(run, run.backoff, self._start)
        run.backoff = min(run.backoff * 2, LONGEST_BACKOFF)

    def _stop(self, run: PodRun) -> None:
        if run.process is not None and run.process.alive:
            process = run.process
            process.terminate()
            self._run_later(run, float(run.grace), lambda _: process.kill())
        else:
            self._run_later(run, self.simulation.rng.uniform(0.05, 0.5), self._remove)

    def _remove(self, run: PodRun) -> None:
        if self._find_pod(run) is not None:
            self.simulation.server.delete(Kind.PODS, run.address.namespace, run.address.name, uid=run.uid, grace=0, actor=KUBELET)
        run.is_over = True

    def _stop_orphaned_process(self, run: PodRun) -> None:
        if run.process is not None:
            process = run.process
            process.terminate()
            self._run_later(run, 2.0, lambda _: process.kill())

    def _set_container(self, run: PodRun, state: Json, *, phase: str | None = None, ready: bool = False, last: Json | None = None) -> None:
        address = f"10.0.0.{run.uid.removeprefix('uid-')}"

        def edit(body: Json) -> None:
            status = body["status"]
            known = (status.get("containerStatuses") or [{}])[0]
            before = {"terminated": last} if last is not None else known.get("lastState", {})
            status["containerStatuses"] = [
                {"name": names.CONTAINER, "state": state, "lastState": before, "ready": ready, "restartCount": run.restarts}
            ]
            status["podIP"] = address
            if phase is not None:
                status["phase"] = phase

        self._report(run, edit)

    def find_process(self, address: str) -> DriverProcess | None:
        run = self.runs.get("uid-" + address.rpartition(".")[2])
        return run.process if run is not None and run.process is not None and run.process.alive else None

    def evict(self, pod: Json) -> None:
        run = self.runs[pod["metadata"]["uid"]]
        if run.node is None or run.terminating or run.process is None or not run.process.alive:
            return
        self.simulation.faults.record(Fault.EVICTION)
        run.evicted = True
        run.process.kill()

        def fail(body: Json) -> None:
            body["status"]["phase"] = "Failed"
            body["status"]["reason"] = "Evicted"
            body["status"]["containerStatuses"] = []

        self._report(run, fail)

    def disconnect(self, node: Node, seconds: float) -> None:
        self.simulation.faults.record(Fault.NODE_OUTAGE)
        self.simulation.log(f"node {node.name} is disconnected for {seconds:.0f} s")
        node.reachable_at = self.simulation.loop.now + seconds


def find_config_name(pod: Json) -> str:
    return next((str(volume["configMap"]["name"]) for volume in pod["spec"]["volumes"] if "configMap" in volume), "")


def _set_scheduled(body: Json, problem: str | None) -> None:
    condition = {"type": "PodScheduled", "status": "True"}
    if problem is not None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": problem}
    body["status"]["conditions"] = [condition]
