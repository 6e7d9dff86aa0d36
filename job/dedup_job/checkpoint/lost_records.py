"""`lost.json`: the records that the topic lost before the job had read them.

The file holds ranges of offsets, and the total since the checkpoint started.

The offset log fixes the range of a batch, and Kafka deletes the oldest records of a partition first. So a batch loses
the front of its range, and the lost part can only grow while the batch is repeated. The file keeps ranges by batch and
partition, so that a replay counts only what earlier runs of the batch have not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, ValidationError

from dedup_api.model import ApiModel
from dedup_job.checkpoint.durable_files import write_durably
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.volume import translate_volume_errors

KEPT = 100
"""How many ranges of earlier batches the file keeps: the driver rewrites the whole file with each new loss."""
NAMED = 5
"""How many ranges a message names."""


class LostRange(ApiModel):
    batch: int
    partition: int
    start: int
    """The first lost offset."""
    end: int
    """The first offset after the range: one that the topic still holds, or one that the next batch reads."""

    @property
    def records(self) -> int:
        """An upper bound: it includes offsets that were compacted away, and offsets of transaction markers."""
        return self.end - self.start


class LostRecords(ApiModel):
    total: int = 0
    """Records."""
    ranges: list[LostRange] = Field(default_factory=list)
    """All ranges of the newest batch that lost records, and the last `KEPT` ranges before, by batch and partition."""

    def add(self, found: list[LostRange]) -> LostRecords:
        """Returns a copy that includes what is new in `found`."""
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
    """Returns the part of a batch's range [start, end) before the earliest offset that the topic still holds, by
    partition.

    A partition without a start was added to the topic after the batch before, and the batch reads it from offset 0.
    Offsets that are missing after the earliest one were compacted or never visible, and are not lost.
    """
    found = []
    for partition in sorted(ends.keys() & earliest.keys()):
        start, end = starts.get(partition, 0), min(ends[partition], earliest[partition])
        if end > start:
            found.append(LostRange(batch=batch, partition=partition, start=start, end=end))
    return found


def find_unreadable(batch: int, starts: dict[int, int], ends: dict[int, int]) -> list[LostRange]:
    """Returns the whole range of a batch, for a topic that was deleted."""
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
        """Zero for a new checkpoint, and for a file that cannot be understood: no decision depends on it."""
        with translate_volume_errors(self.layout.root):
            try:
                return LostRecords.model_validate_json(self.layout.lost_records_file.read_bytes())
            except (FileNotFoundError, ValidationError):
                return LostRecords()

    def write(self, lost: LostRecords) -> None:
        with translate_volume_errors(self.layout.root):
            write_durably(self.layout.lost_records_file, lost.model_dump_json(by_alias=True).encode())
