"""When the loop of the main thread ends, and how: a stop that was asked for must not hide the failure of the last batch."""

from types import SimpleNamespace
from typing import Any

import pytest

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError, StopRequested
from dedup_job.exits import Cause
from dedup_job.report.status import State
from dedup_job.stream.query import Query
from dedup_job.stream.stop import BatchGate
from dedup_job.supervise import Supervisor

FENCED = JobError(ExitCode.FENCED, "newer")
EXPLAINED = JobError(ExitCode.UNAVAILABLE, "explained")


class FakeQuery(Query):
    """The real one, apart from Spark."""

    def __init__(self, active: list[bool], error: BaseException | None = None) -> None:
        """`active`: answers of `is_active`, the last one for ever."""
        self._active = active
        self.runner: Any = SimpleNamespace(take_committed=lambda is_committed: [], error=error)

    def is_active(self) -> bool:
        return self._active.pop(0) if len(self._active) > 1 else self._active[0]

    def has_failed(self) -> bool:
        return self.runner.error is not None

    def stop(self) -> None:
        """Nothing runs."""

    def read_causes(self) -> list[Cause]:
        return []


def build_supervisor(query: FakeQuery, gate: BatchGate, *, ends: bool) -> Supervisor:
    checkpoint: Any = SimpleNamespace(is_committed=lambda batch: True)
    jvm: Any = SimpleNamespace(check=lambda: None)
    reporter: Any = None
    return Supervisor(query, jvm, gate, checkpoint, reporter, State(), lambda causes: EXPLAINED, None, ends)


@pytest.mark.parametrize(
    ("stopping", "query", "error"),
    [
        (True, FakeQuery([True]), None),
        (True, FakeQuery([False], StopRequested("batch 3")), None),
        (True, FakeQuery([True, True, False], FENCED), FENCED),
        (True, FakeQuery([True], FENCED), FENCED),  # the batch has failed, and Spark's thread has not ended yet
        (True, FakeQuery([False]), EXPLAINED),  # outside of a batch: Spark could not write its log
        (False, FakeQuery([True, False], ValueError("x")), EXPLAINED),
        (False, FakeQuery([True, False], FENCED), FENCED),
    ],
)
def test_how_the_loop_ends(stopping: bool, query: FakeQuery, error: JobError | None) -> None:
    gate = BatchGate()
    if stopping:
        gate.request_stop()
    supervisor = build_supervisor(query, gate, ends=False)
    if error is None:
        supervisor.run_until_stopped()
        return
    with pytest.raises(JobError) as raised:
        supervisor.run_until_stopped()
    assert raised.value is error


@pytest.mark.parametrize(
    ("stopping", "query", "through"),
    [
        (False, FakeQuery([True, False]), True),
        (True, FakeQuery([False]), True),  # it was through in the moment of the stop
        (True, FakeQuery([False], StopRequested("batch 3")), False),
        (True, FakeQuery([True]), False),
    ],
)
def test_a_query_that_ends_by_itself_is_through_unless_it_was_stopped(stopping: bool, query: FakeQuery, through: bool) -> None:
    gate = BatchGate()
    if stopping:
        gate.request_stop()
    assert build_supervisor(query, gate, ends=True).run_until_stopped() is through


def test_a_query_that_fails_is_not_through() -> None:
    with pytest.raises(JobError) as raised:
        build_supervisor(FakeQuery([False], FENCED), BatchGate(), ends=True).run_until_stopped()
    assert raised.value is FENCED
