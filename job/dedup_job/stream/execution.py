"""The batch that is running, as the JVM sees it: what is late in it, what was counted, which watermark follows.

Counts are read from the plan that was executed, right after the action and before the commit: `lastProgress` comes only after the
commit and is lost in a crash. The watermark is put where Spark looks for it when the batch has ended: into the statistics of event times
that the plan has gathered. Spark stores it with the commit and plans the next batch with it, as if it had found it itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dedup_api.faults import Fault
from dedup_job.checkpoint.totals import BatchCounts, InvalidRecord, StoreTimes
from dedup_job.stream.deduplicate import FIRST_INVALID, OBSERVATION, UNIQUE
from dedup_job.stream.watermark import MICROS, PartitionTimes, parse_times

_DEDUPLICATE, _SCAN, _WATERMARK = "StreamingDeduplicateWithinWatermarkExec", "MicroBatchScanExec", "EventTimeWatermarkExec"


class Execution:
    """One batch, before, while and after its action runs."""

    def __init__(self, execution: Any, batch_times: Any) -> None:
        """`execution`: the JVM's IncrementalExecution; `batch_times`: the class BatchTimes."""
        self._execution, self._batch_times = execution, batch_times
        self._nodes = {node.getClass().getSimpleName(): node for node in _walk(execution.executedPlan())}

    def begin(self) -> int:
        """Tells the tasks what is late: records with a time up to the answer, in milliseconds. Spark would drop the same ones."""
        bound = self._nodes[_DEDUPLICATE].eventTimeWatermarkForLateEvents()
        late_up_to = int(bound.get()) if bound.isDefined() else 0
        self._batch_times.begin(late_up_to * MICROS)
        return late_up_to

    def read_counts(self) -> BatchCounts:
        operator, scan = self._nodes[_DEDUPLICATE].metrics(), self._nodes.get(_SCAN)
        observed = self._execution.observedMetrics().apply(OBSERVATION)
        return BatchCounts(
            rows_in=0 if scan is None else _read(scan.metrics(), "numOutputRows"),  # a batch without data has no scan
            updated=_read(operator, "numUpdatedStateRows"),
            duplicates=_read(operator, "numDroppedDuplicateRows"),
            unique=_read_observed(observed, UNIQUE),
            faults={fault: found for fault in Fault if (found := _read_observed(observed, fault))},
            first_invalid=_read_first_invalid(observed),
            removed=_read(operator, "numRemovedStateRows"),
            state_bytes=_read(operator, "stateMemory") + _read(operator, "rocksdbSstFileSize"),
            store=StoreTimes(*(_read(operator, f"{name}TimeMs") / 1000 for name in ("allUpdates", "allRemovals", "commit"))),
        )

    def read_times(self) -> dict[int, PartitionTimes]:
        """By source partition, of the valid records that were read."""
        return parse_times(self._batch_times.describe())

    def set_watermark(self, watermark: int) -> None:
        """Milliseconds; what Spark commits the batch with, unless its watermark is past it already."""
        node = self._nodes[_WATERMARK]
        statistics = node.eventTimeStats()
        statistics.reset()
        statistics.add(watermark + node.delayMs())


def _walk(node: Any) -> Iterator[Any]:
    yield node
    children = node.children()
    for index in range(children.size()):
        yield from _walk(children.apply(index))


def _read(metrics: Any, name: str) -> int:
    return int(metrics.apply(name).value()) if metrics.contains(name) else 0


def _read_observed(row: Any, name: str) -> int:
    return int(row.getLong(row.fieldIndex(name)))


def _read_first_invalid(row: Any) -> InvalidRecord | None:
    found = row.getAs(FIRST_INVALID)
    return (
        None if found is None else InvalidRecord(int(found.getInt(0)), int(found.getLong(1)), Fault(found.getString(2)), found.getString(3))
    )
