"""Turns a DedupJob from the API server into a valid job, or into the reason why its spec is invalid.

The rules of the CRD refuse most mistakes at `kubectl apply`. This module finds mistakes in objects that an older CRD
accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ValidationError

from dedup_api import names
from dedup_api.checkpoint import ReclaimPolicy
from dedup_api.durations import parse_duration
from dedup_api.field_rules import CRON_PATTERN
from dedup_api.job_config import build_job_config
from dedup_api.paths import find_path_problem
from dedup_api.quantities import parse_quantity
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.types import Json


@dataclass(frozen=True)
class ValidJob:
    namespace: str
    name: str
    uid: str
    generation: int
    spec: DedupJobSpec


@dataclass(frozen=True)
class Invalid:
    uid: str
    message: str
    suspend: bool
    """spec.suspend is true. The operator can stop a driver although the spec is invalid."""
    retain: bool = False
    """spec.checkpoint.reclaimPolicy is Retain. The DedupJob may be deleted before its spec is valid again."""


def validate(resource: Json) -> ValidJob | Invalid:
    """The message of `Invalid` names the field and what to do."""
    metadata, document = resource["metadata"], resource.get("spec") or {}
    uid = metadata["uid"]
    suspend = document.get("suspend") is True
    checkpoint = document.get("checkpoint") or {}
    retain = isinstance(checkpoint, dict) and checkpoint.get("reclaimPolicy", ReclaimPolicy.RETAIN) == ReclaimPolicy.RETAIN
    try:
        spec = DedupJobSpec.model_validate(document)
    except ValidationError as error:
        return Invalid(uid, _describe(error), suspend, retain)
    problem = _find_problem(metadata["namespace"], metadata["name"], spec)
    if problem is not None:
        return Invalid(uid, problem, suspend, retain)
    return ValidJob(namespace=metadata["namespace"], name=metadata["name"], uid=uid, generation=metadata["generation"], spec=spec)


def _describe(error: ValidationError) -> str:
    problems = (f"Correct {'.'.join(['spec', *map(str, entry['loc'])])}: {entry['msg']}" for entry in error.errors()[:3])
    return "; ".join(problems)


def _find_problem(namespace: str, name: str, spec: DedupJobSpec) -> str | None:
    if len(name) > names.MAX_NAME_LENGTH:
        return f"metadata.name is too long: create a new DedupJob with a name of at most {names.MAX_NAME_LENGTH} characters"
    for union in (spec.sink, spec.trigger, spec.checkpoint):
        if (problem := union.find_union_problem()) is not None:
            return problem
    unreadable = _find_bad_schedule(spec) or _find_unreadable_value(spec)
    return unreadable or find_path_problem(spec.key, spec.event_time) or build_job_config(namespace, name, spec).topic_conflict


_ORDER = {
    name: number
    for names in ("sun mon tue wed thu fri sat", "- jan feb mar apr may jun jul aug sep oct nov dec")
    for number, name in enumerate(names.split())
}


def _find_bad_schedule(spec: DedupJobSpec) -> str | None:
    schedule = spec.trigger.available_now.schedule if spec.trigger.available_now else None
    if schedule is None:
        return None
    if not re.fullmatch(CRON_PATTERN, schedule):
        return "spec.trigger.availableNow.schedule must have five fields as in crontab, such as */10 * * * *"
    for low, high in re.findall(r"(\w+)-(\w+)", schedule):
        if _order(low) > _order(high):
            return f"spec.trigger.availableNow.schedule: the range {low}-{high} runs backwards. Swap its ends, or write two ranges"
    return None


def _order(value: str) -> int:
    return int(value) if value.isdigit() else _ORDER[value]


def _find_unreadable_value(spec: DedupJobSpec) -> str | None:
    durations = {
        "spec.watermark": spec.watermark,
        "spec.trigger.processingTime": spec.trigger.processing_time or "0s",
        "spec.eventTime.maxFutureSkew": spec.event_time.max_future_skew,
    }
    limits, requests = spec.driver.resources.limits, spec.driver.resources.requests
    quantities = {
        "spec.driver.resources.limits.cpu": limits.cpu,
        "spec.driver.resources.limits.memory": limits.memory,
        "spec.driver.resources.requests.cpu": requests.cpu,
        "spec.driver.resources.requests.memory": requests.memory or limits.memory,
        "spec.checkpoint.claim.size": spec.checkpoint.own_claim.size if spec.checkpoint.own_claim else "1",
    }
    for field, duration in durations.items():
        try:
            parse_duration(duration)
        except ValueError as error:
            return f"Correct {field}: {error}"
    for field, quantity in quantities.items():
        try:
            parse_quantity(quantity)
        except ValueError as error:
            return f"Correct {field}: {error}"
    return None
