"""The names, settings and numbers in docs/operations.md, which users copy, are those of the code."""

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


def check_page_has(text: str, source: str) -> None:
    assert text in PAGE, f"docs/operations.md must contain `{text}`, because {source} says so: correct the page."


def test_the_commands_on_the_page_use_the_names_of_a_job() -> None:
    source = "crds/dedup_api/job_config.py"
    check_page_has(f"acl --topic {CONFIG.progress_topic} ", source)
    check_page_has(f"acl --group {CONFIG.consumer_group} ", source)
    check_page_has(f"acl --transactional-id {CONFIG.transactional_id_prefix}. --resource-pattern-type prefixed", source)
    check_page_has(f"--create --topic {CONFIG.progress_topic} --partitions 1 ", source)


def test_the_page_creates_the_progress_topic_with_the_settings_of_the_driver() -> None:
    for name, value in TOPIC_SETTINGS.items():
        check_page_has(f"--config {name}={value}", "job/dedup_job/kafka/sink_topics.py")


def test_the_page_has_a_row_for_every_permanent_reason_and_for_no_other() -> None:
    for meanings in EXITS.values():
        for meaning in meanings:
            row = f"| [{meaning.reason}](reasons.md#{meaning.reason.lower()}) |"
            if meaning.permanent:
                check_page_has(row, "crds/dedup_api/exits.py")
            else:
                assert row not in PAGE, f"Remove the row `{row}` from docs/operations.md: the driver is started again after this reason."


def test_the_numbers_on_the_page_are_those_of_the_code() -> None:
    check_page_has(f"**{TERMINATION_GRACE_SECONDS} s of grace**", "operator/dedup_operator/domain/manifests/pod.py")
    check_page_has(f"| `transaction.max.timeout.ms` | {TRANSACTION_TIMEOUT // 60} minutes or more", "job/dedup_job/sink/transactions.py")
