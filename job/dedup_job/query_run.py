"""Prepares the query of a driver, starts it, and supervises it until it ends.

Importing this module imports PySpark. `main` does that only after the JVM has started.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from dedup_api.driver_status import Phase
from dedup_api.reasons import Reason
from dedup_api.version import VERSION
from dedup_job.checkpoint.batch_limit import BatchLimit, BatchLimitFile
from dedup_job.checkpoint.guards import AttemptGuard, DurabilityGuard
from dedup_job.checkpoint.identity_file import Identity, IdentityFile, read_spark_version
from dedup_job.checkpoint.last_delivered import LastDelivered
from dedup_job.checkpoint.next_batch import plan_expiry_batch, remove_undelivered_plan
from dedup_job.checkpoint.recovery import recover_checkpoint
from dedup_job.checkpoint.spark_logs import CommitLog
from dedup_job.driver import Driver
from dedup_job.errors import JobError
from dedup_job.jvm.memory import MemoryPlan
from dedup_job.jvm.process import Jvm
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.consumer_group import GroupMirror, GroupOffsets
from dedup_job.kafka.group_guard import build_mark
from dedup_job.kafka.lag import LagProbe
from dedup_job.kafka.oldest_unread import OldestUnreadReader
from dedup_job.kafka.retries import retry_while_unavailable
from dedup_job.kafka.sink_topic_guard import SinkTopicGuard
from dedup_job.report.checkpoint_size import CheckpointSizeMonitor
from dedup_job.report.status import describe_limit
from dedup_job.sink.opening import build_opening
from dedup_job.sink.sink import Sink, SinkContext
from dedup_job.stream.event_time import validate_event_time
from dedup_job.stream.expiry import build_expiry_interval
from dedup_job.stream.guards import Guards
from dedup_job.stream.query import Query
from dedup_job.stream.session import build_spark_conf, start_session
from dedup_job.stream.stop import stop_on_signals
from dedup_job.supervise import Reporter, Supervisor

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_LOG = logging.getLogger("dedup_job")


def run_query(driver: Driver, memory: MemoryPlan, jvm: Jvm) -> bool:
    """Returns whether the query has read everything that it was to read; False when the driver was stopped."""
    spark = start_spark(driver, memory)
    opening = build_opening(build_sink_context(driver, spark))
    last_delivered = opening.open()
    identity = recover(driver, last_delivered)
    due, limit = plan_limit(driver, last_delivered)
    query = build_query(driver, opening.build(), limit)
    mirror = GroupMirror(GroupOffsets(ClientSettings(driver.config.source.bootstrap_servers), build_mark(driver.config)), driver.config)
    reporter = Reporter(
        config=driver.config,
        commits=CommitLog(driver.layout),
        state=driver.state,
        metrics=driver.metrics,
        mirror=mirror,
    )
    reporter.report_earlier_runs(query.runner.totals)
    if driver.gate.stop_requested.is_set():
        return False  # before the identity is written, the user can still correct every setting
    write_identity(driver, identity)
    if build_expiry_interval(driver.config) is not None:
        planned = plan_expiry_batch(driver.layout, query.runner.clock.read() - 1, int(time.time() * 1000))
        due = due if planned is None else planned + 1  # the first batch that reads records
    BatchLimitFile(driver.layout).write(limit.note_batch(due))
    mirror.start()
    start_query(driver, query, spark)
    lag = start_monitors(driver)
    try:
        has_completed = build_supervisor(driver, query, jvm, reporter).run_until_end()
        if has_completed:
            lag.probe()  # the last chance to report how many records the next run has to read
        return has_completed
    finally:
        mirror.close()


def start_spark(driver: Driver, memory: MemoryPlan) -> SparkSession:
    """JobError when Spark refuses the format of the event time."""
    spark = start_session(build_spark_conf(driver.config, memory))
    stop_on_signals(driver.gate)  # again, because PySpark has replaced the handler of SIGINT
    driver.metrics.build.labels(version=VERSION, spark_version=spark.version).set(1)
    if driver.config.reads_time:
        validate_event_time(spark, driver.config.event_time)
    return spark


def build_sink_context(driver: Driver, spark: SparkSession) -> SinkContext:
    return SinkContext(
        spark=spark,
        config=driver.config,
        layout=driver.layout,
        attempt=driver.attempt,
        has_state=driver.identity is not None,
        brokers=driver.brokers,
        metrics=driver.metrics,
    )


def recover(driver: Driver, last_delivered: LastDelivered | None) -> Identity:
    """Repairs the checkpoint, and moves it to a recreated source topic. Returns the identity that it must have now.

    `last_delivered`: the output's record of its newest batch; None for an output that keeps no record.
    """
    driver.source.commit_delivered_batch(last_delivered)
    for repair in recover_checkpoint(driver.layout, last_delivered):
        _LOG.warning("the checkpoint was repaired: %s", repair)
    topic_id = driver.source.reset_offsets_if_recreated(last_delivered) or None
    driver.source.check_start()
    return Identity(
        config=driver.identity.move_to(driver.config) if driver.identity else driver.config,
        topic_id=topic_id,
        cluster_id=driver.cluster_id or None,
        consumer_group=driver.config.consumer_group,
        spark_version=read_spark_version(),
    )


def plan_limit(driver: Driver, last_delivered: LastDelivered | None) -> tuple[int, BatchLimit]:
    """Removes the plan of a batch that is not in the output, so that it does not fail again for its size. Returns the number
    of the batch that is due, and the limit of the next batches."""
    configured = driver.config.source.max_offsets_per_trigger
    due = remove_undelivered_plan(driver.layout, driver.config.source.topic, last_delivered)
    before = BatchLimitFile(driver.layout).read()
    limit = before.start(due.batch, due.offsets, configured)
    driver.state.update(batch_limit=limit.offsets)
    if due.offsets is not None:
        _LOG.info(
            "the rows of batch %d are not in the output, so Spark makes a new plan for it",
            due.batch,
            extra={"fields": {"plannedOffsets": due.offsets}},
        )
    if limit.offsets is not None:
        _LOG.warning(describe_limit(limit.offsets), extra={"fields": {"reason": Reason.BATCH_LIMIT_REDUCED}})
    return due.batch, limit


def build_query(driver: Driver, sink: Sink, limit: BatchLimit) -> Query:
    return Query(
        config=driver.config,
        layout=driver.layout,
        gate=driver.gate,
        state=driver.state,
        sink=sink,
        guards=build_guards(driver, sink),
        limit=limit,
    )


def build_guards(driver: Driver, sink: Sink) -> Guards:
    attempt, durability = AttemptGuard(driver.layout, driver.attempt), DurabilityGuard(driver.layout)
    topics = build_sink_topic_guard(driver, sink)
    return Guards(
        before=(attempt.check, durability.sync_batch, driver.source.check_before, topics.check),
        after=(driver.source.check_after, topics.check, attempt.check),
    )


def build_sink_topic_guard(driver: Driver, sink: Sink) -> SinkTopicGuard:
    config = driver.config

    def fetch_id(topic: str) -> str | None:
        found = retry_while_unavailable(lambda: driver.brokers.fetch_topic(topic))
        return None if found is None else found.id

    topics = {config.sink.kafka.topic: Reason.SINK_TOPIC_MISSING} if config.sink.kafka else {}
    if config.dead_letter_topic:
        topics[config.dead_letter_topic] = Reason.DEAD_LETTER_TOPIC_MISSING
    return SinkTopicGuard(
        fetch_id=fetch_id,
        wait=time.sleep,
        topics=topics,
        progress_topic=config.progress_topic,
        writes_marker=lambda: sink.writes_marker,
    )


def write_identity(driver: Driver, identity: Identity) -> None:
    if identity != driver.identity:
        IdentityFile(driver.layout).write(identity)
        driver.state.update(checkpoint_has_state=True)


def start_query(driver: Driver, query: Query, spark: SparkSession) -> None:
    query.start(spark)
    driver.state.update(phase=Phase.RUNNING, running_since=time.time())
    _LOG.info("query started")


def start_monitors(driver: Driver) -> LagProbe:
    """Starts the threads that measure the lag and the size of the checkpoint until the driver stops."""
    config, stop = driver.config, driver.gate.stop_requested
    lag = LagProbe(
        brokers=driver.brokers,
        oldest=OldestUnreadReader(ClientSettings(config.source.bootstrap_servers), config.consumer_group),
        config=config,
        state=driver.state,
        metrics=driver.metrics,
        stop=stop,
    )
    lag.start()
    CheckpointSizeMonitor(driver.layout.folder, driver.metrics, stop).start()
    return lag


def build_supervisor(driver: Driver, query: Query, jvm: Jvm, reporter: Reporter) -> Supervisor:
    ends_itself = driver.config.available_now

    def note_stop() -> None:
        try:
            running = CommitLog(driver.layout).read_due()
            BatchLimitFile(driver.layout).update(lambda limit: limit.note_batch(running))
        except (JobError, OSError) as error:  # the batch that runs may still end well
            _LOG.warning("the driver cannot note that it stops during a batch: %s", error)

    return Supervisor(
        query=query,
        jvm=jvm,
        gate=driver.gate,
        commits=CommitLog(driver.layout),
        reporter=reporter,
        state=driver.state,
        find_failure=driver.find_failure,
        note_stop=note_stop,
        expiry_interval=None if ends_itself else build_expiry_interval(driver.config),
        ends_itself=ends_itself,
    )
