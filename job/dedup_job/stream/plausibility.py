"""Notices times that are almost certainly in a wrong unit. Pure.

A wrong unit makes no record invalid, and its damage is silent: seconds that are read as milliseconds lie in January 1970,
and a watermark of 10 minutes then is one of 7 days. So the driver warns when half of the last records look like that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from dedup_api.driver_status import DriverWarning
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.records import EventTimeFrom

WINDOW = 100
"""Records."""
_UNITS = {"EpochSeconds": "seconds", "EpochMillis": "milliseconds", "EpochMicros": "microseconds", "EpochNanos": "nanoseconds"}
"""By format; each unit is longer than the ones after it."""
_WITH_KEYS = "If keys are stored already, create a new DedupJob with the right format."


@dataclass(frozen=True)
class OddTimes:
    """Numbers of records of one batch, as `Plausibility.java` counts them."""

    early: int = 0
    """Records that have a readable event time, and this is in the first weeks of 1970."""
    other_unit: int = 0
    """Records whose event time is no time in spec.eventTime.format, but would be one in another unit."""
    odd_stored: int = 0
    """Records whose Kafka timestamp is before 2000 or after 3000, also invalid ones."""


def parse_odd_times(text: str) -> OddTimes:
    """Parses what `Plausibility.describe` returns."""
    return OddTimes(*(int(word) for word in text.split()))


class RecentTimes:
    """The numbers of the last WINDOW records or a few more, so that a batch of a single record decides nothing."""

    def __init__(self) -> None:
        self._batches: deque[tuple[OddTimes, int]] = deque()

    def add(self, odd: OddTimes, rows: int) -> tuple[OddTimes, int]:
        """Adds a batch, and returns the sums."""
        self._batches.append((odd, rows))
        while sum(count for _, count in self._batches) - self._batches[0][1] >= WINDOW:
            self._batches.popleft()
        numbers = [found for found, _ in self._batches]
        total = OddTimes(
            early=sum(found.early for found in numbers),
            other_unit=sum(found.other_unit for found in numbers),
            odd_stored=sum(found.odd_stored for found in numbers),
        )
        return total, sum(count for _, count in self._batches)


def _advise_longer_unit(used: str) -> str:
    longer = list(_UNITS)[: list(_UNITS).index(used)] if used in _UNITS else []
    if not longer:
        return "Check what the producer writes"
    cases = " or ".join(f"{name} (if they are {_UNITS[name]})" for name in reversed(longer))
    return f"Set spec.eventTime.format to {cases}"


def list_warnings(config: JobConfig, odd: OddTimes, rows: int) -> tuple[DriverWarning, ...]:
    """`odd`: of so many records. Empty when the times are plausible."""
    event_time, from_kafka = config.event_time, config.event_time.taken_from is EventTimeFrom.KAFKA_TIMESTAMP
    found = []
    if not from_kafka and 2 * odd.early >= rows > 0:
        advice = _advise_longer_unit(event_time.format)
        message = f"At least half of the last event times are in the first weeks of 1970. {advice}. {_WITH_KEYS}"
        found.append(DriverWarning(reason=Reason.EVENT_TIMES_IMPLAUSIBLE, message=message))
    if 2 * odd.other_unit >= rows > 0:
        message = (
            f"At least half of the last event times are not valid in the format {event_time.format}, but would be in another unit. "
            f"The detail of an invalid record names the format: set spec.eventTime.format to it. {_WITH_KEYS}"
        )
        found.append(DriverWarning(reason=Reason.EVENT_TIMES_IMPLAUSIBLE, message=message))
    if 2 * odd.odd_stored >= rows > 0:
        use = "They are this job's event times." if from_kafka else "The driver does not use them."
        message = (
            "At least half of the last Kafka timestamps are before 2000 or after 3000, so they are probably in a wrong "
            f"unit. {use} A Kafka timestamp is a number of milliseconds: correct the producer."
        )
        found.append(DriverWarning(reason=Reason.KAFKA_TIMESTAMPS_IMPLAUSIBLE, message=message))
    return tuple(found)
