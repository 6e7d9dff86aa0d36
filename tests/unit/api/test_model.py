"""The models: `job.json` for a spec, and the tables of reasons, exit codes and names."""

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


def test_job_json_is_the_same_after_writing_and_reading() -> None:
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
def test_job_json_has_the_settings_of_the_spec(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    document = config(**changes).to_json_dict()
    assert {key: document[key] for key in expected} == expected


@pytest.mark.parametrize(
    "change",
    [{"suspend": True}, {"restartNonce": 3}, {"checkpoint": {"reclaimPolicy": "Delete", "claim": {"size": "20Gi"}}}],
)
def test_a_change_that_does_not_concern_the_driver_leaves_job_json_unchanged(change: dict[str, Any]) -> None:
    assert config(**change) == config()


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({}, 1),
        ({"framing": "None", "eventTime": {"field": "timestamp", "timeZone": "UTC"}}, 1),
        ({"framing": "SchemaRegistry"}, 2),
        ({"onTombstone": "Drop"}, 2),
        ({"key": {"fields": ["eventId"], "headers": ["id"]}}, 2),
        ({"key": {"fields": ["items[0].id"]}}, 2),
        ({"eventTime": {"field": "timestamp", "format": "EpochMicros"}}, 2),
        ({"eventTime": {"field": "timestamp", "timeZone": "Europe/Berlin"}}, 2),
        ({"eventTime": {"from": "Header", "header": "at"}}, 2),
        ({"source": {**SPEC["source"], "consumerGroup": "lag"}}, 1),
    ],
)
def test_an_older_driver_refuses_what_it_would_misread(change: dict[str, Any], version: int) -> None:
    """A driver of version 0.1.0 accepts only version 1."""
    assert config(**change).config_version == version


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
        ({"source": {**SPEC["source"], "bootstrapServers": "b:1"}}, []),
        ({"key": {"fields": ["eventId", "region"]}}, ["spec.key.fields"]),
        ({"eventTime": {"field": "timestamp", "format": "EpochMillis"}}, ["spec.eventTime.format"]),
        ({"eventTime": {"field": "timestamp", "maxFutureSkew": "5m"}}, []),
        ({"eventTime": {"from": "Arrival"}}, ["spec.eventTime.from", "spec.eventTime.field"]),
        ({"key": {"from": "KafkaKey"}}, ["spec.key.from", "spec.key.fields"]),
        ({"key": {"fields": ["eventId"], "headers": ["id"]}}, ["spec.key.headers"]),
        ({"eventTime": {"field": "timestamp", "timeZone": "Europe/Berlin"}}, ["spec.eventTime.timeZone"]),
        ({"framing": "SchemaRegistry", "onTombstone": "Pass"}, []),
        ({"framing": "None", "eventTime": {"field": "timestamp", "timeZone": "UTC"}}, []),
        ({"onInvalid": "DeadLetter", "onLate": "Emit", "deadLetter": {"topic": "dead"}}, []),
        ({"parallelism": 7}, ["spec.parallelism"]),
    ],
)
def test_the_fields_that_need_a_new_checkpoint_are_listed(change: dict[str, Any], fields: list[str]) -> None:
    assert list_state_changes(config(), config(**change)) == fields
    assert (state_identity(config()) == state_identity(config(**change))) is (not fields)


def test_every_reason_is_explained_in_full_sentences() -> None:
    missing = sorted(set(Reason) - EXPLANATIONS.keys())
    assert not missing, f"Add {', '.join(missing)} to EXPLANATIONS in crds/dedup_api/reasons.py, with meaning and remedy."
    for reason, explanation in EXPLANATIONS.items():
        for text in (explanation.meaning, explanation.remedy):
            assert text.endswith("."), f"{reason}: write full sentences in crds/dedup_api/reasons.py. This one has no full stop: {text}"


def test_every_exit_code_except_zero_has_a_meaning() -> None:
    missing = set(exits.ExitCode) - exits.EXITS.keys() - {exits.ExitCode.DONE}
    assert not missing, f"Add {missing} to EXITS in crds/dedup_api/exits.py, with reason and permanence."


def test_names_of_child_objects_fit_their_limits_for_the_longest_job_name() -> None:
    longest = "a" * names.MAX_NAME_LENGTH
    revision_label = f"{names.driver_name(longest)}-{'x' * 10}"
    assert len(revision_label) == 63
    assert len(names.driver_pod_name(longest)) <= 63
    assert len(names.config_map_name(longest, "0" * 10)) <= 253
    assert len(names.claim_name(longest)) <= 253


def test_the_api_package_does_no_input_or_output() -> None:
    """The API package imports nothing that reads files, the network, the clock or the environment."""
    banned = {"os", "io", "time", "socket", "pathlib", "subprocess", "requests", "aiohttp", "kopf", "kubernetes", "pyspark", "yaml"}
    package = Path(names.__file__).parent
    for module in package.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            found = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            found |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            wrong = {name.split(".")[0] for name in found} & banned
            assert not wrong, f"{module.name} imports {wrong}: do the I/O in the operator, the driver or crds/generate.py."


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
def test_the_reason_decides_between_meanings_of_one_exit_code(code: int, reason: str | None, meant: Reason, permanent: bool) -> None:
    assert exits.find_meaning(code, reason) == exits.ExitMeaning(meant, permanent)


@pytest.mark.parametrize("code", [0, 1, 137, 143, 255])
def test_an_exit_code_of_another_program_has_no_meaning(code: int) -> None:
    assert exits.find_meaning(code, "SourceTopicReplaced") is None


def test_a_reason_has_one_exit_code_below_126() -> None:
    reasons = [meaning.reason for meanings in exits.EXITS.values() for meaning in meanings]
    twice = {reason for reason in reasons if reasons.count(reason) > 1}
    assert not twice, f"{twice} has two exit codes: keep one of them in EXITS in crds/dedup_api/exits.py."
    high = [code for code in exits.EXITS if not 0 < code < 126]
    assert not high, f"{high}: choose codes from 1 to 125 in crds/dedup_api/exits.py. Shells and the kernel use the codes from 126 on."
