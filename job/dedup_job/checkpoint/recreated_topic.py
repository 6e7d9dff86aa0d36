"""With `onDataLoss: Continue`: moves the job from a deleted topic to the topic that was recreated under its name.

The job keeps all keys.

Spark's position belongs to the old topic. Spark would continue at that position in the new topic and skip every record
below it. So the driver writes the next batch into the offset log: a batch whose end names no partition. Spark replays
it as an empty batch, because the partitions with which it started no longer exist. From then on every partition is new
to Spark, and Spark reads a new partition from its beginning. That holds for any partitions and offsets of the new
topic.

A planned batch of the old topic that did not commit can no longer be read. If the output holds its rows, its keys are
in the state as well, because the sink commits after the last task. The driver then writes the commit that Spark did not
write. It does so before `recovery`, which would remove that state and run the batch again. In every other case the
driver removes the batch and counts its range as lost.

Each step can be repeated: a driver that is killed in the middle finds the old topic's id in the identity and starts
over. The files that the empty batch reads are on the disk before its entry: a step back to the batch before it would
read old offsets from the new topic.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.guards import DurabilityGuard
from dedup_job.checkpoint.last_delivered import LastDelivered
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.log_format import build_empty_batch_entry
from dedup_job.checkpoint.lost_records import LostRange, LostRecordsFile, find_unreadable
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog, SourceStart
from dedup_job.checkpoint.volume import translate_volume_errors
from dedup_job.errors import JobError


@dataclass(frozen=True)
class OffsetReset:
    """What `RecreatedTopic.reset_offsets` did, for the log and for tests."""

    empty_batch: int | None
    """The empty batch in the offset log, or None where no batch has committed."""
    dropped_batch: int | None
    """The planned batch of the old topic that was removed, or None. The output holds none of its rows."""
    lost: list[LostRange]
    """What the dropped batch would have read. The driver cannot know what else the old topic held."""


class RecreatedTopic:
    def __init__(self, layout: CheckpointLayout, topic: str, last_delivered: LastDelivered | None) -> None:
        """`last_delivered` is None for a sink that keeps no record (AtLeastOnce, console)."""
        self._layout, self._topic, self._last_delivered = layout, topic, last_delivered
        self._offsets, self._commits = OffsetLog(layout), CommitLog(layout)

    def commit_delivered_batch(self) -> int | None:
        """Before recovery: commits the planned batch of the old topic if the output holds its rows.

        Returns the number of the batch, or None.
        """
        committed, planned = self._commits.read_newest(), self._offsets.read_newest()
        if planned is None or planned == committed or not self._is_delivered(planned):
            return None
        with translate_volume_errors(self._layout.root):
            self._commits.write_missing(planned, committed)
        return planned

    def reset_offsets(self) -> OffsetReset:
        """After recovery and before the query starts. The caller then writes the new topic's id into the identity.

        JobError with CHECKPOINT_DAMAGED where the output holds a batch whose keys and records can no longer be read.
        """
        with translate_volume_errors(self._layout.root):
            committed, planned = self._commits.read_newest(), self._offsets.read_newest()
            lost: list[LostRange] = []
            if planned is not None and planned != committed:
                lost = self._count_lost(planned)
            dropped = planned if lost else None
            if committed is None:
                self._remove_first_batch()
                return OffsetReset(None, dropped, lost)
            self._write_empty_batch(committed)
            return OffsetReset(committed + 1, dropped, lost)

    def _count_lost(self, planned: int) -> list[LostRange]:
        if self._is_delivered(planned):
            message = (
                f"the output contains batch {planned}, but the driver cannot read the keys "
                "of this batch, and its records were deleted with the topic"
            )
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message)
        starts = self._offsets.read_start_offsets(planned, self._topic)
        lost = find_unreadable(planned, starts or {}, self._offsets.read_end_offsets(planned, self._topic))
        file = LostRecordsFile(self._layout)
        file.write(file.read().add(lost))  # before the entry is removed: only the entry names the range
        return lost

    def _write_empty_batch(self, committed: int) -> None:
        DurabilityGuard(self._layout).sync_batch(committed)
        previous, watermark = self._offsets.read_entry(committed), self._commits.read_next_watermark(committed)
        self._offsets.replace(committed + 1, build_empty_batch_entry(previous, watermark, int(time.time() * 1000)))

    def _remove_first_batch(self) -> None:
        """No batch has committed. `startingOffsets` was meant for the old topic, so batch 0 reads the whole new one."""
        SourceStart(self._layout).clear()
        self._offsets.remove(0)

    def _is_delivered(self, planned: int) -> bool:
        return self._last_delivered is not None and self._last_delivered.batch == planned
