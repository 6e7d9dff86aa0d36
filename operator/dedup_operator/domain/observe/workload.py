"""What runs the driver: a StatefulSet all the time, a Job once, a CronJob by a schedule. All three have one name per DedupJob."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dedup_api.spec import DedupJobSpec
from dedup_operator.domain import annotations as marks
from dedup_operator.domain.driver_settings import parse_spec
from dedup_operator.domain.observe.ownership import is_deleting

Json = dict[str, Any]


class Kind(StrEnum):
    STATEFUL_SET = "StatefulSet"
    JOB = "Job"
    CRON_JOB = "CronJob"


def choose_kind(spec: DedupJobSpec) -> Kind:
    run = spec.trigger.available_now
    return _choose_kind(None if run is None else {"schedule": run.schedule})


def _choose_kind(available_now: Json | None) -> Kind:
    """By `spec.trigger.availableNow`."""
    if available_now is None:
        return Kind.STATEFUL_SET
    return Kind.JOB if available_now.get("schedule") is None else Kind.CRON_JOB


def find_wanted_kind(spec: Json) -> Kind | None:
    """`choose_kind` of a spec that may not be valid; None where it does not say."""
    trigger = spec.get("trigger")
    available_now = trigger.get("availableNow") if isinstance(trigger, dict) else None
    return _choose_kind(available_now) if available_now is None or isinstance(available_now, dict) else None


@dataclass(frozen=True)
class Run:
    """A Job that a schedule, or somebody in its name, has made."""

    name: str
    uid: str
    deleting: bool
    outdated: bool = False
    """It was made from other settings than those that the next one will have."""


@dataclass(frozen=True)
class Workload:
    kind: Kind
    uid: str
    replicas: int
    """1 where pods are made, 0 where it is scaled down or suspended."""
    applied: DedupJobSpec | None
    """What its template was made from; None where the annotation is gone."""
    given_up: marks.GivenUp | None
    rolling: bool
    """At 0 on the way to other settings, not to rest."""
    image: str
    config_map: str
    raw: Json
    settled: bool = True
    """Of a StatefulSet: its controller has seen the spec as it is, so at 0 it makes no pod any more."""
    drifted: bool = False
    """Somebody else has changed its spec since the operator wrote it last."""
    ended: bool = False
    """A Job that will make no pod any more."""
    completed: bool = False
    """And it ended well."""
    runs: tuple[Run, ...] = ()
    """Of a CronJob: those that have not ended."""


def _has_settled(raw: Json) -> bool:
    return int(raw.get("status", {}).get("observedGeneration", 0)) >= int(raw["metadata"].get("generation", 0))


def _has_drifted(raw: Json, applied: str | None) -> bool:
    return applied is not None and applied != str(raw["metadata"].get("generation", applied))


def find_template(raw: Json) -> Json:
    """The pod template of any of the three."""
    spec: Json = raw["spec"]
    template: Json = (spec["jobTemplate"]["spec"] if raw["kind"] == Kind.CRON_JOB else spec)["template"]
    return template


def find_replicas(raw: Json) -> int:
    if raw["kind"] == Kind.STATEFUL_SET:
        return int(raw["spec"].get("replicas", 1))
    return 0 if raw["spec"].get("suspend", False) else 1


def build_scaled(raw: Json, replicas: int) -> Json:
    """The spec of `raw` with 0 or 1 replica."""
    field = {"replicas": replicas} if raw["kind"] == Kind.STATEFUL_SET else {"suspend": replicas == 0}
    return {**raw["spec"], **field}


def find_image(raw: Json) -> str:
    return str(find_template(raw)["spec"]["containers"][0]["image"])


def find_config_map(raw: Json) -> str:
    """Name of the ConfigMap with `job.json` that a workload or a pod uses; empty where there is none."""
    spec: Json = raw.get("spec", {}) if raw["kind"] == "Pod" else find_template(raw)["spec"]
    volumes = spec.get("volumes", [])
    return next((str(volume["configMap"]["name"]) for volume in volumes if "configMap" in volume), "")


def has_ended(raw: Json) -> bool:
    """Of a Job."""
    return _has_condition(raw, {"Complete", "Failed"})


def _has_condition(raw: Json, types: set[str]) -> bool:
    conditions = raw.get("status", {}).get("conditions", [])
    return any(condition["type"] in types and condition["status"] == "True" for condition in conditions)


def observe_workload(raw: Json, runs: Iterable[Json] = ()) -> Workload:
    """`runs`: Jobs of a CronJob, ended ones too."""
    annotations = raw["metadata"].get("annotations", {})
    of_job = raw["kind"] == Kind.JOB
    return Workload(
        kind=Kind(raw["kind"]),
        uid=raw["metadata"]["uid"],
        replicas=find_replicas(raw),
        applied=parse_spec(annotations.get(marks.APPLIED_SPEC)),
        given_up=marks.parse_given_up(annotations.get(marks.GIVEN_UP)),
        rolling=marks.ROLLING in annotations,
        image=find_image(raw),
        config_map=find_config_map(raw),
        raw=raw,
        settled=raw["kind"] != Kind.STATEFUL_SET or _has_settled(raw),
        drifted=_has_drifted(raw, annotations.get(marks.APPLIED_GENERATION)),
        ended=of_job and has_ended(raw),
        completed=of_job and _has_condition(raw, {"Complete"}),
        runs=tuple(_observe_run(run, raw) for run in runs if not has_ended(run)),
    )


def _observe_run(raw: Json, cron_job: Json) -> Run:
    metadata = raw["metadata"]
    same = find_image(raw) == find_image(cron_job) and _have_same_settings(raw, cron_job)
    return Run(metadata["name"], metadata["uid"], is_deleting(raw), outdated=not same)


def _have_same_settings(run: Json, cron_job: Json) -> bool:
    """Compared as specs: another version may write the same one in another way. A run that does not say is known by its ConfigMap."""
    of_run, of_next = (raw["metadata"].get("annotations", {}).get(marks.APPLIED_SPEC) for raw in (run, cron_job))
    if of_run is None:
        return find_config_map(run) == find_config_map(cron_job)
    return of_run == of_next or parse_spec(of_run) == parse_spec(of_next)
