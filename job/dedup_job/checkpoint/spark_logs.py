"""Spark's offset log, its commit log, and the start offsets of the source, as files of the checkpoint.

Spark plans a batch by an entry in the offset log and ends it by an entry in the commit log. The newest planned batch is
either the newest committed one or the batch after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.durable_files import remove_spark_file, replace_spark_file
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.log_format import (
    BatchPlan,
    build_empty_source_start,
    build_first_commit,
    parse_end_offsets,
    parse_next_watermark,
    parse_plan,
    parse_source_start,
)
from dedup_job.checkpoint.volume import translate_volume_errors
from dedup_job.errors import JobError


@dataclass(frozen=True)
class SourceStart:
    """`sources/0/0`: the offsets at which batch 0 starts, as Spark chose them."""

    layout: CheckpointLayout

    def read(self, topic: str) -> dict[int, int] | None:
        """The offset by partition, or None before Spark has chosen it."""
        path = self.layout.source_start_file
        try:
            return parse_source_start(path.read_bytes().lstrip(b"\0").decode(), topic)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, f"{self.layout.describe(path)} cannot be read: {error}") from error

    def clear(self) -> None:
        """Makes batch 0 start at the beginning of every partition. Does nothing before Spark has chosen a start."""
        if self.layout.source_start_file.exists():
            replace_spark_file(self.layout.source_start_file, build_empty_source_start())


@dataclass(frozen=True)
class OffsetLog:
    """`offsets/<batch>`: the offset range of each planned batch.

    Spark writes an entry once. A replay of the batch reads it again.
    """

    layout: CheckpointLayout

    def get_path(self, batch: int) -> Path:
        return self.layout.offset_log / str(batch)

    def read_newest(self) -> int | None:
        """The number of the newest planned batch, or None for a new checkpoint."""
        return _read_newest(self.layout.offset_log)

    def read_entry(self, batch: int) -> str:
        with translate_volume_errors(self.layout.root):
            return self.get_path(batch).read_text()

    def read_plan(self, batch: int, topic: str) -> BatchPlan:
        return parse_plan(self.read_entry(batch), topic)

    def read_end_offsets(self, batch: int, topic: str) -> dict[int, int]:
        """By partition: the first offset that the batch does not read."""
        return parse_end_offsets(self.read_entry(batch), topic)

    def read_start_offsets(self, batch: int, topic: str) -> dict[int, int] | None:
        """By partition: the first offset that the batch reads. None before Spark has chosen where batch 0 starts.

        A partition that is missing here is new, and the batch reads it from offset 0.
        """
        return SourceStart(self.layout).read(topic) if batch == 0 else self.read_end_offsets(batch - 1, topic)

    def replace(self, batch: int, entry: str) -> None:
        replace_spark_file(self.get_path(batch), entry.encode())

    def remove(self, batch: int) -> None:
        remove_spark_file(self.get_path(batch))


@dataclass(frozen=True)
class Commit:
    """What Spark's logs say about a committed batch."""

    batch: int
    next_watermark_ms: int
    """0 before the first watermark. Keys expire by it in the next batch, records are late by it in the one after
    that."""
    end_offsets: dict[int, int]
    """By partition: the first offset that the batch did not read."""


@dataclass(frozen=True)
class CommitLog:
    """`commits/<batch>`: one entry for each committed batch."""

    layout: CheckpointLayout

    def get_path(self, batch: int) -> Path:
        return self.layout.commit_log / str(batch)

    def read_newest(self) -> int | None:
        """The number of the newest committed batch, or None for a new checkpoint."""
        return _read_newest(self.layout.commit_log)

    def read_due(self) -> int:
        """The number of the batch after the newest committed one; 0 for a new checkpoint."""
        newest = self.read_newest()
        return 0 if newest is None else newest + 1

    def is_committed(self, batch: int) -> bool:
        return self.get_path(batch).exists()

    def read_next_watermark(self, batch: int) -> int:
        """Milliseconds: the watermark with which Spark plans the batch after this one."""
        path = self.get_path(batch)
        return parse_next_watermark(path.read_text(), str(path))

    def read(self, batch: int, topic: str) -> Commit:
        watermark = self.read_next_watermark(batch)
        return Commit(batch, watermark, OffsetLog(self.layout).read_end_offsets(batch, topic))

    def write_missing(self, batch: int, previous: int | None) -> None:
        """Writes the entry that Spark would have written for `batch`, with the watermark of the batch `previous`.

        Spark might have chosen a later watermark. An earlier one only keeps keys for longer.
        """
        self.layout.commit_log.mkdir(exist_ok=True)
        entry = build_first_commit() if previous is None else self.get_path(previous).read_text()
        replace_spark_file(self.get_path(batch), entry.encode())


def _read_newest(log: Path) -> int | None:
    try:
        names = [entry.name for entry in log.iterdir()]
    except FileNotFoundError:
        return None
    return max((int(name) for name in names if name.isdigit()), default=None)
