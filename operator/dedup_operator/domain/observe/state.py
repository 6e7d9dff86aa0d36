"""From raw objects to facts: what stands in the cluster for one job, and whether it is ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_api.job_config import JobConfig
from dedup_api.status import DriverExit
from dedup_operator.domain.observe.checkpoint import CheckpointClaim, find_applied_config, find_holder, observe_checkpoint
from dedup_operator.domain.observe.ownership import (
    Ownership,
    find_controller,
    observe_claim_ownership,
    observe_ownership,
    observe_pod_ownership,
)
from dedup_operator.domain.observe.pod import DriverPod, Silence, has_ended, observe_pod
from dedup_operator.domain.observe.workload import Kind, Workload, find_config_map, find_wanted_kind, observe_workload
from dedup_operator.domain.observe.workload import has_ended as run_has_ended
from dedup_operator.domain.times import parse_time

Json = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """Raw objects, each from a live read: None means that the API server said it does not exist."""

    job: Json
    stateful_set: Json | None = None
    cron_job: Json | None = None
    runs: tuple[Json, ...] = ()
    """All Jobs with the DedupJob's label."""
    pods: tuple[Json, ...] = ()
    """All with the DedupJob's label, and the one that bears the name of a StatefulSet's pod."""
    claim: Json | None = None
    record: Json | None = None
    """With `spec.checkpoint.existing`: the ConfigMap that says what the folder belongs to."""
    service: Json | None = None
    config_maps: tuple[Json, ...] = ()
    events: tuple[Json, ...] = ()
    """Warnings about the children; read only while something is amiss."""
    answer: DriverStatus | Silence | None = None
    departed: Json | None = None
    """The pod that went last, as the watch showed it: for a live read there is hardly time between its end and its removal."""


@dataclass(frozen=True)
class World:
    """What there is. Objects that are not this job's appear only under `foreign`, `leaving` and `strays`."""

    workload: Workload | None = None
    spare: Workload | None = None
    """One more: there is one at a time, so it is removed."""
    pod: DriverPod | None = None
    """The one that lives; of several the oldest, which the others wait for."""
    claim: CheckpointClaim | None = None
    holder: str | None = None
    """Who else has the checkpoint that this job names."""
    has_service: bool = False
    config_map_uids: tuple[tuple[str, str], ...] = ()
    """(name, UID), sorted."""
    used_config_maps: frozenset[str] = frozenset()
    """Those that a workload or a run names."""
    foreign: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    answer: DriverStatus | Silence | None = None
    """Of the driver that lives; else what the last one left when it was through."""
    rejection: str | None = None
    """Why the API server refuses the driver's pod."""
    claim_trouble: str | None = None
    """Why no volume is made for the claim."""
    mount_trouble: str | None = None
    """Why the node cannot mount the pod's volumes."""
    claim_known: bool = False
    """The status says that this job has had a claim."""
    last_words: tuple[DriverExit, ...] = ()
    """How the driver ended in the pod that went last."""

    @property
    def pinned(self) -> JobConfig | None:
        """The configuration that the stored keys were made with; None while there are none."""
        return self.claim.config if self.claim and self.claim.may_hold_keys else None

    @property
    def config_maps(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.config_map_uids)


class _Sorter:
    """Lets through what is ours, and remembers the rest."""

    def __init__(self) -> None:
        self.found: dict[Ownership, list[str]] = {ownership: [] for ownership in Ownership}

    def pass_ours(self, raw: Json, ownership: Ownership) -> bool:
        self.found[ownership].append(f"{raw['kind']} {raw['metadata']['name']}")
        return ownership is Ownership.OURS


def observe_world(snapshot: Snapshot) -> World:
    uid, name = snapshot.job["metadata"]["uid"], snapshot.job["metadata"]["name"]
    sorter = _Sorter()
    shared = _names_shared_claim(snapshot.job)
    makers, controllers = _sort_workloads(snapshot, sorter, uid, name)
    wanted = find_wanted_kind(snapshot.job.get("spec") or {})
    workloads = sorted(
        (observe_workload(raw, [run for run in snapshot.runs if _is_controlled_by(run, raw)]) for raw in makers),
        key=lambda workload: (-workload.replicas, workload.kind is not wanted),
    )
    workload = workloads[0] if workloads else None
    service = [item for item in (snapshot.service,) if item and sorter.pass_ours(item, observe_ownership(item, uid, name))]
    config_maps = [item for item in snapshot.config_maps if observe_ownership(item, uid, name) is Ownership.OURS]
    pods = _sort_pods(snapshot, sorter, controllers, name)
    live, ended = ([pod for pod in pods if has_ended(pod) is past] for past in (False, True))
    status = snapshot.job.get("status") or {}
    answer = snapshot.answer if live else _find_report(ended, status)
    claim = snapshot.claim
    if claim and not shared and not sorter.pass_ours(claim, observe_claim_ownership(claim, workload is not None, uid, name)):
        claim = None
    holder = find_holder(claim, snapshot.record, name) if shared else None
    record = snapshot.record if holder is None else None  # what another job has noted is about its keys, and its alone to change
    counted = (status.get("progress") or {}).get("batch") is not None
    applied = find_applied_config([*live[:1], *reversed(ended), *([workload.raw] if workload else [])], config_maps)
    return World(
        workload=workload,
        spare=workloads[1] if len(workloads) > 1 else None,
        pod=observe_pod(live[0]) if live else None,
        claim=observe_checkpoint(claim, record, uid, applied, answer, counted, shared=shared) if claim else None,
        holder=holder,
        has_service=bool(service),
        config_map_uids=tuple(sorted((item["metadata"]["name"], item["metadata"]["uid"]) for item in config_maps)),
        used_config_maps=frozenset(find_config_map(raw) for raw in [*makers, *live, *_list_going_on(snapshot.runs)]) - {""},
        foreign=tuple(sorter.found[Ownership.FOREIGN]),
        leaving=tuple(sorter.found[Ownership.LEAVING]),
        strays=tuple(sorter.found[Ownership.STRAY]),
        answer=answer,
        rejection=_find_event(snapshot.events, set(Kind), {"FailedCreate"}),
        claim_trouble=_find_event(snapshot.events, {"PersistentVolumeClaim"}, {"ProvisioningFailed", "FailedBinding", "FailedMount"}),
        mount_trouble=_find_event(snapshot.events, {"Pod"}, {"FailedMount", "FailedAttachVolume"}),
        claim_known=bool((status.get("checkpoint") or {}).get("claim")),
        last_words=(*_observe_last_words(snapshot.departed, controllers, name, ended), *_recall_exit(workload)),
    )


