"""The Kafka transaction of a batch, by `TransactionalSink.java` in the driver's JVM, and the marker that goes into it."""

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
"""Seconds from a batch's first record to its commit: the most that brokers allow by default. A batch that takes longer is aborted by the
broker, and the driver starts again with it."""
COMMIT_TRIES = 5
"""Each of BLOCK_SECONDS; together less than a batch may take before it counts as stuck."""
REOPEN_AFTER = 3600.0
"""Seconds without a transaction after which the producer is opened anew: brokers forget a transactional id (transactional.id.expiration.ms,
7 days by default) and idle connections, and a forgotten id would fail the next batch."""

_LOG = logging.getLogger("dedup_job.sink.transactions")


class Transactions:
    """One producer under one transactional id. Every method raises what the JVM says; see `exits.decide_failure`."""

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
        """`output`: the key of this output's markers. `timeout` in seconds."""
        self._jvm: Any = spark._jvm
        self._topic, self._progress_topic, self._key = topic, progress_topic, output.encode()
        self._producer_settings = settings.build_transactional_producer(batch_bytes, transactional_id, timeout)
        self._reader_settings = settings.build_marker_reader()
        self._clock = clock
        self._producer: Any = None
        self._used = clock()
        self._open = False
        self.on_end: Callable[[TransactionResult], None] = lambda result: None
        """Told of each transaction that has ended."""
        self.on_reopen: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Fences older producers of the id; what one of them has left open is aborted when this returns."""
        self.close()
        sink = self._jvm.dev.streamdedup.TransactionalSink
        self._producer = sink.open(self._build_map(self._producer_settings), self._topic, COMMIT_TRIES)
        self._used = self._clock()

    def read_marker(self) -> Marker | None:
        """The newest marker in the progress topic; None if there is none."""
        settings = self._build_map(self._reader_settings)
        read = self._jvm.dev.streamdedup.TransactionalSink.readNewest
        found = read(settings, self._progress_topic, self._key, BLOCK_SECONDS * 1000)
        return None if found is None else Marker.model_validate_json(bytes(found))

    def reopen_after_pause(self) -> bool:
        """Before a transaction: whether the producer was opened anew, so that the marker is to be read again."""
        if self._clock() - self._used <= REOPEN_AFTER:
            return False
        _LOG.info("the producer is opened anew after a long pause")
        self.open()
        self.on_reopen()
        return True

    def begin(self) -> None:
        self._producer.begin()
        self._open = True

    def write(self, rows: DataFrame) -> int:
        """Sends all rows (key, value, headers, timestamp in ms, topic or null for the output's) in one action; how many they were."""
        return int(self._producer.write(rows._jdf))

    def drain(self, rows: DataFrame) -> None:
        """Reads all rows in one action and sends none."""
        self._jvm.dev.streamdedup.TransactionalSink.drain(rows._jdf)

    def mark(self, marker: Marker) -> None:
        """The transaction's last record."""
        self._producer.mark(self._progress_topic, self._key, marker.model_dump_json(by_alias=True).encode())

    def commit(self, marker: Marker) -> None:
        """When this returns, rows and marker are in the output; when it raises, the marker says whether they are."""
        self.mark(marker)
        self._open = False  # a commit that was asked for is never taken back: nobody knows whether it went through
        self._producer.commit()
        self._used = self._clock()
        self.on_end(TransactionResult.COMMITTED)

    def abort(self) -> None:
        """Best effort, and nothing where no transaction is open: what is left open is aborted at the next start."""
        if not self._open:
            return
        self._open = False
        try:
            self._producer.abort()
            self.on_end(TransactionResult.ABORTED)
        except Exception as error:  # noqa: BLE001  the failure that led here is the one to report
            _LOG.warning("the transaction could not be aborted; the next start will", extra={"fields": {"error": str(error)[:200]}})

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def _build_map(self, settings: dict[str, str]) -> Any:
        found = self._jvm.java.util.HashMap()
        for name, value in settings.items():
            found.put(name, value)
        return found
