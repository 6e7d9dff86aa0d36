"""The lock with a real driver: it is free only when both processes that write to the checkpoint are gone."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from dedup_api.driver_status import Phase
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from kafka.broker import Broker, use_topics
from kafka.driver import Driver, build_config

IMPATIENT = """
import functools, sys
from dedup_job import main
main.take_lock = functools.partial(main.take_lock, seconds=2.0)
sys.exit(main.main(sys.argv[1:]))
"""
"""The driver, but for how long it waits for the lock: the shipped program has no switch for that."""


class ImpatientDriver(Driver):
    program = ("-c", IMPATIENT)


def is_free(checkpoint: Path) -> bool:
    with (checkpoint / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_the_lock_is_held_until_both_processes_are_gone(
    broker: Broker, start_driver: Callable[[JobConfig | str], Driver], tmp_path: Path
) -> None:
    with use_topics(broker, 1) as (source,):
        config = build_config(broker.bootstrap, source, None)
        with start_driver(config) as driver:
            driver.wait_until(lambda status: status.phase is Phase.RUNNING)
            jvm = driver.find_jvm()
            os.kill(jvm, signal.SIGSTOP)
            driver.kill()
        try:
            assert not is_free(driver.checkpoint), "a frozen JVM may still write"
            with ImpatientDriver(tmp_path, config, driver.jars) as newcomer:
                assert newcomer.wait_for_end() == ExitCode.CHECKPOINT_LOCKED
                message = newcomer.read_termination_message()
            assert message.reason is Reason.CHECKPOINT_LOCKED
            assert f"process {driver.pid}" in message.message
        finally:
            os.kill(jvm, signal.SIGCONT)
        wait_until(lambda: is_free(driver.checkpoint), "the JVM ends when its Python process has, and frees the lock")
        wait_until(lambda: not Path(f"/proc/{jvm}").exists(), "the JVM has ended")

        with start_driver(config) as driver:
            driver.wait_until(lambda status: status.attempt == 2, seconds=60)
            assert not is_free(driver.checkpoint)
            assert driver.stop() == ExitCode.DONE
        assert is_free(driver.checkpoint)
