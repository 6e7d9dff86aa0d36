"""The checkpoint volume: where things lie on it, and the few small files that the driver itself keeps there.

Spark owns `generation-<n>/spark` and nobody else writes there; its offset and commit logs are only read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.volume import build_volume_error
from dedup_job.errors import JobError

LOG_VERSION = "v1"
"""First line of an entry in Spark's logs."""
_ATTEMPT_REMEDY = "it holds how often drivers were started on this volume; restore it, or write a number there that is surely higher"


@dataclass(frozen=True)
class Checkpoint:
    """Paths of one generation on the volume."""

    root: Path
    generation: int

    @property
    def attempt_file(self) -> Path:
        return self.root / "attempt"

    @property
    def folder(self) -> Path:
        return self.root / f"generation-{self.generation}"

    @property
    def spark(self) -> Path:
        return self.folder / "spark"

    @property
    def identity_file(self) -> Path:
        return self.folder / "job.json"

    @property
    def sink_file(self) -> Path:
        return self.folder / "sink.json"

    @property
    def totals_file(self) -> Path:
        return self.folder / "totals.json"

    @property
    def lost_file(self) -> Path:
        return self.folder / "lost.json"

    def is_committed(self, batch: int) -> bool:
        return (self.spark / "commits" / str(batch)).exists()


def write_durably(path: Path, content: bytes) -> None:
    """All or nothing, also after a power cut: a new file, on disk, then the name, on disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names that were given or taken in it are so on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_attempt(checkpoint: Checkpoint) -> int:
    """Raises the attempt number, which also shows that the volume takes writes. The number of this start."""
    try:
        checkpoint.spark.mkdir(parents=True, exist_ok=True)
        attempt = read_attempt(checkpoint) + 1
        write_durably(checkpoint.folder / "writable", b"")
        write_durably(checkpoint.attempt_file, f"{attempt}\n".encode())
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error
    return attempt


def read_attempt(checkpoint: Checkpoint) -> int:
    """The number of the newest start; 0 on a new volume. Volume errors pass as OSError.

    The file is replaced as a whole and on disk before the old one goes, so no crash leaves it empty or takes it from
    beside a job's identity. Beginning at 0 again would let an older driver that is still alive pass for the newer one:
    JobError with CHECKPOINT_DAMAGED.
    """
    try:
        content = checkpoint.attempt_file.read_bytes().strip()
    except FileNotFoundError:
        if not any(checkpoint.root.glob("generation-*/job.json")):
            return 0
        raise JobError(ExitCode.CHECKPOINT_DAMAGED, f"the file attempt is missing: {_ATTEMPT_REMEDY}") from None
    if not content.isdigit():
        raise JobError(ExitCode.CHECKPOINT_DAMAGED, f"the file attempt holds no number: {_ATTEMPT_REMEDY}")
    return int(content)


@dataclass(frozen=True)
class Commit:
    """What Spark's logs say about a committed batch."""

    batch: int
    next_watermark_ms: int
    """Keys expire by it in the next batch, records are late by it in the one after; 0 before there was one."""
    end_offsets: dict[int, int]
    """By partition: the first offset that the batch did not read."""


def fetch_last_commit(checkpoint: Checkpoint) -> int | None:
    """The newest batch in the commit log; None for a new checkpoint."""
    return _fetch_newest(checkpoint.spark / "commits")


def fetch_last_planned(checkpoint: Checkpoint) -> int | None:
    """The newest batch in the offset log, which is the last committed one or the one after it; None for a new checkpoint."""
    return _fetch_newest(checkpoint.spark / "offsets")


def _fetch_newest(folder: Path) -> int | None:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return None
    return max((int(name) for name in names if name.isdigit()), default=None)


def read_entry(checkpoint: Checkpoint, batch: int) -> str:
    """The offset log's entry of a batch as it stands on the volume: Spark writes it once, and a replay reads it again."""
    try:
        return (checkpoint.spark / "offsets" / str(batch)).read_text()
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error


@dataclass(frozen=True)
class BatchPlan:
    """What an entry of the offset log says."""

    watermark: int
    """Milliseconds, as it was when the batch was planned: keys expire by it."""
    time: int
    """Milliseconds: when it was planned."""
    ends: dict[int, int]
    """By partition: the first offset that the batch does not read."""


def parse_plan(entry: str, topic: str) -> BatchPlan:
    metadata, offsets = _parse_log(entry, "the entry")[:2]
    ends: dict[str, int] = offsets.get(topic, {})
    watermark, time = int(metadata.get("batchWatermarkMs", 0)), int(metadata.get("batchTimestampMs", 0))
    return BatchPlan(watermark, time, {int(partition): offset for partition, offset in ends.items()})


def read_end_offsets(entry: str, topic: str) -> dict[int, int]:
    """By partition: the first offset that the batch of this entry does not read."""
    return parse_plan(entry, topic).ends


def read_start_offsets(checkpoint: Checkpoint, topic: str, batch: int) -> dict[int, int] | None:
    """Where a batch begins, by partition; None while Spark has chosen no beginning. Partitions that are new begin at 0."""
    if batch == 0:
        return read_initial_offsets(checkpoint, topic)
    return read_end_offsets(read_entry(checkpoint, batch - 1), topic)


def get_initial_file(checkpoint: Checkpoint) -> Path:
    return checkpoint.spark / "sources" / "0" / "0"


def read_initial_offsets(checkpoint: Checkpoint, topic: str) -> dict[int, int] | None:
    """Where batch 0 begins, by partition; None before Spark has chosen it."""
    path = get_initial_file(checkpoint)
    try:
        text = path.read_bytes().lstrip(b"\0").decode()
        version, _, offsets = text.partition("\n")
        if version != LOG_VERSION:
            raise ValueError(version)
        found: dict[str, dict[str, int]] = json.loads(offsets)
        return {int(partition): offset for partition, offset in found.get(topic, {}).items()}
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise JobError(ExitCode.CHECKPOINT_DAMAGED, f"{path.relative_to(checkpoint.root)} cannot be read: {error}") from error


def read_commit(checkpoint: Checkpoint, batch: int, topic: str) -> Commit:
    path = checkpoint.spark / "commits" / str(batch)
    commit = _parse_log(path.read_text(), str(path))
    return Commit(
        batch=batch,
        next_watermark_ms=int(commit[0].get("nextBatchWatermarkMs", 0)),
        end_offsets=read_end_offsets(read_entry(checkpoint, batch), topic),
    )


def _parse_log(text: str, name: str) -> list[dict[str, Any]]:
    """An entry of Spark's logs: a version line, then JSON documents, one a line."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("v"):
        raise ValueError(f"{name} does not begin with a version")
    return [json.loads(line) for line in lines[1:] if line.strip() and line.strip() != "-"]
