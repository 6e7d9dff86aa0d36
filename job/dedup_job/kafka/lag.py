"""Measures every ten seconds how far the job is behind, what an open transaction holds back, and whether the brokers answer.

Spark retries without a message while no broker answers. This thread makes the outage visible.
"""

from __future__ import annotations

import logging
import threading
import time

from dedup_api.driver_status import Blocked
from dedup_api.job_config import JobConfig
from dedup_api.spec import StartingOffsets
from dedup_job.background import Survivor, start_repeating
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import OffsetEnd, OffsetLookup
from dedup_job.kafka.oldest_unread import OldestLookup
from dedup_job.kafka.open_transactions import OpenTransactions, OpenTransactionTracker
from dedup_job.kafka.source_topic import fetch_source_topic
from dedup_job.kafka.startup_check import find_broker_problem
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State

INTERVAL = 10.0
"""Seconds. The operator patches the status once a minute; a dashboard scrapes every 15 to 60 s."""

_LOG = logging.getLogger("dedup_job.kafka.lag")


def find_unread(ends: dict[int, int], committed: dict[int, int], starts: dict[int, int]) -> dict[int, int]:
    """Returns the offset of the first unread record of each partition that has unread records.

    It is the first offset after the committed batches, or the partition's earliest offset where no batch has read it.
    """
    first = {partition: max(committed.get(partition, 0), starts.get(partition, 0)) for partition in ends}
    return {partition: offset for partition, offset in first.items() if offset < ends[partition]}


class LagProbe:
    """Keeps `lag` and `blocked_by` of the state up to date until `stop` is set."""

    def __init__(
        self,
        *,
        brokers: OffsetLookup,
        oldest: OldestLookup,
        config: JobConfig,
        state: State,
        metrics: Metrics,
        stop: threading.Event,
    ) -> None:
        self._brokers, self._oldest = brokers, oldest
        self._config, self._state, self._metrics, self._stop = config, state, metrics, stop
        self._survivor, self._tracker = Survivor("lag"), OpenTransactionTracker()

    def start(self) -> None:
        start_repeating("lag", self.probe, INTERVAL, self._stop)

    def probe(self) -> None:
        """Measures once. An unexpected error is only logged."""
        if not self._survivor.attempt(self._measure):
            self._state.update(lag_since=None)  # an old value would count as a delay of the driver

    def _measure(self) -> None:
        problem = find_broker_problem(self._brokers, self._config)
        if problem is None:
            try:
                self._publish_lag()
            except JobError as error:
                problem = error
        self._publish_problem(problem)

    def _publish_lag(self) -> None:
        topic = self._config.source.topic
        partitions = fetch_source_topic(self._brokers, self._config).partitions
        highs = self._brokers.fetch_offsets(topic, partitions, OffsetEnd.HIGH_WATERMARK)
        stable = self._brokers.fetch_offsets(topic, partitions, OffsetEnd.LATEST)  # after the high watermarks, see `observe`
        self._publish_open_transactions(self._tracker.observe(highs, stable, time.time()))
        commit = self._state.read().commit
        if commit is None and self._config.source.starting_offsets is StartingOffsets.LATEST:
            return  # only Spark knows the start offsets until the first batch commits
        starts = self._brokers.fetch_offsets(topic, partitions, OffsetEnd.EARLIEST)
        committed = commit.end_offsets if commit else {}
        ends = {partition: max(highs[partition], offset) for partition, offset in stable.items()}
        unread = find_unread(ends, committed, starts)
        lag = sum(ends[partition] - offset for partition, offset in unread.items())
        readable = bool(find_unread(stable, committed, starts))  # no batch starts for records behind an open transaction
        since = self._state.read().lag_since if readable else None
        self._state.update(lag=lag, lag_since=(since or time.time()) if readable else None)
        self._metrics.lag.set(lag)
        if not unread:
            self._publish_seconds(0)
            return
        oldest = self._oldest.fetch_timestamp(topic, unread)
        if oldest is not None:  # otherwise the last value stays
            self._publish_seconds(max(0, round(time.time() - oldest / 1000)))

    def _publish_open_transactions(self, found: OpenTransactions) -> None:
        source, now, before = self._config.source, time.time(), self._state.read().open_transaction_warning
        warning = found.build_warning(source.bootstrap_servers, source.topic, now)
        self._state.update(open_transaction_records=found.records, open_transaction_warning=warning)
        self._metrics.open_transaction_records.set(found.records)
        self._metrics.open_transaction_seconds.set(found.measure_seconds(now))
        if warning is not None and warning != before:
            _LOG.warning(warning.message, extra={"fields": {"reason": warning.reason}})
        elif warning is None and before is not None:
            _LOG.info("no transaction is open for long in the source topic any more", extra={"fields": {"reason": before.reason}})

    def _publish_seconds(self, seconds: int) -> None:
        self._state.update(lag_seconds=seconds)
        self._metrics.lag_seconds.set(seconds)

    def _publish_problem(self, problem: JobError | None) -> None:
        before = self._state.read().blocked_by
        after = None if problem is None else Blocked(reason=problem.reason, message=problem.message)
        self._state.update(blocked_by=after)
        if after is not None:
            self._state.update(lag_since=None)  # the driver does not delay records while no broker answers
        self._metrics.blocked.set(0 if after is None else 1)
        if (before and before.reason) == (after and after.reason):
            return
        if after is not None:
            _LOG.warning(after.message, extra={"fields": {"reason": after.reason}})
        elif before is not None:
            _LOG.info("the brokers answer and all topics exist", extra={"fields": {"reason": before.reason}})
