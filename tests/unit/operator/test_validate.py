"""Validation of a DedupJob: what is valid, and which field a message names."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_operator.domain.validate import Invalid, ValidJob, validate
from unit.operator.samples import SPEC


def resource(**changes: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": "demo", "uid": "u", "generation": 3}, "spec": {**SPEC, **changes}}


def test_a_valid_resource_becomes_a_job() -> None:
    job = validate(resource())
    assert isinstance(job, ValidJob) and (job.name, job.generation) == ("demo", 3)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"watermark": "10 fortnights"}, "spec.watermark"),
        ({"watermark": None}, "spec.watermark"),
        ({"trigger": {"processingTime": "often"}}, "spec.trigger.processingTime"),
        ({"sink": {}}, "spec.sink"),
        ({"sink": {"console": {}, "kafka": {"topic": "x"}}}, "spec.sink"),
        ({"driver": {"resources": {"limits": {"memory": "lots"}}}}, "spec.driver.resources.limits.memory"),
        ({"checkpoint": {"claim": {"size": "big"}}}, "spec.checkpoint.claim.size"),
        ({"key": {"fields": []}}, "spec.key.fields"),
    ],
)
def test_the_message_names_the_invalid_field_that_an_older_crd_accepted(changes: dict[str, Any], field: str) -> None:
    job = validate(resource(**changes))
    assert isinstance(job, Invalid) and field in job.message


@pytest.mark.parametrize(
    ("checkpoint", "retain"), [({"reclaimPolicy": "Retain"}, True), ({"reclaimPolicy": "Delete"}, False), ({}, True), ("x", False)]
)
def test_retain_applies_although_the_spec_is_invalid(checkpoint: Any, retain: bool) -> None:
    """The DedupJob may be deleted before its spec is valid again."""
    spec = {**SPEC, "watermark": "soon", "checkpoint": checkpoint}
    found = validate({"metadata": {"namespace": "ns", "name": "demo", "uid": "u", "generation": 1}, "spec": spec})
    assert isinstance(found, Invalid) and found.retain is retain


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("*/10 * * * *", None),
        ("0 3-5,7 1 jan-mar mon-fri", None),
        ("@daily", None),
        ("? 3 * * 0", None),
        ("61 * * * *", "five fields"),
        ("* * * *", "five fields"),
        ("*/0 * * * *", "five fields"),
        ("@reboot", "five fields"),
        ("* 5-3 * * *", "5-3 runs backwards"),
        ("* * * * fri-mon", "fri-mon runs backwards"),
    ],
)
def test_a_schedule_has_five_valid_fields(schedule: str, problem: str | None) -> None:
    spec = {**SPEC, "trigger": {"availableNow": {"schedule": schedule}}}
    found = validate({"metadata": {"namespace": "ns", "name": "demo", "uid": "u", "generation": 1}, "spec": spec})
    if problem is None:
        assert isinstance(found, ValidJob)
    else:
        assert isinstance(found, Invalid) and problem in found.message and "spec.trigger.availableNow.schedule" in found.message
