"""The Kafka sink with ExactlyOnce: the rows of a batch and its marker in one Kafka transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dedup_api.exits import ExitCode
from dedup_api.spec import Ordering
from dedup_job.errors import JobError
from dedup_job.sink.marker import Marker, Step, decide_step
from dedup_job.sink.rows import build_timestamp, order
from dedup_job.sink.transactions import Transactions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_LOG = logging.getLogger("dedup_job.sink.exactly_once")


class ExactlyOnceSink:
    writes_marker = True

    def __init__(self, transactions: Transactions, marker: Marker, *, attempt: int, ordering: Ordering, partitions: int) -> None:
        """`marker`: the newest one, read after the transactions were opened."""
        self._transactions, self._marker, self._attempt = transactions, marker, attempt
        self._ordering, self._partitions = ordering, partitions
        self._step, self._batch, self._entry, self._sent = Step.DELIVER, -1, "", 0

    def begin(self, batch: int, entry: str) -> bool:
        self._step, self._batch, self._entry = decide_step(self._marker, batch, entry), batch, entry
        if self._step is Step.DELIVER:
            if self._transactions.reopen_after_pause() and self._transactions.read_marker() != self._marker:
                raise JobError(ExitCode.FENCED, "another driver wrote to the output while this driver was paused")
            self._transactions.begin()
            return False
        fields = {"batch": batch, "rows": self._marker.rows}
        _LOG.info("the rows of the batch are in the output already: the batch is only read", extra={"fields": fields})
        return True

    def write(self, rows: DataFrame, batch: int) -> None:
        if self._step is Step.SKIP:
            self._transactions.drain(rows.select("offset"))
            return
        ordered = order(rows, self._ordering, self._partitions)
        columns = ("key", "value", "headers", build_timestamp().alias("timestamp"), "topic", "partition", "offset")
        self._sent = self._transactions.write(ordered.select(*columns))

    def confirm(self, rows: int) -> None:
        if self._step is Step.SKIP:
            if rows != self._marker.rows:
                fields = {"batch": self._batch, "rowsInOutput": self._marker.rows, "rowsNow": rows}
                message = "an earlier driver wrote this batch with other settings, and this driver does not change those records"
                _LOG.warning(message, extra={"fields": fields})
            return
        if self._sent != rows:
            message = f"batch {self._batch} has {rows} records to write, and {self._sent} were sent: the driver does not commit it"
            raise JobError(ExitCode.INTERNAL, message)
        marker = Marker(batch=self._batch, entry=self._entry, attempt=self._attempt, rows=rows)
        self._transactions.commit(marker)
        self._marker = marker

    def abort(self) -> None:
        self._transactions.abort()

    def close(self) -> None:
        self._transactions.close()
