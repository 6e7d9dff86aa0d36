"""Warnings about times in a wrong unit."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_api.job_config import JobConfig
from dedup_job.stream.plausibility import WINDOW, OddTimes, RecentTimes, list_warnings, parse_odd_times
from unit.job.test_session import DOCUMENT

FIELD = {"field": "at", "format": "EpochMillis"}


def build_config(event_time: dict[str, Any]) -> JobConfig:
    return JobConfig.model_validate({**DOCUMENT, "eventTime": event_time})


@pytest.mark.parametrize(
    ("event_time", "odd", "rows", "expected"),
    [
        (FIELD, OddTimes(), 10, []),
        (FIELD, OddTimes(early=10), 10, [("EventTimesImplausible", "Set spec.eventTime.format to EpochSeconds (if they are seconds).")]),
        (
            {**FIELD, "format": "EpochMicros"},
            OddTimes(early=10),
            10,
            [("EventTimesImplausible", "to EpochMillis (if they are milliseconds) or EpochSeconds (if they are seconds).")],
        ),
        ({**FIELD, "format": "EpochSeconds"}, OddTimes(early=10), 10, [("EventTimesImplausible", "Check what the producer writes")]),
        (FIELD, OddTimes(early=5), 10, [("EventTimesImplausible", "first weeks of 1970")]),
        (FIELD, OddTimes(early=4), 10, []),
        ({"field": "at"}, OddTimes(early=10), 10, [("EventTimesImplausible", "Check what the producer writes")]),
        (FIELD, OddTimes(other_unit=6), 10, [("EventTimesImplausible", "would be in another unit")]),
        (FIELD, OddTimes(odd_stored=10), 10, [("KafkaTimestampsImplausible", "The driver does not use them")]),
        ({"from": "KafkaTimestamp"}, OddTimes(10, 0, 10), 10, [("KafkaTimestampsImplausible", "They are this job's event times")]),
        (FIELD, OddTimes(early=10, odd_stored=10), 10, [("EventTimesImplausible", ""), ("KafkaTimestampsImplausible", "")]),
        (FIELD, OddTimes(), 0, []),
    ],
)
def test_a_batch_with_mostly_odd_times_gives_a_warning(
    event_time: dict[str, Any], odd: OddTimes, rows: int, expected: list[tuple[str, str]]
) -> None:
    found = list_warnings(build_config(event_time), odd, rows)
    assert [warning.reason for warning in found] == [reason for reason, _ in expected]
    assert all(part in warning.message for warning, (_, part) in zip(found, expected, strict=True))


def test_the_numbers_of_the_jvm() -> None:
    assert parse_odd_times("1 2 3") == OddTimes(1, 2, 3)


def test_a_batch_of_one_record_decides_nothing() -> None:
    recent = RecentTimes()
    assert recent.add(OddTimes(), WINDOW) == (OddTimes(), WINDOW)
    assert recent.add(OddTimes(early=1), 1) == (OddTimes(early=1), WINDOW + 1)
    for _ in range(WINDOW - 1):
        sums = recent.add(OddTimes(early=1), 1)
    assert sums == (OddTimes(early=WINDOW), WINDOW), "the first batch is old by now"
    assert recent.add(OddTimes(), 5 * WINDOW) == (OddTimes(), 5 * WINDOW)
