"""docs/operations.md says what the code does: names, settings and numbers that people copy from it."""

from __future__ import annotations

from pathlib import Path

from dedup_api.exits import EXITS
from dedup_api.job_config import build_job_config
from dedup_api.spec import DedupJobSpec
from dedup_job.kafka.sink_topics import TOPIC_SETTINGS
from dedup_job.sink.transactions import TRANSACTION_TIMEOUT
from dedup_operator.domain.driver_objects import TERMINATION_GRACE_SECONDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
SPEC = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "user_events"},
    "key": {"fields": ["eventId"]},
    "eventTime": {"field": "timestamp"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "user_events_unique"}},
}
CONFIG = build_job_config("shop", "user-events", DedupJobSpec.model_validate(SPEC))


def test_the_names_in_the_commands_are_those_that_a_job_uses() -> None:
    assert f"acl --topic {CONFIG.progress_topic} " in PAGE
    assert f"acl --group {CONFIG.consumer_group} " in PAGE
    assert f"acl --transactional-id {CONFIG.transactional_id_prefix}. --resource-pattern-type prefixed" in PAGE
    assert f"--create --topic {CONFIG.progress_topic} --partitions 1 " in PAGE


def test_a_progress_topic_made_by_hand_is_like_the_drivers() -> None:
    for name, value in TOPIC_SETTINGS.items():
        assert f"--config {name}={value}" in PAGE


def test_every_permanent_reason_has_a_row() -> None:
    for meanings in EXITS.values():
        for meaning in meanings:
            assert (f"| [{meaning.reason}](reasons.md#{meaning.reason.lower()}) |" in PAGE) is meaning.permanent


def test_the_numbers_hold() -> None:
    assert f"**{TERMINATION_GRACE_SECONDS} s of grace**" in PAGE
    assert f"| `transaction.max.timeout.ms` | {TRANSACTION_TIMEOUT // 60} minutes or more" in PAGE
