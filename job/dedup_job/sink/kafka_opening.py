"""Opens the Kafka output: from what the volume says about it and what the spec asks for to the sink of this driver.

The order matters. The driver opens the producer first: from then on no other driver can write. Only then it reads the
marker. A change of delivery happens after a committed batch, and is on the volume before the driver writes the first
batch in the new way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.spec import Delivery, KafkaSink
from dedup_job.checkpoint.last_delivered import NOTHING_DELIVERED
from dedup_job.checkpoint.output_file import Output, OutputFile, create_output
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.errors import JobError
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.sink_topics import check_progress_topic, ensure_progress_topic, fetch_batch_bytes
from dedup_job.sink.at_least_once import AtLeastOnceSink
from dedup_job.sink.delivery_switch import SwitchingSink
from dedup_job.sink.exactly_once import ExactlyOnceSink
from dedup_job.sink.marker import Marker, decide_step
from dedup_job.sink.sink import Sink, SinkContext
from dedup_job.sink.transactions import TRANSACTION_TIMEOUT, Transactions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_LOG = logging.getLogger("dedup_job.sink.kafka_opening")

BuildTransactions = Callable[["SparkSession", JobConfig, str], Transactions]
"""(session, config, name of the output)"""


def build_transactions(spark: SparkSession, config: JobConfig, output: str, timeout: int = TRANSACTION_TIMEOUT) -> Transactions:
    """`timeout` in seconds."""
    settings = ClientSettings(config.source.bootstrap_servers)
    return Transactions(
        spark=spark,
        settings=settings,
        transactional_id=f"{config.transactional_id_prefix}.{output}",
        topic=get_kafka_sink(config).topic,
        progress_topic=config.progress_topic,
        output=output,
        batch_bytes=fetch_batch_bytes(settings, config.output_topics),
        timeout=timeout,
    )


def get_kafka_sink(config: JobConfig) -> KafkaSink:
    if config.sink.kafka is None:
        raise JobError(ExitCode.INTERNAL, "the job has no Kafka sink")
    return config.sink.kafka


@dataclass(frozen=True)
class _Opened:
    """The open transactions of the output. No other producer of their transactional id can write any more."""

    transactions: Transactions
    marker: Marker | None
    """None only where the marker is lost or far ahead of the checkpoint, and the job no longer asks for ExactlyOnce."""


class KafkaOpening:
    def __init__(self, context: SinkContext, build_transactions: BuildTransactions = build_transactions) -> None:
        self._context, self._build_transactions = context, build_transactions
        self._config, self._kafka = context.config, get_kafka_sink(context.config)
        self._settings = ClientSettings(context.config.source.bootstrap_servers)
        self._output_file = OutputFile(context.layout)
        self._offsets, self._commits = OffsetLog(context.layout), CommitLog(context.layout)
        self._opened: _Opened | None = None
        """None where the last batches were not written in transactions and the next ones will not be."""

    def open(self) -> Marker | None:
        output = self._choose_output()
        if output.delivery is not Delivery.EXACTLY_ONCE:
            return None
        self._opened = self._open_output(output)
        self._opened.transactions.on_end = self._context.metrics.count_transaction
        self._opened.transactions.on_reopen = self._context.metrics.count_reopened
        return self._opened.marker

    def _choose_output(self) -> Output:
        """The output of the last batches, or a new one for a new checkpoint and for a change to ExactlyOnce."""
        output = self._output_file.read() if self._context.has_state else None
        if output is None and self._offsets.read_newest() is not None:
            layout = self._context.layout
            message = (
                f"the file {layout.describe(layout.output_file)} is missing. It says how "
                "earlier batches were written. Restore it from a backup"
            )
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message)
        wanted = self._kafka.delivery
        if output is None or (output.delivery is not Delivery.EXACTLY_ONCE and wanted is Delivery.EXACTLY_ONCE):
            output = create_output(wanted)
            self._output_file.write(output)
        return output

    def _open_output(self, output: Output) -> _Opened:
        exists = self._context.brokers.fetch_topic(self._config.progress_topic) is not None
        if not exists and not output.marked:
            ensure_progress_topic(self._settings, self._config.progress_topic)
        if exists:
            check_progress_topic(self._settings, self._config.progress_topic)
        transactions = self._build_transactions(self._context.spark, self._config, output.name)
        transactions.open()
        marker = transactions.read_marker() if exists else None
        if marker is None and output.marked and self._kafka.delivery is Delivery.EXACTLY_ONCE:
            raise JobError(ExitCode.SINK_PROGRESS_LOST, f"the progress topic {self._config.progress_topic} holds no marker of this job")
        if marker is None and not output.marked:
            marker = self._write_first_marker(transactions)
        if marker is not None and not output.marked:
            self._output_file.write(output.model_copy(update={"marked": True}))
        return _Opened(transactions, self._accept_marker(marker))

    def _accept_marker(self, marker: Marker | None) -> Marker | None:
        """Refuses a marker that is ahead of the checkpoint, or ignores it with AtLeastOnce."""
        if marker is None or not self._is_ahead(marker):
            return marker
        message = (
            f"the progress topic says that batch {marker.batch} was written, but the "
            "checkpoint does not contain it. It is probably an older copy"
        )
        if self._kafka.delivery is Delivery.EXACTLY_ONCE:
            raise JobError(ExitCode.SINK_PROGRESS_LOST, message)
        _LOG.warning("%s. The driver writes the records after the checkpoint's last batch a second time", message)
        return None

    def _is_ahead(self, marker: Marker) -> bool:
        """Whether the marker is that of a batch after the one that is due.

        A checkpoint that holds all batches up to the marker's can be repaired, see `recovery`.
        """
        return marker.batch > max(self._commits.read_due(), self._offsets.read_newest() or 0)

    def _write_first_marker(self, transactions: Transactions) -> Marker:
        """In a transaction of its own: from then on a missing marker is a lost one."""
        last = self._commits.read_newest()
        marker = Marker(batch=NOTHING_DELIVERED if last is None else last, entry="", attempt=self._context.attempt, rows=0)
        transactions.begin()
        transactions.commit(marker)
        return marker

    def build(self) -> Sink:
        if self._opened is None:
            return self._build_at_least_once()
        transactions, marker = self._opened.transactions, self._opened.marker
        if self._kafka.delivery is Delivery.EXACTLY_ONCE and marker is not None:
            return self._build_exactly_once(transactions, marker)
        planned, committed = self._offsets.read_newest(), self._commits.read_newest()
        if planned is not None and planned != committed:
            fields = {"batch": planned}
            if marker is not None and self._fits(marker, planned):
                _LOG.info(
                    "the driver completes the pending batch with ExactlyOnce, and uses AtLeastOnce from the next batch on",
                    extra={"fields": fields},
                )
                return SwitchingSink(self._build_exactly_once(transactions, marker), planned, self._switch)
            message = "the driver cannot tell whether the pending batch is in the output, so it may write the batch a second time"
            _LOG.warning(message, extra={"fields": fields})
        transactions.close()
        return self._switch()

    def _fits(self, marker: Marker, batch: int) -> bool:
        try:
            decide_step(marker, batch, self._offsets.read_entry(batch))
        except JobError:
            return False
        return True

    def _switch(self) -> Sink:
        """Writes the new output to the volume first: the driver never opens transactions under the old name again."""
        self._output_file.write(create_output(Delivery.AT_LEAST_ONCE))
        return self._build_at_least_once()

    def _build_exactly_once(self, transactions: Transactions, marker: Marker) -> ExactlyOnceSink:
        attempt, partitions = self._context.attempt, self._config.parallelism
        return ExactlyOnceSink(transactions, marker, attempt=attempt, ordering=self._kafka.ordering, partitions=partitions)

    def _build_at_least_once(self) -> Sink:
        return AtLeastOnceSink(
            self._settings,
            topic=self._kafka.topic,
            batch_bytes=fetch_batch_bytes(self._settings, self._config.output_topics),
            ordering=self._kafka.ordering,
            partitions=self._config.parallelism,
        )
