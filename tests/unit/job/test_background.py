"""The driver's threads survive unexpected errors, and log them."""

import logging
import threading

import pytest

from dedup_api.job_config import JobConfig
from dedup_job import background
from dedup_job.background import REPEAT_SECONDS, Survivor, start_lasting, start_repeating
from dedup_job.kafka import consumer_group
from dedup_job.kafka.consumer_group import GroupMirror
from unit.job.fake_brokers import build_config

WAIT = 10
"""Seconds that a test waits for a thread."""


def fail_at_one_line(text: str) -> None:
    raise RuntimeError(text)


def fail_at_another_line(text: str) -> None:
    raise RuntimeError(text)


def test_each_kind_of_error_is_logged_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    survivor = Survivor("lag", clock=lambda: now[0])
    assert survivor.attempt(lambda: None)
    for second in range(0, 60, 10):
        now[0] = second
        assert not survivor.attempt(lambda: fail_at_one_line("same kind"))
        assert not survivor.attempt(lambda: fail_at_another_line("another kind"))
    assert [record.getMessage() for record in caplog.records] == [
        "unexpected error in the thread lag, which continues: RuntimeError: same kind",
        "unexpected error in the thread lag, which continues: RuntimeError: another kind",
    ]
    assert all(record.exc_info for record in caplog.records)
    now[0] = REPEAT_SECONDS
    survivor.attempt(lambda: fail_at_one_line("an hour later"))
    assert "an hour later" in caplog.records[-1].getMessage()


def test_the_end_of_the_process_is_not_held_up() -> None:
    def end() -> None:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        Survivor("lag").attempt(end)


def test_repeated_work_goes_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    stop, calls = threading.Event(), list[int]()

    def work() -> None:
        calls.append(1)
        if len(calls) == 3:
            stop.set()
        raise ValueError("no")

    with caplog.at_level(logging.ERROR):
        start_repeating("checkpoint-size", work, 0.001, stop).join(WAIT)
    assert len(calls) == 3 and len(caplog.records) == 1


def test_lasting_work_starts_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.001)
    calls = list[int]()

    def work() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("no")

    start_lasting("http", work).join(WAIT)
    assert len(calls) == 3


def test_the_consumer_group_gets_the_position_after_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_group, "RETRY_SECONDS", 0.001)
    written = threading.Event()

    class FailsOnce:
        calls = 0

        def write_group_offsets(self, group: str, topic: str, offsets: dict[int, int]) -> None:
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("unexpected")
            written.set()

    config: JobConfig = build_config()
    mirror = GroupMirror(FailsOnce(), config)
    mirror.mirror({0: 1})
    mirror.start()
    assert written.wait(WAIT)
    mirror.close()
