"""The Kafka transaction of a batch, and the marker that is its last record.

`TransactionalSink.java` does the work in the driver's JVM.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dedup_job.kafka.client_settings import BLOCK_SECONDS, ClientSettings
from dedup_job.report.metrics import TransactionResult
from dedup_job.sink.marker import Marker

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TRANSACTION_TIMEOUT = 15 * 60
"""Seconds from a batch's first record to its commit: the most that brokers allow by default. The broker aborts a
batch that takes longer, and the next start of the driver repeats it."""
COMMIT_TRIES = 5
"""Each waits for BLOCK_SECONDS. Together they take less time than a batch may take before it counts as stuck."""
REOPEN_AFTER = 3600.0
"""Seconds without a transaction after which the driver opens a new producer. Brokers forget a transactional id
(transactional.id.expiration.ms, 7 days by default), and the next batch would fail; they also close idle connections."""

_LOG = logging.getLogger("dedup_job.sink.transactions")


class Transactions:
    """One producer under one transactional id. Methods raise the JVM's exceptions: see `exits.decide_failure`."""

    def __init__(
        self,
        *,
        spark: SparkSession,
        settings: ClientSettings,
        transactional_id: str,
        topic: str,
        progress_topic: str,
        output: str,
        batch_bytes: int,
        timeout: int = TRANSACTION_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`output`: the key of this output's markers. `timeout`: seconds from the first record to the commit."""
        self._jvm: Any = spark._jvm
        self._topic, self._progress_topic, self._key = topic, progress_topic, output.encode()
        self._producer_settings = settings.build_transactional_producer(batch_bytes, transactional_id, timeout)
        self._reader_settings = settings.build_marker_reader()
        self._clock = clock
        self._producer: Any = None
        self._last_used = clock()
        self._open = False
        self.on_end: Callable[[TransactionResult], None] = lambda result: None
        """Called for each transaction that has ended."""
        self.on_reopen: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Fences older producers of the transactional id, and aborts an open transaction of theirs."""
        self.close()
        sink = self._jvm.dev.streamdedup.TransactionalSink
        self._producer = sink.open(self._build_map(self._producer_settings), self._topic, COMMIT_TRIES)
        self._last_used = self._clock()

    def read_marker(self) -> Marker | None:
        """The newest marker in the progress topic; None if there is none."""
        settings = self._build_map(self._reader_settings)
        read = self._jvm.dev.streamdedup.TransactionalSink.readNewest
        found = read(settings, self._progress_topic, self._key, BLOCK_SECONDS * 1000)
        return None if found is None else Marker.model_validate_json(bytes(found))

    def reopen_after_pause(self) -> bool:
        """Before a transaction. True means that it has opened a new producer: the caller must read the marker again."""
        if self._clock() - self._last_used <= REOPEN_AFTER:
            return False
        _LOG.info("the driver opens a new producer after a long pause")
        self.open()
        self.on_reopen()
        return True

    def begin(self) -> None:
        self._producer.begin()
        self._open = True

    def write(self, rows: DataFrame) -> int:
        """Sends all rows in one action, and returns their number.

        Columns: key, value, headers, timestamp in milliseconds, topic (null for the output's), and partition and offset of the
        source record.
        """
        return int(self._producer.write(rows._jdf))

    def drain(self, rows: DataFrame) -> None:
        """Reads all rows in one action and sends none."""
        self._jvm.dev.streamdedup.TransactionalSink.drain(rows._jdf)

    def mark(self, marker: Marker) -> None:
        """Sends the marker as the transaction's last record."""
        self._producer.mark(self._progress_topic, self._key, marker.model_dump_json(by_alias=True).encode())

    def commit(self, marker: Marker) -> None:
        """When it returns, rows and marker are in the output.

        When it raises, only the marker in the progress topic says whether they are.
        """
        self.mark(marker)
        self._open = False  # an abort must not follow a commit: the commit may have succeeded
        self._producer.commit()
        self._last_used = self._clock()
        self.on_end(TransactionResult.COMMITTED)

    def abort(self) -> None:
        """Aborts the open transaction, if there is one. Where that fails, the next start of the driver aborts it."""
        if not self._open:
            return
        self._open = False
        try:
            self._producer.abort()
            self.on_end(TransactionResult.ABORTED)
        except Exception as error:  # noqa: BLE001  the driver reports the failure that led here
            _LOG.warning(
                "the driver could not abort the transaction; its next start will abort it", extra={"fields": {"error": str(error)[:200]}}
            )

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def _build_map(self, settings: dict[str, str]) -> Any:
        found = self._jvm.java.util.HashMap()
        for name, value in settings.items():
            found.put(name, value)
        return found
