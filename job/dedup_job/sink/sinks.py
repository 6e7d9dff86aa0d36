"""The sinks: each writes one batch in exactly one Spark action that reads every row of every partition.

A second action would run the deduplication again on changed state; one that stops early would leave it half done.

A batch goes begin, write, confirm; abort where something failed on the way. Only `confirm` makes an ExactlyOnce batch visible, so whatever
must be known before that, such as the count of rows, is checked between `write` and `confirm`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pyspark.sql import functions as F

from dedup_api.exits import ExitCode
from dedup_api.spec import Ordering
from dedup_job.checkpoint.markers import Marker, Step, decide_step
from dedup_job.errors import JobError
from dedup_job.sink.transactions import Transactions, build_producer_settings

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_LOG = logging.getLogger("dedup_job.sink.sinks")

CONSOLE_ROWS = 20
CONSOLE_CHARACTERS = 2000
"""Of each field: a log line is to be read."""
CONSOLE_COLUMNS = ("key", "value", "headers")


class Sink(Protocol):
    @property
    def marks(self) -> bool:
        """Whether the next batch puts a marker into the progress topic."""

    def begin(self, batch: int, entry: str) -> bool:
        """`entry`: the offset log's. Whether the batch is in the output already: its rows are then only read."""

    def write(self, rows: DataFrame, batch: int) -> None:
        """The one action. `rows` as `routing.route` makes them."""

    def confirm(self, rows: int) -> None:
        """`rows`: how many were to be written; JobError where they were not as many."""

    def abort(self) -> None:
        """After a failure. Never raises."""


def order(rows: DataFrame, ordering: Ordering, partitions: int) -> DataFrame:
    """With PerKey, rows of one Kafka key are in one task, in the order of the source. Rows without a key have no order to keep."""
    if ordering is Ordering.NONE:
        return rows
    together = F.when(F.col("key").isNotNull(), F.xxhash64("key")).otherwise(F.xxhash64("partition", "offset"))
    return rows.repartition(partitions, together).sortWithinPartitions("partition", "offset")


def build_timestamp() -> Column:
    """Milliseconds, as the record came; null where it came without, which the producer would refuse as a negative number."""
    millis = F.unix_millis("timestamp")
    return F.when(millis >= 0, millis)


def build_topic(default: str) -> Column:
    """As Spark's own writer wants it: never null."""
    return F.coalesce("topic", F.lit(default)).alias("topic")


class ExactlyOnceSink:
    """Rows and marker in one Kafka transaction."""

    marks = True

    def __init__(self, transactions: Transactions, marker: Marker, attempt: int, ordering: Ordering, partitions: int) -> None:
        """`marker`: the newest one, read after the transactions were opened."""
        self._transactions, self._marker, self._attempt = transactions, marker, attempt
        self._ordering, self._partitions = ordering, partitions
        self._step, self._batch, self._entry, self._sent = Step.DELIVER, -1, "", 0

    def begin(self, batch: int, entry: str) -> bool:
        self._step, self._batch, self._entry = decide_step(self._marker, batch, entry), batch, entry
        if self._step is Step.DELIVER:
            if self._transactions.reopen_after_pause() and self._transactions.read_marker() != self._marker:
                raise JobError(ExitCode.FENCED, "another driver has written to the output while this one paused")
            self._transactions.begin()
            return False
        _LOG.info("the batch is in the output already and is only read", extra={"fields": {"batch": batch, "rows": self._marker.rows}})
        return True

    def write(self, rows: DataFrame, batch: int) -> None:
        if self._step is Step.SKIP:
            self._transactions.drain(rows.select("offset"))
            return
        ordered = order(rows, self._ordering, self._partitions)
        self._sent = self._transactions.write(ordered.select("key", "value", "headers", build_timestamp().alias("timestamp"), "topic"))

    def confirm(self, rows: int) -> None:
        if self._step is Step.SKIP:
            if rows != self._marker.rows:
                fields = {"batch": self._batch, "rowsInOutput": self._marker.rows, "rowsNow": rows}
                _LOG.warning("the batch was written under other settings, and stays as it is", extra={"fields": fields})
            return
        if self._sent != rows:
            message = f"batch {self._batch} has {rows} records to write, and {self._sent} were sent: it is not committed"
            raise JobError(ExitCode.INTERNAL, message)
        marker = Marker(batch=self._batch, entry=self._entry, attempt=self._attempt, rows=rows)
        self._transactions.commit(marker)
        self._marker = marker

    def abort(self) -> None:
        self._transactions.abort()

    def close(self) -> None:
        self._transactions.close()


