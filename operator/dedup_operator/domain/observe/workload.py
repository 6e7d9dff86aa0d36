"""The observed workload: the StatefulSet, Kubernetes Job or CronJob that runs the driver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dedup_api import names
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.annotations import APPLIED_GENERATION, APPLIED_SPEC, GIVEN_UP, RESTARTED_FOR, ROLLING, GivenUp, parse_given_up
from dedup_operator.domain.driver_objects import Kind, find_config_map, find_image, find_template
from dedup_operator.domain.driver_settings import parse_spec
from dedup_operator.domain.observe.ownership import is_deleting
from dedup_operator.domain.types import Json

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""The annotation of the pod template that `kubectl rollout restart` sets to the present time."""


@dataclass(frozen=True)
class Run:
    """A Kubernetes Job that a CronJob created."""

    name: str
    uid: str
    deleting: bool
    outdated: bool = False
    """The next run will have other settings or another image."""
    other_needs: bool = False
    """The next run will need other brokers, topics or another consumer group for its start."""


@dataclass(frozen=True)
class Workload:
    kind: Kind
    uid: str
    replicas: int
    """1 when the workload creates pods, 0 when it is scaled down or suspended."""
    applied: DedupJobSpec | None
    """The spec from which the operator built the pod template. None when the annotation is missing."""
    given_up: GivenUp | None
    restarting: bool
    """The operator scaled the workload to 0 in order to restart the driver."""
    image: str
    config_map: str
    raw: Json
    observed_by_controller: bool = True
    """For a StatefulSet: its controller has seen the present spec. With 0 replicas it then creates no more pods."""
    drifted: bool = False
    """Something other than the operator changed the spec after the operator's last write."""
    restart_requested: str = ""
    """The time at which somebody used `kubectl rollout restart`, which writes it into the pod template. Empty when nobody
    has, or when the operator has restarted the driver for it."""
    changed_by: str = ""
    """The field manager that changed the object last, apart from the operator and the controllers' status."""
    ended: bool = False
    """A Kubernetes Job that will create no more pods."""
    completed: bool = False
    """A Kubernetes Job that ended successfully."""
    runs: tuple[Run, ...] = ()
    """For a CronJob: the runs that have not ended."""


def observe_workload(raw: Json, runs: Iterable[Json] = ()) -> Workload:
    """`runs`: the Kubernetes Jobs of a CronJob, including those that have ended."""
    annotations = raw["metadata"].get("annotations", {})
    is_job = raw["kind"] == Kind.JOB
    return Workload(
        kind=Kind(raw["kind"]),
        uid=raw["metadata"]["uid"],
        replicas=find_replicas(raw),
        applied=parse_spec(annotations.get(APPLIED_SPEC)),
        given_up=parse_given_up(annotations.get(GIVEN_UP)),
        restarting=ROLLING in annotations,
        image=find_image(raw),
        config_map=find_config_map(raw),
        raw=raw,
        observed_by_controller=raw["kind"] != Kind.STATEFUL_SET or _is_observed_by_controller(raw),
        drifted=_has_drifted(raw, annotations.get(APPLIED_GENERATION)),
        restart_requested=_find_restart(raw, annotations),
        changed_by=_find_last_manager(raw),
        ended=is_job and job_has_ended(raw),
        completed=is_job and _has_condition(raw, {"Complete"}),
        runs=tuple(_observe_run(run, raw) for run in runs if not job_has_ended(run)),
    )


def find_replicas(raw: Json) -> int:
    if raw["kind"] == Kind.STATEFUL_SET:
        return int(raw["spec"].get("replicas", 1))
    return 0 if raw["spec"].get("suspend", False) else 1


def job_has_ended(raw: Json) -> bool:
    """`raw`: a Kubernetes Job."""
    return _has_condition(raw, {"Complete", "Failed"})


def _has_condition(raw: Json, types: set[str]) -> bool:
    conditions = raw.get("status", {}).get("conditions", [])
    return any(condition["type"] in types and condition["status"] == "True" for condition in conditions)


def _is_observed_by_controller(raw: Json) -> bool:
    return int(raw.get("status", {}).get("observedGeneration", 0)) >= int(raw["metadata"].get("generation", 0))


def _has_drifted(raw: Json, applied: str | None) -> bool:
    return applied is not None and applied != str(raw["metadata"].get("generation", applied))


def find_restarted_at(workload: Json) -> str:
    return str((find_template(workload).get("metadata", {}).get("annotations") or {}).get(RESTARTED_AT, ""))


def _find_restart(raw: Json, annotations: Json) -> str:
    found = find_restarted_at(raw)
    return found if found != annotations.get(RESTARTED_FOR) else ""


def _find_last_manager(raw: Json) -> str:
    entries = raw["metadata"].get("managedFields") or []
    others = [entry for entry in entries if entry.get("manager") != names.MANAGER and not entry.get("subresource")]
    newest: Json = max(others, key=lambda entry: str(entry.get("time", "")), default={})
    return str(newest.get("manager", ""))


def _observe_run(raw: Json, cron_job: Json) -> Run:
    metadata = raw["metadata"]
    same = find_image(raw) == find_image(cron_job) and _have_same_settings(raw, cron_job)
    of_run, of_next = (parse_spec(found["metadata"].get("annotations", {}).get(APPLIED_SPEC)) for found in (raw, cron_job))
    other_needs = of_run is not None and of_next is not None and list_start_needs(of_run) != list_start_needs(of_next)
    return Run(metadata["name"], metadata["uid"], is_deleting(raw), outdated=not same, other_needs=other_needs)


def list_start_needs(spec: DedupJobSpec) -> tuple[object, ...]:
    """What must be there before a driver begins its work. It waits for these things without an end."""
    kafka, source = spec.sink.kafka, spec.source
    return source.bootstrap_servers, source.topic, source.consumer_group, kafka and kafka.topic, spec.dead_letter


def _have_same_settings(run: Json, cron_job: Json) -> bool:
    """Compares the annotations as specs, because another version of the operator may render the same spec in another
    way. A run without the annotation comes from an early version and is compared by its ConfigMap."""
    of_run, of_next = (raw["metadata"].get("annotations", {}).get(APPLIED_SPEC) for raw in (run, cron_job))
    if of_run is None:
        return find_config_map(run) == find_config_map(cron_job)
    return of_run == of_next or parse_spec(of_run) == parse_spec(of_next)
