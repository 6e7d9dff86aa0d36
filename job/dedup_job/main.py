"""Runs a driver from its start to its exit code.

`run` lists the steps. A step that fails for a known reason raises a JobError, which carries the exit code. The module
must not import PySpark before the JVM starts: the import takes half a second, and a driver that waits does not need it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from dedup_api import names
from dedup_api.driver_status import Blocked, Phase
from dedup_api.exits import STOPPED_EARLY, ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_job.checkpoint.attempt_file import AttemptFile, was_never_used
from dedup_job.checkpoint.batch_limit import BatchLimitFile
from dedup_job.checkpoint.identity_file import Identity, IdentityFile, read_spark_version
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.lock import take_lock
from dedup_job.driver import Driver
from dedup_job.driver_config import read_config, validate_config
from dedup_job.errors import JobError
from dedup_job.exits import LastWords, write_termination_message
from dedup_job.jvm.memory import build_memory_plan
from dedup_job.jvm.process import connect_gateway, start_jvm
from dedup_job.kafka.broker_client import BrokerClient
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.source_topic_guard import SourceTopicGuard
from dedup_job.kafka.startup_check import wait_for_kafka
from dedup_job.kafka.tls_probe import find_tls_listener
from dedup_job.kafka_messages import TLS_AS_SIZE
from dedup_job.logs import start_logging
from dedup_job.report.metrics import Metrics
from dedup_job.report.server import Pages, start_server
from dedup_job.report.status import State, build_status, build_stuck_bound
from dedup_job.stream.stop import BatchGate, stop_on_signals

JVM_END_WAIT = 1.0
"""Seconds. When the JVM dies, Python sees the broken connection up to this long before the end of the process."""

_LOG = logging.getLogger("dedup_job")


@dataclass(frozen=True)
class Arguments:
    config: Path
    checkpoint: Path
    port: int
    termination_log: Path


def read_arguments(argv: list[str] | None = None) -> Arguments:
    parser = argparse.ArgumentParser(prog="dedup_job", description="The driver of one DedupJob.")
    parser.add_argument("--config", type=Path, default=Path(names.CONFIG_FILE), help="the file job.json that the operator writes")
    parser.add_argument("--checkpoint", type=Path, default=Path(names.CHECKPOINT_DIR), help="the folder of the checkpoint volume")
    parser.add_argument("--port", type=int, default=names.HTTP_PORT, help="the port of the HTTP server; 0 takes any free port")
    parser.add_argument("--termination-log", type=Path, default=Path(names.TERMINATION_LOG), help="the file for the termination message")
    return Arguments(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    start_logging()
    arguments = read_arguments(argv)
    gate, state = BatchGate(), State()
    stop_on_signals(gate)
    try:
        return run(arguments, gate, state)
    except JobError as error:
        return report_failure(error, arguments, state)
    except Exception as error:  # noqa: BLE001  a bug must end with an exit code and a termination message, too
        _LOG.exception("the driver has failed with an unexpected error")
        return report_failure(JobError(ExitCode.INTERNAL, f"{type(error).__name__}: {error}"), arguments, state)


def run(arguments: Arguments, gate: BatchGate, state: State) -> int:
    """Returns the exit code of a driver that was stopped or has read everything; JobError when it fails."""
    config = read_config(arguments.config)
    validate_config(config)
    metrics = Metrics()
    state.update(starting_since=time.time())
    port = start_server(arguments.port, Pages(state, metrics, build_stuck_bound(config.trigger_interval)))
    layout = CheckpointLayout(arguments.checkpoint, config.generation)
    lock = take_lock(arguments.checkpoint, WaitForLock(state, gate))
    if lock is None:
        return report_stop(config, arguments.termination_log, state)
    attempt = AttemptFile(layout).increment()
    identity = IdentityFile(layout).check(config, read_spark_version())
    report_start(state, config, attempt, identity, port)
    brokers = BrokerClient(ClientSettings(config.source.bootstrap_servers))
    cluster_id = wait_for_kafka(brokers, config, state, gate.stop_requested.wait, identity)
    if cluster_id is None:
        return report_stop(config, arguments.termination_log, state)
    topic_id = (identity and identity.topic_id) or ""
    source = SourceTopicGuard(brokers=brokers, config=config, layout=layout, topic_id=topic_id, state=state, metrics=metrics)
    driver = Driver(
        config=config,
        layout=layout,
        lock=lock,
        attempt=attempt,
        gate=gate,
        state=state,
        metrics=metrics,
        brokers=brokers,
        source=source,
        identity=identity,
        cluster_id=cluster_id,
    )
    if run_and_note_end(driver):
        return report_completion(state, arguments.termination_log)
    return report_stop(config, arguments.termination_log, state)


def explain_memory(error: JobError, bootstrap_servers: str) -> JobError:
    """The error itself, or SourceUnavailable when a client has taken a TLS answer for the size of a message."""
    address = find_tls_listener(bootstrap_servers) if error.reason is Reason.OUT_OF_MEMORY else None
    return error if address is None else JobError(ExitCode.UNAVAILABLE, f"{address} is a TLS listener: {TLS_AS_SIZE}")


@dataclass(frozen=True)
class WaitForLock:
    """Pauses between two attempts to take the checkpoint's lock, and shows on `/status` what the driver waits for."""

    state: State
    gate: BatchGate

    def __call__(self, seconds: float) -> bool:
        """Whether a stop was requested."""
        blocked = Blocked(reason=Reason.CHECKPOINT_LOCKED, message="another driver process still uses the checkpoint")
        self.state.update(phase=Phase.WAITING, blocked_by=blocked)
        return self.gate.stop_requested.wait(seconds)


