"""A union has one list of members. A member that is added to the model is known to the CRD, the operator and the driver."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import Field

from dedup_api.checkpoint import Checkpoint
from dedup_api.crd import build_structural_schema
from dedup_api.job_config import JobConfig, build_job_config
from dedup_api.model import ApiModel
from dedup_api.spec import DedupJobSpec, Sink, Trigger
from dedup_api.unions import UnionModel
from dedup_job.driver_config import validate_config
from dedup_job.errors import JobError
from dedup_operator.domain import validate as validation
from dedup_operator.domain.validate import Invalid, ValidJob, validate

SPEC: dict[str, Any] = {
    "source": {"bootstrapServers": "kafka.kafka.svc:9092", "topic": "user_events"},
    "key": {"fields": ["eventId"]},
    "eventTime": {"field": "timestamp"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "user_events_unique"}},
}


class FileSink(ApiModel):
    """A pretend third sink."""


class SinkWithFile(Sink):
    big_file: FileSink | None = Field(None, description="Write to a file.")


class SpecWithFile(DedupJobSpec):
    sink: SinkWithFile


class ConfigWithFile(JobConfig):
    sink: SinkWithFile


MESSAGE = "spec.sink needs exactly one member: set spec.sink.kafka, spec.sink.console or spec.sink.bigFile"


def resource(**changes: Any) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "user-events", "uid": "1", "generation": 1}
    return {"metadata": metadata, "spec": {**copy.deepcopy(SPEC), **changes}}


def test_the_crd_counts_a_third_member() -> None:
    sink = build_structural_schema(SpecWithFile)["properties"]["sink"]
    assert sink["x-kubernetes-validations"] == [
        {"rule": "[has(self.kafka), has(self.console), has(self.bigFile)].filter(given, given).size() == 1", "message": MESSAGE}
    ]


@pytest.mark.parametrize(
    ("sink", "problem"),
    [
        ({"bigFile": {}}, None),
        ({"console": {}}, None),
        ({}, MESSAGE),
        ({"console": {}, "bigFile": {}}, MESSAGE),
        ({"kafka": {"topic": "out"}, "bigFile": {}}, MESSAGE),
    ],
)
def test_operator_and_driver_count_a_third_member(monkeypatch: pytest.MonkeyPatch, sink: dict[str, Any], problem: str | None) -> None:
    monkeypatch.setattr(validation, "DedupJobSpec", SpecWithFile)
    found = validate(resource(sink=sink))
    document = build_job_config("shop", "user-events", DedupJobSpec.model_validate(SPEC)).to_json_dict()
    config = ConfigWithFile.model_validate({**document, "sink": sink})
    if problem is None:
        assert isinstance(found, ValidJob)
        validate_config(config)
    else:
        assert isinstance(found, Invalid)
        assert found.message == problem
        with pytest.raises(JobError, match=problem):
            validate_config(config)


@pytest.mark.parametrize("union", [Sink, Trigger, Checkpoint])
def test_the_crd_has_the_rule_of_every_union_once(union: type[UnionModel]) -> None:
    name = union.union_path.removeprefix("spec.")
    rules = build_structural_schema(DedupJobSpec)["properties"][name]["x-kubernetes-validations"]
    (expected,) = union.build_union_rule()["x-kubernetes-validations"]
    assert rules.count(expected) == 1


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({"trigger": {}}, True),
        ({"trigger": {"processingTime": "5s", "availableNow": {}}}, True),
        ({"trigger": {"processingTime": "6s", "availableNow": {}}}, False),
        ({"trigger": {"availableNow": {}}}, True),
        ({"checkpoint": {}}, True),
        ({"checkpoint": {"claim": {}}}, True),
        ({"checkpoint": {"claim": {}, "existing": {"claimName": "shared"}}}, True),
        ({"checkpoint": {"claim": {"size": "10Gi", "accessMode": "ReadWriteOncePod"}, "existing": {"claimName": "shared"}}}, True),
        ({"checkpoint": {"claim": {"size": "20Gi"}, "existing": {"claimName": "shared"}}}, False),
    ],
)
def test_the_operator_counts_the_members_of_trigger_and_checkpoint(changes: dict[str, Any], valid: bool) -> None:
    found = validate(resource(**changes))
    assert isinstance(found, ValidJob) is valid, found
    if isinstance(found, Invalid):
        (field,) = changes
        assert found.message.startswith(f"spec.{field} ")


def test_a_default_that_the_previous_version_stored_gives_way_to_another_member() -> None:
    trigger = Trigger.model_validate({"processingTime": "5s", "availableNow": {"schedule": "0 3 * * *"}})
    assert (trigger.processing_time, trigger.available_now and trigger.available_now.schedule) == (None, "0 3 * * *")
    stored = {"claim": {"size": "10Gi", "accessMode": "ReadWriteOncePod"}, "existing": {"claimName": "shared"}, "reclaimPolicy": "Retain"}
    checkpoint = Checkpoint.model_validate(stored)
    assert checkpoint.claim is None and checkpoint.existing is not None
    assert Trigger.model_validate({}).processing_time == "5s", "an object without a member means the default"
    assert Trigger.model_validate({"processingTime": "5s"}).processing_time == "5s"
