"""The short form of `make soak`, and a run in which its checks must find repeated records."""

from __future__ import annotations

import pytest

from dedup_api.faults import Fault
from dedup_api.reasons import Reason
from dedup_api.spec import Delivery
from faults.schedule import Counts, Point
from faults.soak import Settings, run_soak

SEED = 20260
"""Fixed, so that a failure can be repeated. `make soak` uses another seed each time."""


@pytest.mark.timeout(1800)
def test_every_event_comes_out_once_although_driver_jvm_and_broker_are_killed() -> None:
    """At each point the driver, its JVM or both are killed once, three times during a run with availableNow and once a
    second time in the same batch. Open transactions of the source topic are in `make soak` only: on a slow machine the records
    behind them become late."""
    counts = Counts(kills=len(Point), broker_kills=1, freezes=1, second_drivers=0, runs=3, repeats=1)
    report = run_soak(Settings(SEED, 150_000, counts))
    print(report.describe())
    assert report.failures == [], report.describe()
    assert report.verdict.out == report.events
    assert (report.kills, report.done["broker"], report.done["freeze"], report.done["second driver"]) == (len(Point) + 1, 1, 1, 1)
    assert report.ends[f"0 {Reason.COMPLETED}"] >= 1
    assert {point for point in Point if report.done[f"kill at {point}"]} == set(Point)
    assert report.dead_letters.out == report.faulty.total() and set(report.faulty) == set(Fault)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_check_finds_the_records_that_at_least_once_repeats() -> None:
    """Drivers without transactions are killed between the write to the output and Spark's commit."""
    settings = Settings(SEED, 20_000, Counts(kills=3), Delivery.AT_LEAST_ONCE, points=(Point.AFTER_COMMIT,))
    report = run_soak(settings)
    print(report.describe())
    verdict = report.verdict
    assert verdict.repeated > 0, report.describe()
    assert verdict.out == report.events + verdict.repeated
    assert report.dead_letters.repeated > 0, report.describe()
    assert report.dead_letters.out == report.faulty.total() + report.dead_letters.repeated
    assert report.failures == [], "the run must have no mistakes except repeated records"
    assert report.kills == 3
