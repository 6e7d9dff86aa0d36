"""Steps that run at the same time: the first failure ends the others, and only that failure is reported."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from testbed import console, shell
from testbed.shell import StoppedError, TestbedError, run
from testbed.together import Together

SOON = 10.0  # seconds; far less than the programs below would run


def test_results_come_back() -> None:
    with Together() as together:
        one, two = together.start(lambda: 1), together.start(lambda number: number + 1, 1)
        assert (one.result(), two.result()) == (1, 2)


def test_the_first_failure_ends_the_other_programs_and_is_raised() -> None:
    started = time.monotonic()
    running = threading.Event()

    def long() -> None:
        running.set()
        run(["sleep", "60"], attempts=3)

    def fail() -> None:
        running.wait()
        time.sleep(0.2)
        raise TestbedError("the reason")

    with pytest.raises(TestbedError, match="the reason"), Together() as together:
        together.start(fail)
        together.start(long).result()
    assert time.monotonic() - started < SOON
    assert run(["echo", "again"]) == "again\n"


def test_a_failure_of_the_caller_ends_the_programs_too() -> None:
    started = time.monotonic()
    with pytest.raises(TestbedError, match="here"), Together() as together:
        together.start(run, ["sleep", "60"])
        raise TestbedError("here")
    assert time.monotonic() - started < SOON


def test_an_interrupt_ends_the_programs() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Together() as together:
        together.start(run, ["sleep", "60"])
        raise KeyboardInterrupt
    assert time.monotonic() - started < SOON


def test_a_program_that_must_finish_is_not_ended(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    with pytest.raises(TestbedError, match="here"), Together() as together:
        together.start(run, ["sh", "-c", f"sleep 1; touch {installed}"], finish=True)
        raise TestbedError("here")
    assert installed.exists()


def test_nothing_is_started_after_a_failure() -> None:
    shell.stop_running()
    try:
        with pytest.raises(StoppedError, match="another step has failed"):
            run(["true"])
    finally:
        shell.allow_running()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_line_of_running_steps_fits_the_terminal(columns: int) -> None:
    steps = [("building Kubernetes, etcd and CoreDNS (go1.26.8)", 130.2), ("building image localhost/dedup-job:0123456789ab", 5.0)]
    line = console.describe_running(steps, columns)
    assert len(line) < columns
    assert "buildin" in line


def test_the_line_of_running_steps_has_titles_and_seconds() -> None:
    assert console.describe_running([("a step", 3.4), ("another", 130.0)], 80) == "  a step 3 s · another 2 min 10 s"
    assert console.describe_running([], 80) == ""