def find_driver(snapshot: Snapshot) -> Json | None:
    """The pod of the driver that lives, as `observe_world` sees it."""
    metadata, sorter = snapshot.job["metadata"], _Sorter()
    _, controllers = _sort_workloads(snapshot, sorter, metadata["uid"], metadata["name"])
    return next((pod for pod in _sort_pods(snapshot, sorter, controllers, metadata["name"]) if not has_ended(pod)), None)


def _names_shared_claim(job: Json) -> bool:
    return bool((job.get("spec", {}).get("checkpoint") or {}).get("existing"))


def _sort_workloads(snapshot: Snapshot, sorter: _Sorter, uid: str, name: str) -> tuple[list[Json], set[str]]:
    """Our workloads, and the UIDs of all that may make a pod for this job."""
    by_name = [raw for raw in (snapshot.stateful_set, snapshot.cron_job, *snapshot.runs) if raw and _is_workload(raw, name)]
    makers = [raw for raw in by_name if sorter.pass_ours(raw, observe_ownership(raw, uid, name))]
    runs = [run for run in snapshot.runs if any(_is_controlled_by(run, raw) for raw in makers if raw["kind"] == Kind.CRON_JOB)]
    return makers, {raw["metadata"]["uid"] for raw in [*makers, *runs]}


def _list_going_on(runs: Iterable[Json]) -> list[Json]:
    return [run for run in runs if not run_has_ended(run)]


def _is_workload(raw: Json, name: str) -> bool:
    return bool(raw["metadata"]["name"] == names.driver_name(name))


def _is_controlled_by(run: Json, cron_job: Json) -> bool:
    owner = find_controller(run)
    return owner is not None and owner["uid"] == cron_job["metadata"]["uid"]


def _sort_pods(snapshot: Snapshot, sorter: _Sorter, controllers: set[str], name: str) -> list[Json]:
    """Our pods, oldest first. What has ended and is not ours does not matter."""
    known = {pod["metadata"]["uid"]: pod for pod in snapshot.pods}
    pods = sorted(known.values(), key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    found = []
    for pod in pods:
        ownership = observe_pod_ownership(pod, controllers, name)
        if (ownership is Ownership.OURS or not has_ended(pod)) and sorter.pass_ours(pod, ownership):
            found.append(pod)
    return found


def _find_report(ended: list[Json], status: Json) -> DriverStatus | None:
    """What the newest driver that was through has left, unless a later one, which was stopped, has got further by then."""
    reports = (observe_pod(pod).report for pod in reversed(ended))
    known = (status.get("checkpoint") or {}).get("attempt") or 0
    return next((report for report in reports if report is not None and (report.attempt or 0) >= known), None)


def _observe_last_words(departed: Json | None, controllers: set[str], name: str, ended: list[Json]) -> tuple[DriverExit, ...]:
    exits = [exit for pod in reversed(ended) for exit in observe_pod(pod).exits]
    if departed is not None and observe_pod_ownership(departed, controllers, name) is Ownership.OURS:
        exits = [*observe_pod(departed).exits, *exits]
    return tuple(exits)


def _recall_exit(workload: Workload | None) -> tuple[DriverExit, ...]:
    exit = workload.given_up.exit if workload and workload.given_up else None
    return (exit,) if exit else ()


def _find_event(events: Iterable[Json], kinds: set[Kind] | set[str], reasons: set[str]) -> str | None:
    matching = [event for event in events if event["involvedObject"]["kind"] in kinds and event["reason"] in reasons]
    if not matching:
        return None
    newest = max(matching, key=_event_time)
    return str(newest.get("message", "")).strip() or None


def _event_time(event: Json) -> datetime:
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(text or event["metadata"]["creationTimestamp"])
