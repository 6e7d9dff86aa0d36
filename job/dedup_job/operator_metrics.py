"""What the deduplication operator counted in the batch that has just run.

Read from the plan that was executed, right after the action and before the commit: `lastProgress` comes only after the
commit and is lost in a crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dedup_job.deduplicate import INVALID, OBSERVATION, VALID
from dedup_job.totals import BatchCounts

_DEDUPLICATE, _SCAN = "StreamingDeduplicateWithinWatermarkExec", "MicroBatchScanExec"


def read_batch_counts(execution: Any) -> BatchCounts:
    """`execution`: the JVM's IncrementalExecution of the batch."""
    nodes = {node.getClass().getSimpleName(): node for node in _walk(execution.executedPlan())}
    operator, scan = nodes[_DEDUPLICATE].metrics(), nodes[_SCAN].metrics()
    observed = execution.observedMetrics().apply(OBSERVATION)
    return BatchCounts(
        rows_in=_read(scan, "numOutputRows"),
        updated=_read(operator, "numUpdatedStateRows"),
        duplicates=_read(operator, "numDroppedDuplicateRows"),
        late=_read(operator, "numRowsDroppedByWatermark"),
        invalid=_read_observed(observed, INVALID),
        written=_read_observed(observed, VALID),
        removed=_read(operator, "numRemovedStateRows"),
        state_bytes=_read(operator, "stateMemory") + _read(operator, "rocksdbSstFileSize"),
    )


def _walk(node: Any) -> Iterator[Any]:
    yield node
    children = node.children()
    for index in range(children.size()):
        yield from _walk(children.apply(index))


def _read(metrics: Any, name: str) -> int:
    return int(metrics.apply(name).value()) if metrics.contains(name) else 0


def _read_observed(row: Any, name: str) -> int:
    return int(row.getLong(row.fieldIndex(name)))
