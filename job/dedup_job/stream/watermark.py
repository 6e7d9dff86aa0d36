"""How far the watermark may go after a batch. Pure; `batch` reads what it needs and puts the answer into Spark's plan.

Left to itself, Spark takes the newest event time of all partitions. That is right while the job keeps up, and wrong while it catches
up: one partition is read up to Friday, another up to Monday, and the other's Tuesday is late before it was read. So there are two rules.

* A batch that read all there was (or had room for more): the newest event time, less the delay.
* A batch that left records behind in its partitions, or may have: of each partition, the event time in the middle of what was read, and of
  these the oldest, less the delay. What a partition still holds was stored behind those records, so its time is not older by more than it
  was late when it was stored. The middle, and not the newest, because a producer whose clock is ahead is a part of a partition's records.

Either way a time counts at most up to when its record was stored and read, see `parse`.
"""

from __future__ import annotations

from dataclasses import dataclass

MICROS = 1000
"""Of a millisecond: Spark's watermark has those."""


@dataclass(frozen=True)
class PartitionTimes:
    """Event times of a partition's valid records in a batch, in microseconds."""

    newest: int
    middle: int
    """Of a sample, to which the last few records before the batch belong too."""


@dataclass(frozen=True)
class BatchRange:
    """By partition: the offsets that a batch begins with, and the first that it did not read."""

    starts: dict[int, int]
    ends: dict[int, int]

    def list_read(self) -> list[int]:
        """The partitions that it read of."""
        return [partition for partition, end in self.ends.items() if end > self.starts.get(partition, 0)]

    def is_limited(self, most: int) -> bool:
        """Whether it may have left records behind. Spark shares `most` offsets among the partitions and rounds each share down."""
        offsets = sum(self.ends[partition] - self.starts.get(partition, 0) for partition in self.list_read())
        return offsets >= most - len(self.ends)


def parse_times(text: str) -> dict[int, PartitionTimes]:
    """From the lines of `BatchTimes.describe`."""
    rows = [[int(word) for word in line.split()] for line in text.splitlines()]
    return {partition: PartitionTimes(newest, middle) for partition, newest, middle in rows}


def decide_watermark(before: int, delay: int, times: dict[int, PartitionTimes], batch: BatchRange, most: int | None) -> int:
    """Milliseconds, at least `before`. `delay` in milliseconds; `most`: offsets that a batch might take when it was planned, None where
    that is not known."""
    if most is None or batch.is_limited(most):
        if any(partition not in times for partition in batch.list_read()):
            return before  # nothing valid in it: nobody knows where it stands
        front = min((found.middle for found in times.values()), default=None)
    else:
        front = max((found.newest for found in times.values()), default=None)
    return before if front is None else max(before, front // MICROS - delay)


def decide_arrival_watermark(before: int, batch_time: int, interval: int) -> int:
    """For event times that are the batch's own: none to come is older than the next batch. Milliseconds.

    It moves in steps of `interval`: after each, Spark runs a batch without data as soon as there is none, which looks through all keys.
    """
    return batch_time - 1 if batch_time - before > interval else before
