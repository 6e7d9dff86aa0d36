"""Changes what Spark does first after a start: the driver plans a batch in the offset log, before the query starts."""

from __future__ import annotations

from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.log_format import build_repeated_entry
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.checkpoint.volume import translate_volume_errors


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