def run_and_note_end(driver: Driver) -> bool:
    """Runs `run_jvm`, and notes on the volume whether the query may have failed for the size of a batch."""
    try:
        completed = run_jvm(driver)
    except JobError as error:
        explained = explain_memory(error, driver.config.source.bootstrap_servers)
        note_end(driver, explained.reason)
        raise explained from error
    note_end(driver, None)
    return completed


def note_end(driver: Driver, reason: Reason | None) -> None:
    """A driver that a newer one has replaced writes nothing."""
    try:
        if AttemptFile(driver.layout).read() == driver.attempt:
            BatchLimitFile(driver.layout).update(lambda limit: limit.end(reason))
    except JobError as error:  # the driver ends with the first error, which says more
        _LOG.warning("the driver cannot note how it ended: %s", error.message)


def run_jvm(driver: Driver) -> bool:
    """Runs the query in a JVM, and ends the JVM. Returns whether the query has read everything that it was to read."""
    memory = build_memory_plan(driver.config.memory_bytes)
    jvm, connection_file = start_jvm(memory, driver.config.cpus, lock_fd=driver.lock.fd)
    try:
        connect_gateway(jvm, connection_file)
        from dedup_job.query_run import run_query  # imports PySpark

        return run_query(driver, memory, jvm)
    except JobError:
        raise
    except Exception as error:
        jvm.check(JVM_END_WAIT)  # when the JVM has died, that is the cause of every other exception
        raise find_start_failure(driver, error) from error
    finally:
        driver.state.update(phase=Phase.STOPPING)
        jvm.end()


def find_start_failure(driver: Driver, error: Exception) -> JobError:
    from dedup_job.stream.query import read_exception_causes

    failure = driver.find_failure(read_exception_causes(error))
    if failure.code is ExitCode.INTERNAL:  # the other codes have a remedy, which a stack trace would only hide
        _LOG.error("the query could not be started", exc_info=error)
    return failure


def report_start(state: State, config: JobConfig, attempt: int, identity: Identity | None, port: int) -> None:
    state.update(
        phase=Phase.STARTING,
        blocked_by=None,
        attempt=attempt,
        generation=config.generation,
        checkpoint_has_state=identity is not None,
    )
    _LOG.info("driver started", extra={"fields": {"attempt": attempt, "generation": config.generation, "port": port}})


def report_stop(config: JobConfig, termination_log: Path, state: State) -> int:
    """The exit code of a driver that was stopped. With `availableNow` it has not read everything that it was to read."""
    message = "stopped as requested"
    _LOG.info(message)
    write_termination_message(termination_log, Reason.DRIVER_FAILED, message, build_last_words(state))
    return STOPPED_EARLY if config.available_now else ExitCode.DONE


def build_last_words(state: State) -> LastWords:
    """Whether keys may be stored. The operator needs it to know that none were stored between the driver's last answer and
    its end."""
    found = state.read()
    if found.attempt is None:
        return LastWords()  # the driver has not looked at the checkpoint
    return LastWords(checkpoint_has_state=found.checkpoint_has_state, attempt=found.attempt)


def report_completion(state: State, termination_log: Path) -> int:
    _LOG.info("the driver has read everything that the topic held at the start")
    meaning = EXPLANATIONS[Reason.COMPLETED].meaning
    write_termination_message(termination_log, Reason.COMPLETED, meaning, LastWords(status=build_status(state.read())))
    return ExitCode.DONE


def report_failure(error: JobError, arguments: Arguments, state: State) -> int:
    _LOG.error(error.message, extra={"fields": {"exitCode": int(error.code), "reason": error.reason}})
    said = build_last_words(state)
    # Without the lock, another driver may be about to store keys. Who cannot even open it has no such rival.
    if said.attempt is None and error.code is ExitCode.CHECKPOINT_NOT_WRITABLE and was_never_used(arguments.checkpoint):
        said = LastWords(checkpoint_has_state=False, attempt=0)
    write_termination_message(arguments.termination_log, error.reason, error.message, said)
    return error.code


if __name__ == "__main__":
    sys.exit(main())