class AtLeastOnceSink:
    """Spark's own writer."""

    marks = False

    def __init__(self, bootstrap_servers: str, topic: str, batch_bytes: int, ordering: Ordering, partitions: int) -> None:
        producer = build_producer_settings(bootstrap_servers, batch_bytes)
        self._topic, self._options = topic, {f"kafka.{name}": value for name, value in producer.items()}
        self._ordering, self._partitions = ordering, partitions

    def begin(self, batch: int, entry: str) -> bool:
        return False

    def write(self, rows: DataFrame, batch: int) -> None:
        ordered = order(rows, self._ordering, self._partitions)
        ordered.select("key", "value", "headers", build_topic(self._topic)).write.format("kafka").options(**self._options).save()

    def confirm(self, rows: int) -> None:
        """Written is written."""

    def abort(self) -> None:
        """There is nothing to take back."""


class SwitchingSink:
    """A batch that was planned under the delivery before ends under it; those after it are written by the sink that is wanted now."""

    def __init__(self, before: ExactlyOnceSink, last: int, switch: Callable[[], Sink]) -> None:
        """`last`: the number of the batch that is still `before`'s. `switch` is called once, when that one has committed."""
        self._before, self._last, self._switch = before, last, switch
        self._sink: Sink = before
        self._ended = False

    @property
    def marks(self) -> bool:
        return not self._ended

    def begin(self, batch: int, entry: str) -> bool:
        if batch > self._last and self._sink is self._before:
            self._before.close()
            self._sink = self._switch()
        return self._sink.begin(batch, entry)

    def write(self, rows: DataFrame, batch: int) -> None:
        self._sink.write(rows, batch)

    def confirm(self, rows: int) -> None:
        self._sink.confirm(rows)
        self._ended = True

    def abort(self) -> None:
        self._sink.abort()


class ConsoleSink:
    """Prints the first rows of each batch."""

    marks = False

    def begin(self, batch: int, entry: str) -> bool:
        return False

    def write(self, rows: DataFrame, batch: int) -> None:
        write_console(rows, batch)

    def confirm(self, rows: int) -> None:
        """Printed is printed."""

    def abort(self) -> None:
        """There is nothing to take back."""


def write_console(batch: DataFrame, number: int) -> None:
    """Prints up to 20 rows as JSON lines. The index of a row in its partition picks them, so that all rows are still read."""
    index_in_partition = F.monotonically_increasing_id().bitwiseAND(F.lit((1 << 33) - 1))
    picked = batch.select(*CONSOLE_COLUMNS, index_in_partition.alias("index")).agg(
        F.collect_list(F.when(F.col("index") < CONSOLE_ROWS, F.struct(*CONSOLE_COLUMNS)))
    )
    for row in picked.collect()[0][0][:CONSOLE_ROWS]:
        print(json.dumps(build_console_row(number, row["key"], row["value"], row["headers"]), ensure_ascii=False), flush=True)


def build_console_row(number: int, key: bytes | None, value: bytes | None, headers: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"batch": number, "key": _readable(key), "value": _readable(value)}
    if headers:
        document["headers"] = {header["key"]: _readable(header["value"]) for header in headers}
    return document


def _readable(content: bytes | None) -> str | None:
    return None if content is None else bytes(content).decode("utf-8", "replace")[:CONSOLE_CHARACTERS]
