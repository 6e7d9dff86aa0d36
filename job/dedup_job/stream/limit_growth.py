"""Lets a reduced limit of the batches grow back while the driver runs."""

from __future__ import annotations

import logging

from dedup_job.checkpoint.batch_limit import BatchLimit, BatchLimitFile
from dedup_job.report.status import State
from dedup_job.stream.read_limit import ReadLimit

_LOG = logging.getLogger("dedup_job.stream.limit_growth")


class LimitGrowth:
    """Only the batch thread uses it, inside a batch."""

    def __init__(self, limit: BatchLimit, file: BatchLimitFile, configured: int, read_limit: ReadLimit, state: State) -> None:
        """`configured`: `spec.source.maxOffsetsPerTrigger`."""
        self._limit, self._file, self._configured, self._read_limit, self._state = limit, file, configured, read_limit, state
        self._has_read = False

    def begin_batch(self) -> None:
        """Spark begins a batch only after the one before has committed."""
        if not self._has_read:
            return
        self._has_read = False
        before, self._limit = self._limit, self._limit.count_commit(self._configured)
        if self._limit == before:
            return
        self._file.write(self._limit)
        if self._limit.offsets != before.offsets:
            offsets = self._limit.decide_offsets(self._configured)
            self._read_limit.change(offsets)
            self._state.update(batch_limit=self._limit.offsets)
            _LOG.info("batches may read more records again", extra={"fields": {"batchLimit": offsets}})

    def end_batch(self, rows: int) -> None:
        """`rows`: how many records the batch has read. A batch without records does not show that the limit is right."""
        self._has_read = rows > 0
