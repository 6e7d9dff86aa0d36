"""Decides how far the watermark may move after a batch. Pure: `batch.py` reads the input and writes the result.

Spark's own rule takes the newest event time of all partitions. That is right while the job keeps up, and wrong while it
catches up. Example: the job has read partition 0 up to Monday and partition 1 up to Friday. Spark moves the watermark
to Friday, so partition 0's records of Tuesday are late before the job has read them. Therefore the driver has two
rules:

* A batch that has read all records of the topic: the newest event time of the batch, minus the delay.
* A batch that may have left records in the topic: for each partition, the median of the event times that it has read.
  The watermark is the oldest of these medians, minus the delay. The broker has stored a partition's unread records
  after those that the batch has read, so an unread record is older than the median only by as much as it was late when
  it was stored. The rule uses the median and not the newest time, because a producer whose clock is fast writes a part
  of the records and would move the newest time ahead.

In both rules, an event time counts only up to the time at which its record was stored and read, see `parse.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MICROS_PER_MILLISECOND = 1000
"""Event times are microseconds; Spark's watermark is milliseconds."""


@dataclass(frozen=True)
class PartitionTimes:
    """The event times of a partition's valid records in a batch, in microseconds since the epoch."""

    newest: int
    median: int
    """The median of a sample, which also includes the last few records before the batch."""


@dataclass(frozen=True)
class BatchRange:
    """A batch's range of offsets, by partition: the first offset that it reads, and the first that it does not read."""

    starts: dict[int, int]
    ends: dict[int, int]
    without_records: frozenset[int] = frozenset()
    """The partitions from which the batch has read no record. Their ranges hold only gaps of a compacted topic, aborted
    records or the markers of transactions."""

    def list_partitions_read(self) -> list[int]:
        """The partitions of which the batch reads at least one offset."""
        return [partition for partition, end in self.ends.items() if end > self.starts.get(partition, 0)]

    def may_leave_records(self, limit: int) -> bool:
        """Whether the batch may leave records in the topic. `limit`: how many offsets a batch may read.

        Spark divides the limit among the partitions and rounds each share down.
        """
        offsets = sum(self.ends[partition] - self.starts.get(partition, 0) for partition in self.list_partitions_read())
        return offsets >= limit - len(self.ends)


def parse_times(text: str) -> dict[int, PartitionTimes]:
    """Parses the lines of `BatchTimes.describe`: times by partition."""
    return {partition: PartitionTimes(newest, median) for partition, newest, median in _parse_rows(text)}


def parse_record_counts(text: str) -> dict[int, int]:
    """Parses the lines of `BatchTimes.describeRead`: numbers of records by partition."""
    return {row[0]: row[1] for row in _parse_rows(text)}


def _parse_rows(text: str) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in text.splitlines()]


def find_partitions_without_records(ends: dict[int, int], counts: dict[int, int], rows_in: int) -> frozenset[int]:
    """`counts`: records by partition. `rows_in`: the records of the batch.

    Empty when the counts do not add up: a partition whose records were not counted must not pass for one without.
    """
    if sum(counts.values()) != rows_in:
        return frozenset()
    return frozenset(partition for partition in ends if not counts.get(partition))


def decide_watermark(
    current: int,
    delay: int,
    times: dict[int, PartitionTimes],
    batch: BatchRange,
    limit: int | None,
    earlier: Mapping[int, PartitionTimes] = MappingProxyType({}),
) -> int:
    """The next watermark in milliseconds, at least `current`.

    `current`, `delay`: milliseconds. `times`: by source partition. `limit`: how many offsets a batch could read when
    this one was planned; None when that is not known. `earlier`: the last times of partitions in the batches before.

    A partition without records in this batch may have older records behind its markers. While the job catches up, its
    last known time counts. Where there is none, it holds the watermark, but not in the first batch.
    """
    if limit is None or batch.may_leave_records(limit):
        read = batch.list_partitions_read()
        known = {partition: earlier[partition] for partition in read if partition in batch.without_records and partition in earlier}
        known.update(times)
        if any(partition not in known and (limit is not None or partition not in batch.without_records) for partition in read):
            return current  # without a valid record, the partition's time is unknown
        event_time = min((found.median for found in known.values()), default=None)
    else:
        event_time = max((found.newest for found in times.values()), default=None)
    return current if event_time is None else max(current, event_time // MICROS_PER_MILLISECOND - delay)


def decide_arrival_watermark(current: int, batch_time: int, interval: int) -> int:
    """The next watermark with `eventTime.from: Arrival`, where the event time of each record is the time of its batch.

    All values are milliseconds. No later record can be older than this batch. The watermark moves in steps of
    `interval`, because after each step Spark runs a batch without data when no records have arrived, and that batch
    reads the whole state.
    """
    return batch_time - 1 if batch_time - current > interval else current
