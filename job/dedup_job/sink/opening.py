"""From what the volume says about the output and what the spec wants of it to the sink of this run.

Order matters: the producer is opened first, because only then does nobody else write, and only then is the marker read. A change of
delivery happens at a committed batch, and is on the volume before the first batch is written in the new way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.spec import Delivery, KafkaSink
from dedup_job.checkpoint.layout import Checkpoint, fetch_last_commit, fetch_last_planned, read_entry
from dedup_job.checkpoint.markers import NOTHING_WRITTEN, Marker, decide_step
from dedup_job.checkpoint.output_file import Output, create_output, read_output, write_output
from dedup_job.errors import JobError
from dedup_job.kafka.brokers import TopicLookup
from dedup_job.kafka.sink_topics import check_progress_topic, ensure_progress_topic, fetch_batch_bytes
from dedup_job.sink.sinks import AtLeastOnceSink, ConsoleSink, ExactlyOnceSink, Sink, SwitchingSink
from dedup_job.sink.transactions import TRANSACTION_TIMEOUT, Transactions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_LOG = logging.getLogger("dedup_job.sink.opening")

MakeTransactions = Callable[["SparkSession", JobConfig, str], Transactions]
"""(session, config, name of the output)"""


def make_transactions(spark: SparkSession, config: JobConfig, output: str, timeout: int = TRANSACTION_TIMEOUT) -> Transactions:
    """`timeout` in seconds."""
    topic, bootstrap_servers = get_kafka_sink(config).topic, config.source.bootstrap_servers
    batch_bytes = fetch_batch_bytes(bootstrap_servers, list_output_topics(config))
    identity = f"{config.transactional_id_prefix}.{output}"
    return Transactions(spark, bootstrap_servers, identity, topic, config.progress_topic, output, batch_bytes, timeout)


def get_kafka_sink(config: JobConfig) -> KafkaSink:
    if config.sink.kafka is None:
        raise JobError(ExitCode.INTERNAL, "the job has no Kafka sink")
    return config.sink.kafka


def list_output_topics(config: JobConfig) -> list[str]:
    """The topics that records are written to."""
    return [get_kafka_sink(config).topic, *([config.dead_letter_topic] if config.dead_letter_topic else [])]


@dataclass(frozen=True)
class Opened:
    """The transactions of the output as the volume knows it, open; no other producer of theirs can write any more."""

    output: Output
    transactions: Transactions
    marker: Marker | None
    """None only where it is lost, or far ahead of the checkpoint, and the job no longer wants to rely on it."""


@dataclass(frozen=True)
class SinkOpener:
    """Steps between the start of Spark and that of the query."""

    spark: SparkSession
    config: JobConfig
    checkpoint: Checkpoint
    attempt: int
    begun: bool
    """Batches may have been planned on the checkpoint."""
    brokers: TopicLookup
    make_transactions: MakeTransactions = make_transactions

    def open(self) -> Opened | None:
        """None where the last batches were not written in transactions and the next ones are not to be."""
        if self.config.sink.kafka is None:
            return None
        wanted, output = self.config.sink.kafka.delivery, read_output(self.checkpoint) if self.begun else None
        if output is None and fetch_last_planned(self.checkpoint) is not None:
            path = self.checkpoint.sink_file.relative_to(self.checkpoint.root)
            raise JobError(
                ExitCode.CHECKPOINT_DAMAGED, f"the checkpoint holds batches, and {path}, which says how they were written, is missing"
            )
        if output is None or (output.delivery is not Delivery.EXACTLY_ONCE and wanted is Delivery.EXACTLY_ONCE):
            output = create_output(wanted)
            write_output(self.checkpoint, output)
        if output.delivery is not Delivery.EXACTLY_ONCE:
            return None
        return self._open_output(output, wanted)

    def _open_output(self, output: Output, wanted: Delivery) -> Opened:
        is_there = self.brokers.fetch_topic(self.config.progress_topic) is not None
        if not is_there and not output.marked:
            ensure_progress_topic(self.config.source.bootstrap_servers, self.config.progress_topic)
        if is_there:
            check_progress_topic(self.config.source.bootstrap_servers, self.config.progress_topic)
        transactions = self.make_transactions(self.spark, self.config, output.name)
        transactions.open()
        marker = transactions.read_marker() if is_there else None
        if marker is None and output.marked and wanted is Delivery.EXACTLY_ONCE:
            raise JobError(ExitCode.SINK_PROGRESS_LOST, f"the progress topic {self.config.progress_topic} holds no marker of this job")
        if marker is None and not output.marked:
            marker = self._write_first_marker(transactions)
        if marker is not None and not output.marked:
            output = output.model_copy(update={"marked": True})
            write_output(self.checkpoint, output)
        if marker is not None and self._is_ahead(marker):
            message = f"the marker in the progress topic is that of batch {marker.batch}, and the checkpoint is an older copy, without it"
            if wanted is Delivery.EXACTLY_ONCE:
                raise JobError(ExitCode.SINK_PROGRESS_LOST, message)
            _LOG.warning("%s: what came out since comes out again", message)
            marker = None
        return Opened(output, transactions, marker)

    def _is_ahead(self, marker: Marker) -> bool:
        """Of the batch that is due at the most: a checkpoint that has its batches up to there can be put right, see `settle`."""
        planned, committed = fetch_last_planned(self.checkpoint), fetch_last_commit(self.checkpoint)
        due = 0 if committed is None else committed + 1
        return marker.batch > max(due, planned or 0)

    def _write_first_marker(self, transactions: Transactions) -> Marker:
        """In a transaction of its own, so that from then on a missing marker is a lost one."""
        last = fetch_last_commit(self.checkpoint)
        marker = Marker(batch=NOTHING_WRITTEN if last is None else last, entry="", attempt=self.attempt, rows=0)
        transactions.begin()
        transactions.commit(marker)
        return marker

    def build(self, opened: Opened | None) -> Sink:
        """After the checkpoint was checked and repaired: the sink for the batches to come."""
        if self.config.sink.kafka is None:
            return ConsoleSink()
        if opened is None:
            return self._build_at_least_once()
        planned, committed = fetch_last_planned(self.checkpoint), fetch_last_commit(self.checkpoint)
        due = planned is not None and planned != committed
        if self.config.sink.kafka.delivery is Delivery.EXACTLY_ONCE and opened.marker is not None:
            return self._build_exactly_once(opened, opened.marker)
        if due and planned is not None and opened.marker is not None and self._fits(opened.marker, planned):
            _LOG.info("the batch that is due ends in a transaction, those after it are at-least-once", extra={"fields": {"batch": planned}})
            return SwitchingSink(self._build_exactly_once(opened, opened.marker), planned, self._switch)
        if due:
            _LOG.warning(
                "nobody knows whether the batch that is due is in the output: it is written, maybe again",
                extra={"fields": {"batch": planned}},
            )
        opened.transactions.close()
        return self._switch()

    def _fits(self, marker: Marker, batch: int) -> bool:
        try:
            decide_step(marker, batch, read_entry(self.checkpoint, batch))
        except JobError:
            return False
        return True

    def _switch(self) -> Sink:
        """The volume first: what was written in transactions until here never is again under this name."""
        write_output(self.checkpoint, create_output(Delivery.AT_LEAST_ONCE))
        return self._build_at_least_once()

    def _build_exactly_once(self, opened: Opened, marker: Marker) -> ExactlyOnceSink:
        return ExactlyOnceSink(opened.transactions, marker, self.attempt, get_kafka_sink(self.config).ordering, self.config.parallelism)

    def _build_at_least_once(self) -> Sink:
        kafka = get_kafka_sink(self.config)
        batch_bytes = fetch_batch_bytes(self.config.source.bootstrap_servers, list_output_topics(self.config))
        return AtLeastOnceSink(self.config.source.bootstrap_servers, kafka.topic, batch_bytes, kafka.ordering, self.config.parallelism)
