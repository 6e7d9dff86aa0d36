"""The driver's steps, in their order. Each is small; what can go wrong in one is a JobError with its exit code."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pydantic import ValidationError

from dedup_api import names
from dedup_api.driver_status import Blocked, Phase
from dedup_api.durations import parse_duration
from dedup_api.exits import STOPPED_EARLY, ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.records import EventTimeFrom
from dedup_api.version import VERSION
from dedup_job.checkpoint.attempt_file import AttemptFile
from dedup_job.checkpoint.guards import AttemptGuard, DurabilityGuard
from dedup_job.checkpoint.identity_file import Identity, IdentityFile, read_spark_version
from dedup_job.checkpoint.last_delivered import LastDelivered
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.lock import CheckpointLock, take_lock
from dedup_job.checkpoint.recovery import recover_checkpoint
from dedup_job.checkpoint.spark_logs import CommitLog
from dedup_job.errors import JobError
from dedup_job.exits import Cause, decide_failure, write_termination_message
from dedup_job.jvm.memory import MemoryPlan, build_memory_plan
from dedup_job.jvm.process import Jvm, connect_gateway, start_jvm
from dedup_job.kafka.broker_client import BrokerClient
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.consumer_group import GroupMirror, GroupOffsets
from dedup_job.kafka.lag import LagProbe
from dedup_job.kafka.oldest_unread import OldestUnreadReader
from dedup_job.kafka.retries import retry_while_unavailable
from dedup_job.kafka.sink_topic_guard import SinkTopicGuard
from dedup_job.kafka.source_topic_guard import SourceTopicGuard
from dedup_job.kafka.startup_check import find_broker_problem, wait_for_kafka
from dedup_job.logs import start_logging
from dedup_job.report.checkpoint_size import CheckpointSizeMonitor
from dedup_job.report.metrics import Metrics
from dedup_job.report.server import Pages, start_server
from dedup_job.report.status import State, build_status, build_stuck_bound
from dedup_job.stream.expiry import build_expiry_interval
from dedup_job.stream.fields import build_paths, validate_paths
from dedup_job.stream.guards import Guards
from dedup_job.stream.session import build_spark_conf, start_session
from dedup_job.stream.stop import BatchGate

if TYPE_CHECKING:
    from dedup_job.sink.sink import Sink

SPARK_VERSION = read_spark_version()

LAST_BREATH = 1.0
"""Seconds from a connection that breaks to the end of the process that held it."""

_LOG = logging.getLogger("dedup_job")


@dataclass(frozen=True)
class Arguments:
    config: Path
    checkpoint: Path
    port: int
    termination_log: Path


@dataclass(frozen=True)
class Driver:
    """The parts that live as long as the process."""

    config: JobConfig
    checkpoint: CheckpointLayout
    lock: CheckpointLock
    attempt: int
    gate: BatchGate
    state: State
    metrics: Metrics
    brokers: BrokerClient
    source: SourceTopicGuard
    identity: Identity | None
    """None before the first batch was planned."""

    def explain(self, causes: list[Cause]) -> JobError:
        """Looks at the brokers once: whether they and the topics are there says more than the exception of whoever missed them."""
        return decide_failure(causes, find_broker_problem(self.brokers, self.config, self.source.topic_id))


def read_arguments(words: list[str] | None = None) -> Arguments:
    parser = argparse.ArgumentParser(prog="dedup_job", description="The driver of one DedupJob.")
    parser.add_argument("--config", type=Path, default=Path(names.CONFIG_FILE), help="job.json as the operator writes it")
    parser.add_argument("--checkpoint", type=Path, default=Path(names.CHECKPOINT_DIR), help="folder of the checkpoint volume")
    parser.add_argument("--port", type=int, default=names.HTTP_PORT, help="port of /metrics, /healthz, /readyz and /status; 0 takes any")
    parser.add_argument("--termination-log", type=Path, default=Path(names.TERMINATION_LOG), help="where the last message goes")
    found = parser.parse_args(words)
    return Arguments(found.config, found.checkpoint, found.port, found.termination_log)


def main(words: list[str] | None = None) -> int:
    start_logging()
    arguments = read_arguments(words)
    gate = BatchGate()
    take_signals(gate)
    try:
        early = run(arguments, gate)
    except JobError as error:
        return end_with(error, arguments.termination_log)
    except Exception as error:  # noqa: BLE001  the one place where a bug becomes an exit code
        _LOG.exception("unexpected error")
        return end_with(JobError(ExitCode.INTERNAL, f"{type(error).__name__}: {error}"), arguments.termination_log)
    return STOPPED_EARLY if early else ExitCode.DONE


def run(arguments: Arguments, gate: BatchGate) -> bool:
    """Whether the driver was stopped before it was through; one that never is, is stopped at the right time."""
    config = read_config(arguments.config)
    validate_config(config)
    state, metrics = State(), Metrics()
    state.update(starting_since=time.time())
    port = start_server(arguments.port, Pages(state, metrics, build_stuck_bound(config.trigger_interval)))
    checkpoint = CheckpointLayout(arguments.checkpoint, config.generation)
    lock = take_lock(arguments.checkpoint, WaitForLock(state, gate))
    if lock is None:
        return end_as_asked(config)
    attempt = AttemptFile(checkpoint).increment()
    identity = IdentityFile(checkpoint).check(config, SPARK_VERSION)
    begun = identity is not None
    state.update(phase=Phase.STARTING, blocked_by=None, attempt=attempt, generation=config.generation, checkpoint_has_state=begun)
    _LOG.info("driver started", extra={"fields": {"attempt": attempt, "generation": config.generation, "port": port}})
    brokers = BrokerClient(ClientSettings(config.source.bootstrap_servers))
    if not wait_for_kafka(brokers, config, state, gate.stop_requested.wait):
        return end_as_asked(config)
    topic_id = (identity and identity.topic_id) or ""
    source = SourceTopicGuard(brokers=brokers, config=config, layout=checkpoint, topic_id=topic_id, state=state, metrics=metrics)
    if not run_jvm(Driver(config, checkpoint, lock, attempt, gate, state, metrics, brokers, source, identity)):
        return end_as_asked(config)
    _LOG.info("all was read that was there at the start")
    meaning = EXPLANATIONS[Reason.COMPLETED].meaning
    write_termination_message(arguments.termination_log, Reason.COMPLETED, meaning, build_status(state.read()))
    return False


def end_as_asked(config: JobConfig) -> bool:
    _LOG.info("stopped as asked")
    return config.available_now


@dataclass(frozen=True)
class WaitForLock:
    """Waits like an event, and says on `/status` what for: another driver is alive, which people must see at once."""

    state: State
    gate: BatchGate

    def __call__(self, seconds: float) -> bool:
        blocked = Blocked(reason=Reason.CHECKPOINT_LOCKED, message="another driver process holds the checkpoint")
        self.state.update(phase=Phase.WAITING, blocked_by=blocked)
        return self.gate.stop_requested.wait(seconds)


def run_jvm(driver: Driver) -> bool:
    """Whether the query was through."""
    memory = build_memory_plan(driver.config.memory_bytes)
    jvm, info = start_jvm(memory, driver.config.cpus, lock_fd=driver.lock.fd)
    try:
        connect_gateway(jvm, info)
        return run_query(driver, memory, jvm)
    except JobError:
        raise
    except Exception as error:
        jvm.check(LAST_BREATH)  # its death explains whatever Python saw of it
        raise explain_exception(driver, error) from error
    finally:
        driver.state.update(phase=Phase.STOPPING)
        jvm.end()


def run_query(driver: Driver, memory: MemoryPlan, jvm: Jvm) -> bool:
    # PySpark takes half a second to import: it is not needed to wait for a broker, and not before the JVM is on its way.
    from dedup_job.sink.opening import build_opening
    from dedup_job.sink.sink import SinkContext
    from dedup_job.stream.event_time import validate_format
    from dedup_job.stream.query import Query
    from dedup_job.supervise import Reporter, Supervisor

    config, state = driver.config, driver.state
    spark = start_session(build_spark_conf(config, memory))
    take_signals(driver.gate)  # PySpark has put its own handler on Ctrl-C
    driver.metrics.build.labels(version=VERSION, spark_version=spark.version).set(1)
    if config.event_time.taken_from is EventTimeFrom.FIELD:
        validate_format(spark, config.event_time.format)
    opening = build_opening(
        SinkContext(
            spark=spark,
            config=config,
            layout=driver.checkpoint,
            attempt=driver.attempt,
            has_state=driver.identity is not None,
            brokers=driver.brokers,
            metrics=driver.metrics,
        )
    )
    identity = recover(driver, opening.open())
    sink = opening.build()
    query = Query(config, driver.checkpoint, driver.gate, state, sink, build_guards(driver, sink))
    client_settings = ClientSettings(config.source.bootstrap_servers)
    mirror = GroupMirror(GroupOffsets(client_settings), config)
    reporter = Reporter(config, driver.checkpoint, state, driver.metrics, mirror)
    reporter.report_start(query)
    if driver.gate.stop_requested.is_set():
        return False  # nothing is stored yet: whoever stops the driver now may still correct its settings
    if identity != driver.identity:
        IdentityFile(driver.checkpoint).write(identity)
        state.update(checkpoint_has_state=True)
    mirror.start()
    query.start(spark)
    state.update(phase=Phase.RUNNING, running_since=time.time())
    _LOG.info("query started")
    oldest = OldestUnreadReader(client_settings, config.consumer_group)
    lag = LagProbe(
        brokers=driver.brokers,
        oldest=oldest,
        config=config,
        state=state,
        metrics=driver.metrics,
        stop=driver.gate.stop_requested,
    )
    lag.start()
    CheckpointSizeMonitor(driver.checkpoint.folder, driver.metrics, driver.gate.stop_requested).start()
    try:
        ends = config.available_now
        ticks = None if ends else build_expiry_interval(config)
        supervisor = Supervisor(query, jvm, driver.gate, CommitLog(driver.checkpoint), reporter, state, driver.explain, ticks, ends)
        through = supervisor.run_until_stopped()
        if through:
            lag.probe()  # what came meanwhile is left to the next run, and nobody can ask later
        return through
    finally:
        mirror.close()


def recover(driver: Driver, last_delivered: LastDelivered | None) -> Identity:
    """Repairs what can be derived, and follows the source topic where it was made again. What the checkpoint is to say it belongs to."""
    driver.source.commit_delivered_batch(last_delivered)
    for repair in recover_checkpoint(driver.checkpoint, last_delivered):
        _LOG.warning("the checkpoint was repaired: %s", repair)
    topic_id = driver.source.reset_offsets_if_recreated(last_delivered) or None
    driver.source.check_start()
    config = driver.identity.config if driver.identity else driver.config
    return Identity(config=config, topic_id=topic_id, spark_version=SPARK_VERSION)


def build_guards(driver: Driver, sink: Sink) -> Guards:
    attempt, durability = AttemptGuard(driver.checkpoint, driver.attempt), DurabilityGuard(driver.checkpoint)
    topics = build_sink_guard(driver, sink)
    return Guards(
        before=(attempt.check, durability.sync_batch, driver.source.check_before, topics.check),
        after=(driver.source.check_after, topics.check, attempt.check),
    )


def build_sink_guard(driver: Driver, sink: Sink) -> SinkTopicGuard:
    kafka = driver.config.sink.kafka

    def fetch_id(topic: str) -> str | None:
        found = retry_while_unavailable(lambda: driver.brokers.fetch_topic(topic))
        return None if found is None else found.id

    topics = {kafka.topic: Reason.SINK_TOPIC_MISSING} if kafka else {}
    if driver.config.dead_letter_topic:
        topics[driver.config.dead_letter_topic] = Reason.DEAD_LETTER_TOPIC_MISSING
    return SinkTopicGuard(
        fetch_id=fetch_id,
        wait=time.sleep,
        topics=topics,
        progress_topic=driver.config.progress_topic,
        writes_marker=lambda: sink.writes_marker,
    )


def explain_exception(driver: Driver, error: Exception) -> JobError:
    from dedup_job.stream.query import read_exception_causes

    found = driver.explain(read_exception_causes(error))
    if found.code is ExitCode.INTERNAL:  # everything else has a remedy, which a stack trace only hides
        _LOG.error("the query could not be started", exc_info=error)
    return found


def read_config(path: Path) -> JobConfig:
    try:
        return JobConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise JobError(ExitCode.CONFIGURATION, f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise JobError(ExitCode.CONFIGURATION, f"{path.name}: {field}: {first['msg']}") from error


def validate_config(config: JobConfig) -> None:
    """What the models cannot say; the operator has mostly refused it before."""
    durations = {
        "spec.watermark": config.watermark,
        "spec.trigger.processingTime": config.processing_time,
        "spec.eventTime.maxFutureSkew": config.event_time.max_future_skew,
    }
    for field, text in durations.items():
        try:
            parse_duration(text)
        except ValueError as error:
            raise JobError(ExitCode.CONFIGURATION, f"{field}: {error}") from error
    if config.wants_dead_letters and config.dead_letter_topic is None:
        raise JobError(ExitCode.CONFIGURATION, "spec.deadLetter.topic is missing, and spec.onLate or spec.onInvalid is DeadLetter")
    if config.dead_letter_topic in {config.source.topic, config.progress_topic, config.sink.kafka and config.sink.kafka.topic} - {None}:
        raise JobError(ExitCode.CONFIGURATION, "spec.deadLetter.topic is the job's source, output or progress topic: choose another")
    if (problem := config.sink.find_union_problem()) is not None:
        raise JobError(ExitCode.CONFIGURATION, problem)
    validate_paths(build_paths(config))


def take_signals(gate: BatchGate) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        gate.request_stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def end_with(error: JobError, termination_log: Path) -> int:
    _LOG.error(error.message, extra={"fields": {"exitCode": int(error.code), "reason": error.reason}})
    write_termination_message(termination_log, error.reason, error.message)
    return error.code


if __name__ == "__main__":
    sys.exit(main())
