"""How the loop of the main thread ends. A requested stop must not hide that the last batch has failed."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.spark_logs import Commit
from dedup_job.checkpoint.totals import BatchCounts, Totals, WrittenFaults
from dedup_job.errors import JobError, StopRequested
from dedup_job.exits import Cause
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import Snapshot, State
from dedup_job.stream.batch import FinishedBatch
from dedup_job.stream.query import Query
from dedup_job.stream.stop import BatchGate
from dedup_job.supervise import Reporter, Supervisor
from unit.job.test_session import CONFIG

FENCED = JobError(ExitCode.FENCED, "newer")
FOUND = JobError(ExitCode.UNAVAILABLE, "no broker answers")


class FakeQuery(Query):
    """The real query, without Spark."""

    def __init__(self, active: list[bool], error: BaseException | None = None) -> None:
        """`active`: the results of `is_active`, one after the other. The last one repeats."""
        self._active = active
        self.maintained: list[bool] = []
        self.rounds = 0
        """For how many more rounds `is_maintaining` is true."""
        self.runner: Any = SimpleNamespace(take_committed=lambda is_committed: [], error=error)

    def is_active(self) -> bool:
        return self._active.pop(0) if len(self._active) > 1 else self._active[0]

    def has_failed(self) -> bool:
        return self.runner.error is not None

    def stop(self) -> None:
        """There is no Spark to stop."""

    def start_maintenance(self) -> None:
        self.maintained.append(self._active == [False])
        self.rounds = 2

    def is_maintaining(self) -> bool:
        self.rounds -= 1
        return self.rounds >= 0

    def read_causes(self) -> list[Cause]:
        return []


def build_supervisor(query: FakeQuery, gate: BatchGate, *, ends_itself: bool) -> Supervisor:
    commits: Any = SimpleNamespace(is_committed=lambda batch: True)
    jvm: Any = SimpleNamespace(check=lambda: None)
    reporter: Any = None
    return Supervisor(
        query=query,
        jvm=jvm,
        gate=gate,
        commits=commits,
        reporter=reporter,
        state=State(),
        find_failure=lambda causes: FOUND,
        ends_itself=ends_itself,
    )


@pytest.mark.parametrize(
    ("stopping", "query", "error"),
    [
        (True, FakeQuery([True]), None),
        (True, FakeQuery([False], StopRequested("batch 3")), None),
        (True, FakeQuery([True, True, False], FENCED), FENCED),
        (True, FakeQuery([True], FENCED), FENCED),  # the batch has failed, and Spark's thread still runs
        (True, FakeQuery([False]), FOUND),  # between two batches, for example because Spark could not write its log
        (False, FakeQuery([True, False], ValueError("x")), FOUND),
        (False, FakeQuery([True, False], FENCED), FENCED),
    ],
)
def test_a_stop_and_a_failure_end_the_loop(stopping: bool, query: FakeQuery, error: JobError | None) -> None:
    gate = BatchGate()
    if stopping:
        gate.request_stop()
    supervisor = build_supervisor(query, gate, ends_itself=False)
    if error is None:
        supervisor.run_until_end()
        return
    with pytest.raises(JobError) as raised:
        supervisor.run_until_end()
    assert raised.value is error


@pytest.mark.parametrize(
    ("stopping", "query", "has_completed"),
    [
        (False, FakeQuery([True, False]), True),
        (True, FakeQuery([False]), True),  # it had read everything when the stop was requested
        (True, FakeQuery([False], StopRequested("batch 3")), False),
        (True, FakeQuery([True]), False),
    ],
)
def test_a_query_that_ends_has_completed_unless_it_was_stopped(stopping: bool, query: FakeQuery, has_completed: bool) -> None:
    gate = BatchGate()
    if stopping:
        gate.request_stop()
    assert build_supervisor(query, gate, ends_itself=True).run_until_end() is has_completed


@pytest.mark.parametrize(("rounds", "maintained"), [(0, [False, True]), (2, [False])])
def test_the_state_is_maintained_after_the_first_commit_and_before_a_run_ends(rounds: int, maintained: list[bool]) -> None:
    """No second maintenance while the first still has `rounds` to go, and no end before it."""
    query = FakeQuery([True, True, False])

    def take_committed(is_committed: object) -> list[str]:
        query.rounds = rounds
        return ["batch"]

    query.runner.take_committed = take_committed
    query.read_phases = list  # type: ignore[method-assign]
    supervisor = build_supervisor(query, BatchGate(), ends_itself=True)
    supervisor.reporter = SimpleNamespace(report_commit=lambda batch: None, report_phases=lambda found: None)  # type: ignore[assignment]
    assert supervisor.run_until_end()
    assert query.maintained == maintained and query.rounds < 0


def test_a_stopped_driver_does_not_wait_for_maintenance() -> None:
    query, gate = FakeQuery([False]), BatchGate()
    gate.request_stop()
    assert build_supervisor(query, gate, ends_itself=True).run_until_end()
    assert query.maintained == []


@pytest.mark.parametrize("is_ready", [False, True])
def test_an_expiry_batch_is_requested_until_the_query_is_ready(is_ready: bool) -> None:
    """Before its first batch the query has no watermark that could be moved."""
    gate, requested = BatchGate(), list[int]()

    class QuietQuery(FakeQuery):
        def request_expiry_batch(self, watermark: int) -> bool:
            requested.append(watermark)
            if len(requested) == 2:
                gate.request_stop()
            return is_ready

    query, clock = QuietQuery([True]), iter(range(60_000, 600_000, 60_000))
    query.runner.clock = SimpleNamespace(read=lambda: next(clock))
    supervisor = build_supervisor(query, gate, ends_itself=False)
    supervisor.expiry_interval = timedelta(seconds=30)
    supervisor.state.update(commit=Commit(0, 1, {}), totals=Totals(state_rows=1))
    assert supervisor.run_until_end() is False
    assert requested == [59_999, 119_999]


def test_a_query_that_fails_has_not_completed() -> None:
    with pytest.raises(JobError) as raised:
        build_supervisor(FakeQuery([False], FENCED), BatchGate(), ends_itself=True).run_until_end()
    assert raised.value is FENCED


class NextBatchStarts(State):
    """The query's thread starts the next batch right after the given number of changes."""

    def __init__(self, changes: int) -> None:
        super().__init__()
        self._changes = changes

    def update(self, **changes: Any) -> Snapshot:
        return self._start_next(super().update(**changes))

    def end_batch(self, started: float, **changes: Any) -> Snapshot:
        return self._start_next(super().end_batch(started, **changes))

    def _start_next(self, after: Snapshot) -> Snapshot:
        self._changes -= 1
        if self._changes == 0:
            super().update(batch_started=102.0)
        return after


@pytest.mark.parametrize("changes", [2, 3])
def test_the_report_of_a_commit_keeps_the_start_of_the_next_batch(changes: int) -> None:
    commits: Any = SimpleNamespace(
        is_committed=lambda batch: True, read=lambda number, topic: Commit(batch=0, next_watermark_ms=0, end_offsets={0: 1})
    )
    mirror: Any = SimpleNamespace(mirror=lambda offsets: None)
    state = NextBatchStarts(changes)
    state.update(batch_started=100.0)
    counts, written = BatchCounts(rows_in=1, updated=1, duplicates=0, unique=1), WrittenFaults()
    batch = FinishedBatch(number=0, started=100.0, counts=counts, totals=Totals(), written=written, skipped=False)
    Reporter(config=CONFIG, commits=commits, state=state, metrics=Metrics(), mirror=mirror).report_commit(batch)
    assert state.read().batch_started == 102.0
