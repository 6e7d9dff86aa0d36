"""The short form of `make soak`, and that its check can fail."""

from __future__ import annotations

import pytest

from dedup_api.faults import Fault
from dedup_api.spec import Delivery
from faults.schedule import Counts, Point
from faults.soak import Settings, run_soak

SEED = 20260
"""Fixed, so that a failure repeats; `make soak` draws another each time."""


@pytest.mark.timeout(1800)
def test_every_event_is_in_the_output_once_whatever_is_killed() -> None:
    """Each point once, with a driver, a JVM or both killed there."""
    counts = Counts(kills=len(Point), broker_kills=1, freezes=1, second_drivers=0)
    report = run_soak(Settings(SEED, 150_000, counts))
    print(report.describe())
    assert report.failures == [], report.describe()
    assert report.verdict.out == report.events
    assert (report.kills, report.done["broker"], report.done["freeze"], report.done["second driver"]) == (len(Point), 1, 1, 1)
    assert {point for point in Point if report.done[f"kill at {point}"]} == set(Point)
    assert report.letters.out == report.strays.total() and set(report.strays) == set(Fault)


@pytest.mark.timeout(900)
def test_the_check_sees_what_at_least_once_delivers_twice() -> None:
    """The same run without transactions, killed between the sink and Spark's commit."""
    settings = Settings(SEED, 20_000, Counts(kills=3), Delivery.AT_LEAST_ONCE, points=(Point.AFTER_COMMIT,))
    report = run_soak(settings)
    print(report.describe())
    verdict = report.verdict
    assert verdict.twice > 0, report.describe()
    assert verdict.out == report.events + verdict.twice
    assert report.letters.twice > 0, report.describe()
    assert report.letters.out == report.strays.total() + report.letters.twice
    assert report.failures == [], "nothing but that"
    assert report.kills == 3
