"""With `onDataLoss: Continue`: from a topic that was deleted to the one made again under its name, without forgetting keys.

Spark's position belongs to the old topic. Left to itself Spark goes on there, and skips what the new topic holds below it.
So the next batch is written into the offset log by the driver: one whose end names no partition at all. Spark plays it as
an empty batch, for the partitions it began with are gone; from then on every partition is new to Spark, and it reads
partitions that are new from their beginning. That holds whatever the new topic's partitions and offsets are by then.

A planned batch of the old topic that did not commit cannot be read any more. Where its marker shows that its rows are in
the output, its keys are in the state as well (the transaction commits after the last task), so the commit that Spark
missed is put in its place: before the checkpoint is looked through (`settle`), which would remove that state and run the
batch again. Otherwise the batch is dropped and its range counted as lost.

Each step can be repeated: a driver that is killed on the way finds the old topic's id in the identity and begins again.
What the forced batch begins from is on the disk before it: to step back behind it would be to read old offsets again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.file_formats import build_sidecar_path
from dedup_job.checkpoint.guards import DurabilityGuard
from dedup_job.checkpoint.layout import (
    LOG_VERSION,
    Checkpoint,
    fetch_last_commit,
    fetch_last_planned,
    get_initial_file,
    read_end_offsets,
    read_entry,
    read_start_offsets,
    sync_folder,
    write_durably,
)
from dedup_job.checkpoint.lost_records import LostRange, find_unreadable, read_lost, write_lost
from dedup_job.checkpoint.markers import Marker
from dedup_job.checkpoint.volume import build_volume_error
from dedup_job.errors import JobError

NO_PARTITION = "{}"
_ENTRY_LINES = 3
"""Version, metadata, the offsets of the one source."""


@dataclass(frozen=True)
class Move:
    """What was done, for the log and for tests."""

    forced: int | None
    """The batch that was written into the offset log; None where no batch has committed."""
    dropped: int | None
    """The planned batch of the old topic whose rows are in no output."""
    lost: list[LostRange]
    """What the dropped batch would have read. What else the old topic held is not known any more."""


def adopt_batch(checkpoint: Checkpoint, marker: Marker | None) -> int | None:
    """Before the checkpoint is looked through: commits the planned batch of the old topic if its rows are in the output. Its number."""
    committed, planned = fetch_last_commit(checkpoint), fetch_last_planned(checkpoint)
    if marker is None or planned == committed or marker.batch != planned:
        return None
    try:
        _commit(checkpoint, planned, committed)
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error
    return planned


def move_to_new_topic(checkpoint: Checkpoint, topic: str, marker: Marker | None) -> Move:
    """Before the query starts, after the checkpoint was looked through. The caller then writes the new topic's id into the identity.

    `marker`: the newest in the progress topic, None with AtLeastOnce. JobError with CHECKPOINT_DAMAGED where a batch is in the
    output, and neither its keys nor its records can be read.
    """
    try:
        return _move(checkpoint, topic, marker)
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error


def _move(checkpoint: Checkpoint, topic: str, marker: Marker | None) -> Move:
    committed, planned = fetch_last_commit(checkpoint), fetch_last_planned(checkpoint)
    lost: list[LostRange] = []
    if planned is not None and planned != committed:
        if marker is not None and marker.batch == planned:
            message = f"batch {planned} is in the output, its state cannot be read, and its records went with the topic that was deleted"
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message)
        lost = _find_unreadable(checkpoint, topic, planned)
        write_lost(checkpoint.lost_file, read_lost(checkpoint.lost_file).add(lost))  # before the entry goes: it is known from there alone
    dropped = planned if lost else None
    if committed is None:
        _begin_anew(checkpoint)
        return Move(None, dropped, lost)
    DurabilityGuard(checkpoint).settle_batch(committed)
    entry = build_forced_entry(read_entry(checkpoint, committed), _read_watermark(checkpoint, committed), int(time.time() * 1000))
    _replace(checkpoint.spark / "offsets" / str(committed + 1), entry.encode())
    return Move(committed + 1, dropped, lost)


def build_forced_entry(last: str, watermark_ms: int, now_ms: int) -> str:
    """The entry after `last`, which reads nothing and ends at no partition. Neither watermark nor clock goes back."""
    lines = last.splitlines()
    if len(lines) != _ENTRY_LINES or lines[0] != LOG_VERSION:
        raise JobError(ExitCode.INTERNAL, f"an entry of the offset log has another form than {LOG_VERSION} with one source: {last[:100]!r}")
    metadata: dict[str, Any] = json.loads(lines[1])
    metadata["batchWatermarkMs"] = max(watermark_ms, metadata["batchWatermarkMs"])
    metadata["batchTimestampMs"] = max(now_ms, metadata["batchTimestampMs"])
    return "\n".join([LOG_VERSION, json.dumps(metadata, separators=(",", ":")), NO_PARTITION])


def _commit(checkpoint: Checkpoint, batch: int, before: int | None) -> None:
    """What Spark would have written. The watermark stays as it was: a lower one only keeps keys for longer."""
    folder = checkpoint.spark / "commits"
    folder.mkdir(exist_ok=True)
    last = f"{LOG_VERSION}\n{json.dumps({'nextBatchWatermarkMs': 0})}" if before is None else (folder / str(before)).read_text()
    _replace(folder / str(batch), last.encode())


def _read_watermark(checkpoint: Checkpoint, batch: int) -> int:
    lines = (checkpoint.spark / "commits" / str(batch)).read_text().splitlines()
    return int(json.loads(lines[1]).get("nextBatchWatermarkMs", 0))


def _find_unreadable(checkpoint: Checkpoint, topic: str, batch: int) -> list[LostRange]:
    starts = read_start_offsets(checkpoint, topic, batch)
    return find_unreadable(batch, starts or {}, read_end_offsets(read_entry(checkpoint, batch), topic))


def _begin_anew(checkpoint: Checkpoint) -> None:
    """Nothing has committed. What Spark chose as the beginning is replaced by every partition's; startingOffsets was for the old topic."""
    if get_initial_file(checkpoint).exists():
        _replace(get_initial_file(checkpoint), f"\0{LOG_VERSION}\n{NO_PARTITION}".encode())
    _remove(checkpoint.spark / "offsets" / "0")


def _replace(path: Path, content: bytes) -> None:
    """Spark's checksums go first: a file that does not match them cannot be read, one without them is read as it is."""
    _remove(path)
    write_durably(path, content)


def _remove(path: Path) -> None:
    build_sidecar_path(path).unlink(missing_ok=True)
    if path.exists():
        path.unlink()
        sync_folder(path.parent)
