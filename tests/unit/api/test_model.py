"""The models: what an object becomes for the driver, and what the tables promise."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from dedup_api import exits, names
from dedup_api.changes import list_state_changes, state_identity
from dedup_api.job_config import JobConfig, build_job_config
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.spec import DedupJobSpec

SPEC: dict[str, Any] = {
    "source": {"bootstrapServers": "kafka.kafka.svc:9092", "topic": "user_events"},
    "key": {"fields": ["eventId"]},
    "eventTime": {"field": "timestamp"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "user_events_unique"}},
}


def config(**changes: Any) -> JobConfig:
    return build_job_config("shop", "user-events", DedupJobSpec.model_validate({**SPEC, **changes}))


def test_job_json_reads_back_as_what_was_written() -> None:
    written = config()
    assert JobConfig.model_validate_json(written.model_dump_json(by_alias=True)) == written
    assert JobConfig.model_validate(written.to_json_dict()) == written


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"processingTime": "5s", "parallelism": 2, "cpus": 2, "memoryBytes": 2 * 1024**3}),
        ({"trigger": {"processingTime": "0s"}}, {"processingTime": "0s"}),
        (
            {"driver": {"resources": {"limits": {"cpu": "1500m", "memory": "3Gi"}}}},
            {"cpus": 2, "parallelism": 2, "memoryBytes": 3 * 1024**3},
        ),
        ({"driver": {"resources": {"limits": {"cpu": "250m"}}}}, {"cpus": 1, "parallelism": 1}),
        ({"driver": {"resources": {"limits": {"cpu": "1000"}}}}, {"cpus": 1000, "parallelism": 64}),
        ({"driver": {"resources": {"limits": {"cpu": 4}}}, "parallelism": 8}, {"cpus": 4, "parallelism": 8}),
    ],
)
def test_job_json_holds_what_the_spec_says(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    document = config(**changes).to_json_dict()
    assert {key: document[key] for key in expected} == expected


@pytest.mark.parametrize(
    "change",
    [{"suspend": True}, {"restartNonce": 3}, {"checkpoint": {"reclaimPolicy": "Delete", "claim": {"size": "20Gi"}}}],
)
def test_what_does_not_concern_the_driver_does_not_change_job_json(change: dict[str, Any]) -> None:
    assert config(**change) == config()


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"watermark": "1h"}, []),
        ({"trigger": {"processingTime": "1m"}}, []),
        ({"sink": {"kafka": {"topic": "elsewhere"}}}, []),
        ({"driver": {"resources": {"limits": {"memory": "4Gi"}}}}, []),
        ({"source": {**SPEC["source"], "maxOffsetsPerTrigger": 5}}, []),
        ({"sink": {"console": {}}}, ["spec.sink"]),
        ({"source": {**SPEC["source"], "topic": "other"}}, ["spec.source.topic"]),
        ({"source": {**SPEC["source"], "bootstrapServers": "b:1"}}, ["spec.source.bootstrapServers"]),
        ({"key": {"fields": ["eventId", "region"]}}, ["spec.key.fields"]),
        ({"eventTime": {"field": "timestamp", "format": "EpochMillis"}}, ["spec.eventTime.format"]),
        ({"eventTime": {"field": "timestamp", "maxFutureSkew": "5m"}}, []),
        ({"eventTime": {"from": "Arrival"}}, ["spec.eventTime.from", "spec.eventTime.field"]),
        ({"key": {"from": "KafkaKey"}}, ["spec.key.from", "spec.key.fields"]),
        ({"onInvalid": "DeadLetter", "onLate": "Emit", "deadLetter": {"topic": "dead"}}, []),
        ({"parallelism": 7}, ["spec.parallelism"]),
    ],
)
def test_changes_that_need_a_new_checkpoint_are_named(change: dict[str, Any], fields: list[str]) -> None:
    assert list_state_changes(config(), config(**change)) == fields
    assert (state_identity(config()) == state_identity(config(**change))) is (not fields)


def test_every_reason_is_explained_and_every_explanation_is_a_reason() -> None:
    assert set(EXPLANATIONS) == set(Reason)
    assert all(text.meaning.endswith(".") and text.remedy.endswith(".") for text in EXPLANATIONS.values())


def test_every_exit_code_but_zero_has_a_meaning() -> None:
    assert set(exits.EXITS) == set(exits.ExitCode) - {exits.ExitCode.DONE}


def test_children_of_the_longest_name_fit_their_limits() -> None:
    longest = "a" * names.MAX_NAME_LENGTH
    revision_label = f"{names.driver_name(longest)}-{'x' * 10}"
    assert len(revision_label) == 63
    assert len(names.driver_pod_name(longest)) <= 63
    assert len(names.config_map_name(longest, "0" * 10)) <= 253
    assert len(names.claim_name(longest)) <= 253


def test_the_api_package_does_no_input_or_output() -> None:
    """Pure packages stay pure: nothing that reads files, the network, the clock or the environment is imported."""
    banned = {"os", "io", "time", "socket", "pathlib", "subprocess", "requests", "aiohttp", "kopf", "kubernetes", "pyspark", "yaml"}
    package = Path(names.__file__).parent
    for module in package.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            found = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            found |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            assert not {name.split(".")[0] for name in found} & banned, module.name


@pytest.mark.parametrize(
    ("code", "reason", "meant", "permanent"),
    [
        (66, "SourceTopicReplaced", Reason.SOURCE_TOPIC_REPLACED, True),
        (66, "SourceTopicMissing", Reason.SOURCE_TOPIC_MISSING, False),
        (66, "SinkTopicMissing", Reason.SINK_TOPIC_MISSING, False),
        (66, None, Reason.SOURCE_TOPIC_MISSING, False),
        (66, "a reason of another code", Reason.SOURCE_TOPIC_MISSING, False),
        (70, "OutOfMemory", Reason.OUT_OF_MEMORY, False),
        (74, None, Reason.CHECKPOINT_DAMAGED, True),
    ],
)
def test_what_an_exit_means(code: int, reason: str | None, meant: Reason, permanent: bool) -> None:
    assert exits.find_meaning(code, reason) == exits.ExitMeaning(meant, permanent)


@pytest.mark.parametrize("code", [0, 1, 137, 143, 255])
def test_a_code_that_is_not_ours_has_no_meaning(code: int) -> None:
    assert exits.find_meaning(code, "SourceTopicReplaced") is None


def test_no_reason_stands_under_two_codes_and_every_code_is_a_byte() -> None:
    reasons = [meaning.reason for meanings in exits.EXITS.values() for meaning in meanings]
    assert len(reasons) == len(set(reasons))
    assert all(0 < code < 126 for code in exits.EXITS), "above that shells and kernels have meanings of their own"
