"""What Spark does first after a start: the driver removes a plan from the offset log, or adds one, before the query starts."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_job.checkpoint.file_formats import find_entry_fault, inspect_file
from dedup_job.checkpoint.last_delivered import LastDelivered
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.log_format import build_repeated_entry
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.checkpoint.totals import TotalsFile
from dedup_job.checkpoint.volume import translate_volume_errors


@dataclass(frozen=True)
class DuePlan:
    """The batch with which the next query starts."""

    batch: int
    offsets: int | None
    """How many offsets a driver before has planned for it and has not delivered; None when there is no such plan."""


def remove_undelivered_plan(layout: CheckpointLayout, topic: str, last_delivered: LastDelivered | None) -> DuePlan:
    """Removes the plan of the batch that is due, unless its rows are in the output. Spark then makes a new plan.

    Without it, Spark would repeat the batch with the old range, although it may have been too large for the memory of the
    pod, and although the user may have lowered `spec.source.maxOffsetsPerTrigger`. Call it after recovery, which has
    removed the state that the batch left behind, and before the query starts.

    `last_delivered` is None for a sink that keeps no record (AtLeastOnce, console). There, a plan is kept when the totals
    include its batch: all of its rows are in the output, and only the commit is missing. A plan without records is kept
    as well: it cannot be too large, and it may be the empty batch of a recreated topic. So is a plan whose removal would
    make Spark read a damaged entry: without it, Spark reads the two entries before it.
    """
    offsets, commits = OffsetLog(layout), CommitLog(layout)
    with translate_volume_errors(layout.root):
        due = commits.read_due()
        if offsets.read_newest() != due:
            return DuePlan(due, None)
        starts = offsets.read_start_offsets(due, topic) or {}
        ends = offsets.read_end_offsets(due, topic)
        planned = sum(max(0, end - starts.get(partition, 0)) for partition, end in ends.items())
        is_delivered = last_delivered is not None and last_delivered.batch >= due
        needed = offsets.get_path(due - 2)
        is_needed_damaged = due >= 2 and inspect_file(needed, find_entry_fault).fault is not None
        if planned == 0 or is_delivered or is_needed_damaged or TotalsFile(layout).read().has(due):
            return DuePlan(due, None)
        offsets.remove(due)
    return DuePlan(due, planned)


def plan_expiry_batch(layout: CheckpointLayout, watermark_ms: int, now_ms: int) -> int | None:
    """Plans a batch without data, which removes the keys that have expired by `watermark_ms` before Spark reads a record.

    Spark itself plans none before the first batch of a process. Call it after recovery and before the query starts.
    `now_ms`: the system clock. Returns the number of the batch. Returns None, and changes nothing, when no batch has
    committed or when a batch is planned already. The watermark does not go below the committed one.
    """
    offsets, commits = OffsetLog(layout), CommitLog(layout)
    with translate_volume_errors(layout.root):
        last = commits.read_newest()
        if last is None or offsets.read_newest() != last:
            return None
        watermark = max(watermark_ms, commits.read_next_watermark(last))
        offsets.replace(last + 1, build_repeated_entry(offsets.read_entry(last), watermark, now_ms))
    return last + 1
