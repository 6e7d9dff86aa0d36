"""Which batches the gate admits, and when the query can be cancelled without losing work."""

import pytest

from dedup_job.errors import StopRequested
from dedup_job.stream.stop import BatchGate


def committed(*batches: int):  # type: ignore[no-untyped-def]
    return lambda batch: batch in batches


def test_batches_are_admitted_until_the_stop() -> None:
    gate = BatchGate()
    with gate.admit_batch(0):
        pass
    gate.request_stop()
    with pytest.raises(StopRequested), gate.admit_batch(1):
        raise AssertionError("the gate has admitted a batch after the stop")


def test_a_new_driver_is_idle() -> None:
    assert BatchGate().is_idle(committed())


def test_a_driver_with_a_running_batch_is_not_idle() -> None:
    gate = BatchGate()
    with gate.admit_batch(0):
        gate.request_stop()
        assert not gate.is_idle(committed(0))


def test_a_driver_with_an_uncommitted_batch_is_not_idle() -> None:
    gate = BatchGate()
    with gate.admit_batch(4):
        pass
    assert not gate.is_idle(committed(3))
    assert gate.is_idle(committed(3, 4))


def test_a_driver_is_idle_after_a_failed_batch() -> None:
    gate = BatchGate()
    with pytest.raises(OSError, match="sink"), gate.admit_batch(0):
        raise OSError("sink")
    assert gate.is_idle(committed())
