"""Records that the topic lost before the job had read them: which ranges, and how many since the checkpoint began.

A batch's range is fixed in the offset log, and of a partition Kafka deletes the oldest records first: what a batch has
lost is the front of its range, and can only grow while the batch is tried again. So ranges are kept by batch and
partition, and a replay counts only what its predecessor had not.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, ValidationError

from dedup_api.model import ApiModel
from dedup_job.checkpoint.durable_files import write_durably
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.volume import translate_volume_errors

KEPT = 100
"""Ranges of earlier batches that the file holds: enough to see what happened, and the file is written with each new loss."""
NAMED = 5
"""Ranges that a message names."""


class LostRange(ApiModel):
    batch: int
    partition: int
    start: int
    """First offset that is gone."""
    end: int
    """First offset after it that is not, or that another batch reads."""

    @property
    def records(self) -> int:
        """An upper bound: offsets that were compacted away or belong to transactions' markers count too."""
        return self.end - self.start


class LostRecords(ApiModel):
    total: int = 0
    """Records."""
    ranges: list[LostRange] = Field(default_factory=list)
    """By batch, then partition: all of the newest batch that lost something, and the last `KEPT` before it."""

    def add(self, found: list[LostRange]) -> LostRecords:
        """With what is new in `found`."""
        known = {(item.batch, item.partition): item for item in self.ranges}
        total = self.total
        for item in found:
            before = known.get((item.batch, item.partition))
            counted = item.start if before is None else max(item.start, before.end)
            if item.end > counted:
                total += item.end - counted
                known[item.batch, item.partition] = item
        return LostRecords(total=total, ranges=_prune([known[key] for key in sorted(known)]))


def _prune(ranges: list[LostRange]) -> list[LostRange]:
    newest = [item for item in ranges if item.batch == ranges[-1].batch]
    return ranges[: -len(newest)][-KEPT:] + newest if newest else []


def find_lost(batch: int, starts: dict[int, int], ends: dict[int, int], earliest: dict[int, int]) -> list[LostRange]:
    """What of a batch's range [start, end) lies before the earliest offset that the topic still holds, by partition.

    A partition without a start was added to the topic after the batch before: it is read from its beginning, offset 0. What
    is missing inside the log, behind the earliest offset, was compacted or never visible, and is no loss.
    """
    found = []
    for partition in sorted(ends.keys() & earliest.keys()):
        start, end = starts.get(partition, 0), min(ends[partition], earliest[partition])
        if end > start:
            found.append(LostRange(batch=batch, partition=partition, start=start, end=end))
    return found


def find_unreadable(batch: int, starts: dict[int, int], ends: dict[int, int]) -> list[LostRange]:
    """The whole range of a batch whose topic is gone."""
    return find_lost(batch, starts, ends, ends)


def describe_lost(topic: str, ranges: list[LostRange]) -> str:
    named = [f"offsets {item.start} to {item.end - 1} of partition {item.partition}" for item in ranges[:NAMED]]
    if len(ranges) > NAMED:
        named.append(f"ranges of {len(ranges) - NAMED} more partitions")
    records = sum(item.records for item in ranges)
    return f"the topic {topic} no longer holds {', '.join(named)}: up to {records} records that the job has not read"


@dataclass(frozen=True)
class LostRecordsFile:
    """Reads and writes `lost.json`."""

    layout: CheckpointLayout

    def read(self) -> LostRecords:
        """Zero for a new checkpoint, and for a file that cannot be understood: as the totals, it informs and decides nothing."""
        with translate_volume_errors(self.layout.root):
            try:
                return LostRecords.model_validate_json(self.layout.lost_records_file.read_bytes())
            except (FileNotFoundError, ValidationError):
                return LostRecords()

    def write(self, lost: LostRecords) -> None:
        with translate_volume_errors(self.layout.root):
            write_durably(self.layout.lost_records_file, lost.model_dump_json(by_alias=True).encode())
