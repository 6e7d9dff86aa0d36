"""Which records wait behind an open transaction, since when, and when the driver warns."""

import pytest

from dedup_api.reasons import Reason
from dedup_job.kafka.open_transactions import WARN_AFTER, OpenTransactionTracker

START = 1_700_000_000.0
"""2023-11-14T22:13:20Z"""
LIMIT = WARN_AFTER.total_seconds()


@pytest.mark.parametrize(
    ("high", "stable", "records", "places"),
    [
        ({}, {}, 0, []),
        ({0: 10, 1: 20}, {0: 10, 1: 20}, 0, []),
        ({0: 10, 1: 20}, {0: 4, 1: 20}, 6, [(0, 4)]),
        ({0: 10, 1: 20}, {0: 4, 1: 0}, 26, [(0, 4), (1, 0)]),
        ({0: 10}, {0: 15}, 0, []),  # five records arrived between the two questions
        ({0: 10}, {0: 10, 1: 3}, 0, []),  # a partition was added between the two questions
    ],
)
def test_records_between_the_last_stable_offset_and_the_high_watermark_are_counted(
    high: dict[int, int], stable: dict[int, int], records: int, places: list[tuple[int, int]]
) -> None:
    found = OpenTransactionTracker().observe(high, stable, START)
    assert found.records == records
    assert [(item.partition, item.offset) for item in found.oldest] == places


def test_a_transaction_is_as_old_as_its_offset() -> None:
    tracker = OpenTransactionTracker()
    assert tracker.observe({0: 5}, {0: 5}, START).measure_seconds(START) == 0
    tracker.observe({0: 9}, {0: 5}, START + 10)
    found = tracker.observe({0: 12}, {0: 5}, START + 40)
    assert (found.oldest[0].since, found.measure_seconds(START + 40)) == (START + 10, 30)
    next_one = tracker.observe({0: 30}, {0: 12}, START + 50)
    assert next_one.measure_seconds(START + 50) == 0, "another transaction is open now"
    assert tracker.observe({0: 30}, {0: 30}, START + 60).oldest == ()
    assert tracker.observe({0: 30}, {0: 12}, START + 70).oldest[0].since == START + 70


def test_many_short_transactions_are_no_warning() -> None:
    tracker = OpenTransactionTracker()
    for step in range(100):
        found = tracker.observe({0: step + 50}, {0: step}, START + 10 * step)
        assert found.build_warning("kafka:9092", "orders", START + 10 * step) is None


def test_the_driver_warns_after_two_minutes_and_says_how_to_end_the_transaction() -> None:
    assert LIMIT == 120
    tracker = OpenTransactionTracker()
    tracker.observe({0: 0, 3: 200}, {0: 0, 3: 123}, START)
    early = tracker.observe({0: 0, 3: 201}, {0: 0, 3: 123}, START + LIMIT - 1)
    assert early.build_warning("kafka:9092", "orders", START + LIMIT - 1) is None
    late = tracker.observe({0: 0, 3: 202}, {0: 0, 3: 123}, START + LIMIT)
    warning = late.build_warning("kafka:9092,other:9092", "orders", START + LIMIT)
    assert warning is not None and warning.reason == Reason.SOURCE_TRANSACTION_OPEN
    for text in (
        "offset 123 of partition 3 of the topic orders since 2023-11-14T22:13:20Z",
        "kafka-transactions.sh --bootstrap-server kafka:9092 describe-producers --topic orders --partition 3",
        "`… find-hanging` with the same topic and partition",
        "`… abort` with the same topic and partition and `--start-offset 123`",
    ):
        assert text in warning.message
    assert warning.message.index("Restart that application") < warning.message.index("find-hanging")
    assert "partitions" not in warning.message
    later = tracker.observe({0: 0, 3: 900}, {0: 0, 3: 123}, START + LIMIT + 60)
    assert later.build_warning("kafka:9092,other:9092", "orders", START + LIMIT + 60) == warning, "the same transaction has the same text"


def test_the_warning_names_the_longest_open_one_and_a_few_others() -> None:
    tracker = OpenTransactionTracker()
    tracker.observe({5: 7}, {5: 6}, START - 1)
    high = dict.fromkeys(range(20), 10)
    tracker.observe(high, dict.fromkeys(high, 6), START)
    found = tracker.observe({**high, 99: 1}, {**dict.fromkeys(high, 6), 99: 0}, START + LIMIT)
    warning = found.build_warning("kafka:9092", "orders", START + LIMIT)
    assert warning is not None
    assert "offset 6 of partition 5 of the topic orders" in warning.message
    assert "partitions 0 (offset 6), 1 (offset 6), 2 (offset 6), 3 (offset 6), 4 (offset 6) and 14 more." in warning.message


@pytest.mark.parametrize(("topic", "whole"), [("a-topic-with-a-name-of-usual-length", True), ("t" * 249, False)])
def test_the_text_fits_into_a_condition(topic: str, whole: bool) -> None:
    tracker = OpenTransactionTracker()
    tracker.observe({0: 10**9}, {0: 10**9 - 1}, START)
    found = tracker.observe({0: 10**9}, {0: 10**9 - 1}, START + LIMIT)
    servers = "my-kafka-kafka-bootstrap.kafka-production.svc.cluster.local:9092," + "x" * 900
    warning = found.build_warning(servers, topic, START + LIMIT)
    assert warning is not None and len(warning.message) <= 1024
    assert warning.message.endswith("docs/open-transactions.md says more.") == whole
    assert "Find the application that writes to this topic with transactions" in warning.message
