"""Which objects of a snapshot belong to the DedupJob, and which of its pods is the driver.

One reconciliation asks this once, in `adapters/fetch.py`, and everything after that uses the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dedup_api import names
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.observe.ownership import (
    Ownership,
    find_controller,
    observe_claim_ownership,
    observe_ownership,
    observe_pod_ownership,
)
from dedup_operator.domain.observe.pod import DriverPod, has_ended, observe_pod
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.types import Json


@dataclass(frozen=True)
class OwnedObjects:
    workloads: tuple[Json, ...]
    controllers: frozenset[str]
    """UIDs of everything that may create a pod for this DedupJob."""
    live_pods: tuple[Json, ...]
    """Oldest first."""
    ended_pods: tuple[Json, ...]
    """Oldest first."""
    driver: DriverPod | None
    """The driver's pod. Of several live pods it is the oldest, because the others wait for its locks."""
    driver_pod: Json | None
    """The raw object of `driver`."""
    claim: Json | None
    """The operator's own claim, or the user's claim that the spec names."""
    uses_shared_claim: bool
    has_service: bool
    config_maps: tuple[Json, ...]
    conflicting_objects: tuple[str, ...]
    terminating: tuple[str, ...]
    orphaned_pods: tuple[str, ...]


class _Sorter:
    """Separates our objects from the others, and keeps the names of the others."""

    def __init__(self) -> None:
        self._found: dict[Ownership, list[str]] = {ownership: [] for ownership in Ownership}

    def is_ours(self, raw: Json, ownership: Ownership) -> bool:
        self._found[ownership].append(f"{raw['kind']} {raw['metadata']['name']}")
        return ownership is Ownership.OURS

    def list_names(self, ownership: Ownership) -> tuple[str, ...]:
        return tuple(self._found[ownership])


def find_owned_objects(snapshot: Snapshot) -> OwnedObjects:
    uid, name = snapshot.job["metadata"]["uid"], snapshot.job["metadata"]["name"]
    sorter = _Sorter()
    workloads, controllers = _sort_workloads(snapshot, sorter, uid, name)
    service, claim = snapshot.service, snapshot.claim
    has_service = service is not None and sorter.is_ours(service, observe_ownership(service, uid, name))
    pods = _sort_pods(snapshot, sorter, controllers, name)
    live = tuple(pod for pod in pods if not has_ended(pod))
    shared = _names_shared_claim(snapshot.job)
    if claim and not shared and not sorter.is_ours(claim, observe_claim_ownership(claim, bool(workloads), uid, name)):
        claim = None
    return OwnedObjects(
        workloads=tuple(workloads),
        controllers=frozenset(controllers),
        live_pods=live,
        ended_pods=tuple(pod for pod in pods if has_ended(pod)),
        driver=observe_pod(live[0]) if live else None,
        driver_pod=live[0] if live else None,
        claim=claim,
        uses_shared_claim=shared,
        has_service=has_service,
        config_maps=tuple(item for item in snapshot.config_maps if observe_ownership(item, uid, name) is Ownership.OURS),
        conflicting_objects=sorter.list_names(Ownership.CONFLICTING),
        terminating=sorter.list_names(Ownership.TERMINATING),
        orphaned_pods=sorter.list_names(Ownership.ORPHANED),
    )


def list_controlled_runs(runs: Iterable[Json], cron_job: Json) -> list[Json]:
    """The Kubernetes Jobs that `cron_job` created."""
    return [run for run in runs if (owner := find_controller(run)) is not None and owner["uid"] == cron_job["metadata"]["uid"]]


def _names_shared_claim(job: Json) -> bool:
    return bool((job.get("spec", {}).get("checkpoint") or {}).get("existing"))


def _sort_workloads(snapshot: Snapshot, sorter: _Sorter, uid: str, name: str) -> tuple[list[Json], set[str]]:
    """Our workloads, and the UIDs of everything that may create a pod for this DedupJob."""
    driver_name = names.driver_name(name)
    named = [raw for raw in (snapshot.stateful_set, snapshot.cron_job, *snapshot.runs) if raw and raw["metadata"]["name"] == driver_name]
    workloads = [raw for raw in named if sorter.is_ours(raw, observe_ownership(raw, uid, name))]
    cron_jobs = [raw for raw in workloads if raw["kind"] == Kind.CRON_JOB]
    runs = [run for cron_job in cron_jobs for run in list_controlled_runs(snapshot.runs, cron_job)]
    return workloads, {raw["metadata"]["uid"] for raw in [*workloads, *runs]}


def _sort_pods(snapshot: Snapshot, sorter: _Sorter, controllers: Collection[str], name: str) -> list[Json]:
    """Our pods, oldest first. A pod that has ended and is not ours needs no attention."""
    known = {pod["metadata"]["uid"]: pod for pod in snapshot.pods}
    pods = sorted(known.values(), key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    found = []
    for pod in pods:
        ownership = observe_pod_ownership(pod, controllers, name)
        if (ownership is Ownership.OURS or not has_ended(pod)) and sorter.is_ours(pod, ownership):
            found.append(pod)
    return found
