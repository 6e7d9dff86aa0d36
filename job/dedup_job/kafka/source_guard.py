"""Is the topic still the one that the checkpoint's offsets belong to, and does it still hold what a batch is to read?

Spark looks at offsets alone. A topic that was deleted and made again continues them for it: the new records below the old
position are skipped, in silence with `failOnDataLoss` off. And where Spark does see a loss, its exception names no range,
and with `failOnDataLoss` off nobody counts it. So the driver asks the brokers itself around each batch, which costs two
requests of a few milliseconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.spec import OnDataLoss
from dedup_job.checkpoint.layout import Checkpoint, fetch_last_commit, read_end_offsets, read_entry, read_start_offsets
from dedup_job.checkpoint.lost_records import LostRange, build_sentence, find_lost, read_lost, write_lost
from dedup_job.checkpoint.markers import Marker
from dedup_job.checkpoint.recreated_topic import adopt_batch, move_to_new_topic
from dedup_job.checkpoint.volume import build_volume_error
from dedup_job.errors import JobError
from dedup_job.kafka.brokers import End, OffsetLookup, TopicInfo, ask_patiently, build_replaced, fetch_source, is_replaced
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State

_LOG = logging.getLogger("dedup_job.stream.source")


class SourceGuard:
    """One per driver, in one thread at a time: main's at the start, then Spark's batch thread."""

    def __init__(
        self,
        brokers: OffsetLookup,
        config: JobConfig,
        checkpoint: Checkpoint,
        topic_id: str,
        state: State,
        metrics: Metrics,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`topic_id`: of the topic that the checkpoint's offsets belong to, empty where unknown. `wait(seconds)` says whether a stop was
        requested meanwhile."""
        self._brokers, self._config, self._checkpoint, self._topic_id = brokers, config, checkpoint, topic_id
        self._state, self._metrics, self._wait = state, metrics, wait
        self._clock = clock
        try:
            self._lost = read_lost(checkpoint.lost_file)
        except OSError as error:
            raise build_volume_error(checkpoint.root, error) from error
        state.update(lost=self._lost.total)

    @property
    def topic_id(self) -> str:
        """Of the topic that is read; empty where unknown."""
        return self._topic_id

    @property
    def _continues(self) -> bool:
        return self._config.source.on_data_loss is OnDataLoss.CONTINUE

    def check_start(self) -> None:
        """After the checkpoint was settled, whose entries it reads. JobError as of `check_before`, with the whole range that is gone.

        With Continue a replaced topic is left to `follow_topic`, and what is gone is counted by the batches that it belongs to.
        """
        if self._continues:
            return
        earliest = self._fetch_earliest()
        last = fetch_last_commit(self._checkpoint)
        batch = 0 if last is None else last + 1
        starts = read_start_offsets(self._checkpoint, self._config.source.topic, batch)
        if starts is not None:
            self._take(find_lost(batch, starts, earliest, earliest))

    def adopt_batch(self, marker: Marker | None) -> None:
        """Before the checkpoint is looked through: see `moved_topic.adopt_batch`. Nothing where the topic is what it was."""
        if self._continues and is_replaced(self._topic_id, self._fetch_topic()):
            adopted = adopt_batch(self._checkpoint, marker)
            if adopted is not None:
                _LOG.warning("a batch of the topic that was deleted is in the output: committed", extra={"fields": {"batch": adopted}})

    def follow_topic(self, marker: Marker | None) -> str:
        """After the checkpoint was looked through and before the query starts: moves it where the topic was made again.

        The id to be recorded in the identity before the query starts. `marker`: the newest in the progress topic, None with
        AtLeastOnce. JobError as of `check_before`.
        """
        found = self._fetch_topic()
        if is_replaced(self._topic_id, found):
            if not self._continues:
                raise build_replaced(self._config)
            move = move_to_new_topic(self._checkpoint, self._config.source.topic, marker)
            self._take(move.lost)
            fields = {"emptyBatch": move.forced, "droppedBatch": move.dropped}
            _LOG.warning("the topic was deleted and made again: going on at its beginning", extra={"fields": fields})
        self._topic_id = found.id or self._topic_id
        return self._topic_id

    def _fetch_topic(self) -> TopicInfo:
        return ask_patiently(lambda: fetch_source(self._brokers, self._config), self._wait, self._clock)

    def check_before(self, batch: int) -> None:
        """Before anything of the batch is read or written.

        JobError: TOPIC_MISSING where the topic is gone or was made again, UNAVAILABLE where no broker answers for a minute,
        SOURCE_DATA_LOST with Fail where a part of the batch's range is gone; with Continue that part is counted.
        """
        self._take(self._find_lost(batch))

    def check_after(self, batch: int) -> None:
        """After the batch was read and before its transaction commits, so that nothing of a wrong topic gets into the output.

        Retention may have overtaken the batch while it ran. With Fail Spark itself has seen to that: its consumers throw where
        an offset is gone before it was read (KAFKA_DATA_LOSS), and a range that was read in time is no loss. With Continue they
        say nothing, so what is gone now is counted, read or not: the number is an upper bound.
        """
        found = self._find_lost(batch)
        if self._continues:
            self._take(found)

    def _find_lost(self, batch: int) -> list[LostRange]:
        earliest = self._fetch_earliest()
        ends = read_end_offsets(read_entry(self._checkpoint, batch), self._config.source.topic)
        return find_lost(batch, read_start_offsets(self._checkpoint, self._config.source.topic, batch) or {}, ends, earliest)

    def _fetch_earliest(self) -> dict[int, int]:
        """By partition. JobError unless the topic is the one that it was."""

        def ask() -> dict[int, int]:
            found = fetch_source(self._brokers, self._config)
            if is_replaced(self._topic_id, found):
                raise build_replaced(self._config)
            return self._brokers.fetch_offsets(self._config.source.topic, found.partitions, End.EARLIEST)

        return ask_patiently(ask, self._wait, self._clock)

    def _take(self, found: list[LostRange]) -> None:
        if found and not self._continues:
            raise JobError(ExitCode.SOURCE_DATA_LOST, build_sentence(self._config.source.topic, found))
        after = self._lost.add(found)
        if after == self._lost:
            return
        try:
            write_lost(self._checkpoint.lost_file, after)
        except OSError as error:
            raise build_volume_error(self._checkpoint.root, error) from error
        self._metrics.lost.inc(after.total - self._lost.total)
        self._state.update(lost=after.total)
        self._lost = after
        for item in found:
            log_lost(self._config.source.topic, item)


def log_lost(topic: str, lost: LostRange) -> None:
    fields = {"batch": lost.batch, "partition": lost.partition, "start": lost.start, "end": lost.end}
    _LOG.warning(build_sentence(topic, [lost]), extra={"fields": fields})
