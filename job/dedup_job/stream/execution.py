"""Gives access to the plan of the running batch in the JVM: which records are late, the counts, and the next watermark.

The driver reads the counts from the executed plan, after Spark's action and before the commit. Spark's `lastProgress`
has them only after the commit, and a crash loses them. The driver writes the watermark into the plan's statistics of
event times, where Spark reads it when the batch ends. Spark then commits it and plans the next batch with it, as if it
had computed it itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dedup_api.exits import ExitCode
from dedup_api.faults import Fault
from dedup_job.checkpoint.totals import BatchCounts, InvalidRecord, StoreTimes
from dedup_job.errors import JobError
from dedup_job.stream.deduplicate import FIRST_INVALID, OBSERVATION, UNIQUE
from dedup_job.stream.plausibility import OddTimes, parse_odd_times
from dedup_job.stream.watermark import MICROS_PER_MILLISECOND, PartitionTimes, parse_record_counts, parse_times

_DEDUPLICATE, _SCAN, _WATERMARK = "StreamingDeduplicateWithinWatermarkExec", "MicroBatchScanExec", "EventTimeWatermarkExec"


class Execution:
    """The plan of one batch, which the driver uses before and after Spark's action."""

    def __init__(self, execution: Any, batch_times: Any, plausibility: Any) -> None:
        """`execution`: Spark's IncrementalExecution in the JVM. The others: the Java classes BatchTimes and
        Plausibility."""
        self._execution, self._batch_times, self._plausibility = execution, batch_times, plausibility
        self._nodes = {node.getClass().getSimpleName(): node for node in _list_nodes(execution.executedPlan())}

    def begin(self, arrival: int) -> int:
        """Tells the tasks which records are late: those with an event time up to the returned one, in milliseconds.
        Spark itself would drop the same records. `arrival`: the time of the batch with `eventTime.from: Arrival`, in
        milliseconds; 0 with any other."""
        bound = self._nodes[_DEDUPLICATE].eventTimeWatermarkForLateEvents()
        late_up_to = int(bound.get()) if bound.isDefined() else 0
        self._batch_times.begin(late_up_to * MICROS_PER_MILLISECOND, arrival * MICROS_PER_MILLISECOND)
        return late_up_to

    def read_counts(self) -> BatchCounts:
        operator, scan = self._nodes[_DEDUPLICATE].metrics(), self._nodes.get(_SCAN)
        observed = self._execution.observedMetrics().apply(OBSERVATION)
        return BatchCounts(
            rows_in=0 if scan is None else read_metric(scan.metrics(), "numOutputRows"),  # a batch without data has no scan
            updated=read_metric(operator, "numUpdatedStateRows"),
            duplicates=read_metric(operator, "numDroppedDuplicateRows"),
            unique=_read_observed(observed, UNIQUE),
            faults={fault: found for fault in Fault if (found := _read_observed(observed, fault))},
            first_invalid=_read_first_invalid(observed),
            removed=read_metric(operator, "numRemovedStateRows"),
            state_bytes=read_metric(operator, "stateMemory") + read_metric(operator, "rocksdbSstFileSize"),
            store=StoreTimes(*(read_metric(operator, f"{name}TimeMs") / 1000 for name in ("allUpdates", "allRemovals", "commit"))),
        )

    def read_times(self) -> dict[int, PartitionTimes]:
        """By source partition: the event times of the valid records that were read."""
        return parse_times(self._batch_times.describe())

    def read_record_counts(self) -> dict[int, int]:
        """By source partition: how many records the batch has read, also invalid ones."""
        return parse_record_counts(self._batch_times.describeRead())

    def read_odd_times(self) -> OddTimes:
        return parse_odd_times(self._plausibility.describe())

    def set_watermark(self, watermark: int) -> None:
        """Sets the watermark that Spark commits with the batch, in milliseconds. Spark keeps its own when that is
        later."""
        node = self._nodes[_WATERMARK]
        statistics = node.eventTimeStats()
        statistics.reset()
        statistics.add(watermark + node.delayMs())


def _list_nodes(node: Any) -> Iterator[Any]:
    yield node
    children = node.children()
    for index in range(children.size()):
        yield from _list_nodes(children.apply(index))


def read_metric(metrics: Any, name: str) -> int:
    """`metrics`: those of one node of the plan, in the JVM. JobError with INTERNAL when Spark does not have the metric."""
    if not metrics.contains(name):
        message = (
            f"the plan of the batch has no Spark metric {name}, so the driver cannot count its records: "
            "use the Spark version of this driver's image, and report the defect if you do"
        )
        raise JobError(ExitCode.INTERNAL, message)
    return int(metrics.apply(name).value())


def _read_observed(row: Any, name: str) -> int:
    return int(row.getLong(row.fieldIndex(name)))


def _read_first_invalid(row: Any) -> InvalidRecord | None:
    found = row.getAs(FIRST_INVALID)
    return (
        None if found is None else InvalidRecord(int(found.getInt(0)), int(found.getLong(1)), Fault(found.getString(2)), found.getString(3))
    )
