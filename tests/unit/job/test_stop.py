"""Stopping between batches: what may pass, and when nothing is lost by a cancel."""

import pytest

from dedup_job.errors import StopRequested
from dedup_job.stream.stop import Gate


def committed(*batches: int):  # type: ignore[no-untyped-def]
    return lambda batch: batch in batches


def test_batches_pass_until_the_stop() -> None:
    gate = Gate()
    with gate.pass_batch(0):
        pass
    gate.close()
    with pytest.raises(StopRequested), gate.pass_batch(1):
        raise AssertionError("the batch must not run")


def test_a_new_driver_is_idle() -> None:
    assert Gate().is_idle(committed())


def test_a_batch_in_its_action_is_not_idle() -> None:
    gate = Gate()
    with gate.pass_batch(0):
        gate.close()
        assert not gate.is_idle(committed(0))


def test_a_batch_between_action_and_commit_is_not_idle() -> None:
    gate = Gate()
    with gate.pass_batch(4):
        pass
    assert not gate.is_idle(committed(3))
    assert gate.is_idle(committed(3, 4))


def test_a_failed_batch_is_not_waited_for() -> None:
    gate = Gate()
    with pytest.raises(OSError, match="sink"), gate.pass_batch(0):
        raise OSError("sink")
    assert gate.is_idle(committed())
