"""Checks the source topic before and after each batch.

The checkpoint's offsets must still belong to this topic, and the topic must still hold the records of the batch.

Spark compares offsets only. If a topic was deleted and recreated, Spark continues at the old position and skips the new
records below it, without an error when `failOnDataLoss` is off. Where Spark does notice a loss, its exception names no
range, and with `failOnDataLoss` off Spark does not count it. So the driver asks the brokers before and after each
batch. That costs two requests of a few milliseconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.spec import OnDataLoss
from dedup_job.checkpoint.last_delivered import LastDelivered
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.lost_records import LostRange, LostRecordsFile, describe_lost, find_lost
from dedup_job.checkpoint.recreated_topic import RecreatedTopic
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import OffsetEnd, OffsetLookup, TopicInfo
from dedup_job.kafka.retries import retry_while_unavailable
from dedup_job.kafka.source_topic import build_recreated_error, fetch_source_topic, is_recreated
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State

_LOG = logging.getLogger("dedup_job.kafka.source_topic_guard")


class SourceTopicGuard:
    """One per driver. One thread uses it at a time: main's at the start, then Spark's batch thread."""

    def __init__(
        self,
        *,
        brokers: OffsetLookup,
        config: JobConfig,
        layout: CheckpointLayout,
        topic_id: str,
        state: State,
        metrics: Metrics,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`topic_id`: the id of the topic to which the checkpoint's offsets belong, empty where unknown."""
        self._brokers, self._config, self._layout, self._topic_id = brokers, config, layout, topic_id
        self._topic = config.source.topic
        self._offsets, self._lost_file = OffsetLog(layout), LostRecordsFile(layout)
        self._state, self._metrics, self._wait, self._clock = state, metrics, wait, clock
        self._lost = self._lost_file.read()
        state.update(lost=self._lost.total)

    @property
    def topic_id(self) -> str:
        """The id of the topic that the driver reads; empty where unknown."""
        return self._topic_id

    @property
    def _continues(self) -> bool:
        return self._config.source.on_data_loss is OnDataLoss.CONTINUE

    def check_start(self) -> None:
        """After recovery, because it reads the logs. With Fail: JobError as in `check_before`, with the whole range
        that is gone.

        With Continue, `reset_offsets_if_recreated` handles a recreated topic, and each batch counts the lost part of
        its range.
        """
        if self._continues:
            return
        earliest = self._fetch_earliest()
        batch = CommitLog(self._layout).read_due()
        starts = self._offsets.read_start_offsets(batch, self._topic)
        if starts is not None:
            self._handle_lost(find_lost(batch, starts, earliest, earliest))

    def commit_delivered_batch(self, last_delivered: LastDelivered | None) -> None:
        """Before recovery, and only for a recreated topic: see `RecreatedTopic.commit_delivered_batch`."""
        if self._continues and is_recreated(self._topic_id, self._fetch_topic()):
            batch = RecreatedTopic(self._layout, self._topic, last_delivered).commit_delivered_batch()
            if batch is not None:
                message = "the driver committed a batch of the deleted topic, because its rows are in the output"
                _LOG.warning(message, extra={"fields": {"batch": batch}})

    def reset_offsets_if_recreated(self, last_delivered: LastDelivered | None) -> str:
        """After recovery and before the query starts. Returns the topic's id; the caller writes it into the identity.

        JobError as in `check_before`.
        """
        found = self._fetch_topic()
        if is_recreated(self._topic_id, found):
            if not self._continues:
                raise build_recreated_error(self._config)
            reset = RecreatedTopic(self._layout, self._topic, last_delivered).reset_offsets()
            self._handle_lost(reset.lost)
            fields = {"emptyBatch": reset.empty_batch, "droppedBatch": reset.dropped_batch}
            message = "the source topic was deleted and recreated: the driver continues at the beginning of the new topic"
            _LOG.warning(message, extra={"fields": fields})
        self._topic_id = found.id or self._topic_id
        return self._topic_id

    def _fetch_topic(self) -> TopicInfo:
        return retry_while_unavailable(lambda: fetch_source_topic(self._brokers, self._config), self._wait, self._clock)

    def check_before(self, batch: int) -> None:
        """Before the driver reads or writes anything of the batch.

        JobError: TOPIC_MISSING where the topic is missing or was recreated, UNAVAILABLE where no broker answers for a
        minute, and with Fail SOURCE_DATA_LOST where a part of the batch's range is gone. With Continue that part is
        counted.
        """
        self._handle_lost(self._find_lost(batch))

    def check_after(self, batch: int) -> None:
        """After Spark has read the batch and before its transaction commits, so that no record of a wrong topic gets
        into the output.

        Retention may have deleted records while the batch ran. With Fail, Spark notices that itself: its consumers
        raise an error for an offset that is gone before they read it (KAFKA_DATA_LOSS), and records that were read in
        time are not lost. With Continue they raise no error, so everything that is gone now counts, read or not: the
        number is an upper bound.
        """
        found = self._find_lost(batch)
        if self._continues:
            self._handle_lost(found)

    def _find_lost(self, batch: int) -> list[LostRange]:
        earliest = self._fetch_earliest()
        ends = self._offsets.read_end_offsets(batch, self._topic)
        return find_lost(batch, self._offsets.read_start_offsets(batch, self._topic) or {}, ends, earliest)

    def _fetch_earliest(self) -> dict[int, int]:
        """By partition. JobError where the topic was recreated."""

        def ask() -> dict[int, int]:
            found = fetch_source_topic(self._brokers, self._config)
            if is_recreated(self._topic_id, found):
                raise build_recreated_error(self._config)
            return self._brokers.fetch_offsets(self._topic, found.partitions, OffsetEnd.EARLIEST)

        return retry_while_unavailable(ask, self._wait, self._clock)

    def _handle_lost(self, found: list[LostRange]) -> None:
        """With Fail: JobError. With Continue: counts what is new in `found`, on the volume, in metric and status."""
        if found and not self._continues:
            raise JobError(ExitCode.SOURCE_DATA_LOST, describe_lost(self._topic, found))
        after = self._lost.add(found)
        if after == self._lost:
            return
        self._lost_file.write(after)
        self._metrics.lost.inc(after.total - self._lost.total)
        self._state.update(lost=after.total)
        self._lost = after
        for item in found:
            log_lost(self._topic, item)


def log_lost(topic: str, lost: LostRange) -> None:
    fields = {"batch": lost.batch, "partition": lost.partition, "start": lost.start, "end": lost.end}
    _LOG.warning(describe_lost(topic, [lost]), extra={"fields": fields})
