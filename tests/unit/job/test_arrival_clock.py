"""The clock of `eventTime.from: Arrival`: what it shows when the system clock jumps, and when drivers restart."""

from __future__ import annotations

import pytest

from dedup_job.stream.arrival_clock import ArrivalClock, PlannedBatch, decide_start

DAY = 86_400_000
NOW = 1_700_000_000_000


class Machine:
    """Its clocks, in seconds. `pause`: seconds that pass at each reading of a clock."""

    def __init__(self, pause: float = 0.0) -> None:
        self.wall, self.monotonic, self.pause = NOW / 1000, 50.0, pause

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def read_wall(self) -> float:
        self.wait(self.pause)
        return self.wall

    def read_monotonic(self) -> float:
        self.wait(self.pause)
        return self.monotonic

    def build_clock(self, start: int = 0) -> ArrivalClock:
        return ArrivalClock(start, self.read_wall, self.read_monotonic)


def test_it_shows_the_time_of_the_system() -> None:
    machine = Machine()
    clock = machine.build_clock()
    assert clock.read() == NOW
    machine.wait(5)
    assert clock.read() == NOW + 5000
    assert clock.read_at(NOW + 4000) == NOW + 4000


def test_it_runs_on_when_the_system_clock_goes_back() -> None:
    machine = Machine()
    clock = machine.build_clock()
    machine.wall += DAY / 1000
    assert clock.read() == NOW + DAY
    machine.wall -= DAY / 1000
    machine.wait(10)
    assert clock.read() == NOW + DAY + 10_000
    assert clock.read_at(NOW + 9000) == NOW + DAY + 9000, "a batch that was planned a second ago"


def test_a_jump_back_between_plan_and_batch_moves_it_neither_ahead_nor_back() -> None:
    """Moved ahead, it would let keys expire early."""
    machine = Machine()
    clock = machine.build_clock()
    assert clock.read_at(NOW + DAY) == NOW
    machine.wait(1)
    assert clock.read() == NOW + 1000


def test_pauses_between_the_readings_do_not_move_it_ahead() -> None:
    machine = Machine(pause=0.05)
    clock = machine.build_clock()
    for _ in range(100):
        assert clock.read() <= machine.wall * 1000


@pytest.mark.parametrize(
    ("committed", "planned", "start"),
    [
        (NOW - 1, PlannedBatch(NOW - 50, NOW - 40), NOW),
        (NOW - DAY, PlannedBatch(NOW - DAY, NOW - DAY), NOW),
        (NOW + DAY, PlannedBatch(NOW + DAY - 1, NOW - 5000), NOW + DAY + 4999),  # a jump that ended before the batch
        (NOW + DAY, PlannedBatch(NOW + DAY - 1, NOW + DAY), NOW + DAY),  # planned in the jump
        (NOW + DAY, PlannedBatch(NOW, NOW - 5000), NOW + DAY),
    ],
)
def test_what_it_shows_at_a_start(committed: int, planned: PlannedBatch, start: int) -> None:
    assert decide_start(NOW, committed, planned) == start


@pytest.mark.parametrize("ahead", [0, DAY])
def test_restarts_do_not_move_it_ahead(ahead: int) -> None:
    """Each driver plans a batch a second after its start and ends ten seconds later."""
    machine = Machine()
    shown = NOW + ahead
    planned = PlannedBatch(shown - 1, NOW)
    for restart in range(1, 20):
        machine.wait(9)
        clock = machine.build_clock(decide_start(int(machine.wall * 1000), planned.watermark, planned))
        machine.wait(1)
        planned = PlannedBatch(clock.read() - 1, int(machine.wall * 1000))
        elapsed = restart * 10_000
        assert shown + elapsed - restart - 1 <= planned.watermark + 1 <= shown + elapsed
