"""The checkpoint's lock with a real driver: it becomes free only when both processes that write to the checkpoint
have ended."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from dedup_api.driver_status import Phase
from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from kafka.broker import Broker, use_topics
from kafka.driver import Driver, StartDriver, build_config

SHORT_WAIT = """
import functools, sys
from dedup_job import main
main.take_lock = functools.partial(main.take_lock, seconds=2.0)
sys.exit(main.main(sys.argv[1:]))
"""
"""The driver with a short wait for the lock. The shipped program has no option for it."""


class ShortWaitDriver(Driver):
    program = ("-c", SHORT_WAIT)


def is_free(checkpoint: Path) -> bool:
    with (checkpoint / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_until(condition: Callable[[], bool], failure: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.05)


def test_the_lock_is_held_until_both_processes_have_ended(broker: Broker, start_driver: StartDriver, tmp_path: Path) -> None:
    with use_topics(broker, 1) as (source,):
        config = build_config(broker.bootstrap, source, None)
        with start_driver(config) as driver:
            driver.wait_until(lambda status: status.phase is Phase.RUNNING)
            jvm = driver.find_jvm()
            os.kill(jvm, signal.SIGSTOP)
            driver.kill()
        try:
            assert not is_free(driver.checkpoint), "a frozen JVM may still write, so the lock must not be free"
            with ShortWaitDriver(tmp_path, config, driver.jars) as second:
                assert second.wait_for_end() == ExitCode.CHECKPOINT_LOCKED
                message = second.read_termination_message()
            assert message.reason == Reason.CHECKPOINT_LOCKED
            assert f"process {driver.pid}" in message.message
        finally:
            os.kill(jvm, signal.SIGCONT)
        wait_until(lambda: is_free(driver.checkpoint), "the JVM still holds the lock 60 s after its Python process was killed")
        wait_until(lambda: not Path(f"/proc/{jvm}").exists(), "the JVM still runs 60 s after it has released the lock")

        with start_driver(config) as driver:
            driver.wait_until(lambda status: status.attempt == 2, seconds=60)
            assert not is_free(driver.checkpoint)
            assert driver.stop() == ExitCode.DONE
        assert is_free(driver.checkpoint)
