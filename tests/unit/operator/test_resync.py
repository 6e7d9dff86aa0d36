"""When a DedupJob is reconciled next."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dedup_api.status import Condition, ConditionStatus, DedupJobStatus
from dedup_operator.domain.resync import STARTING_PERIOD, STARTING_SECONDS, find_resync_seconds
from dedup_operator.domain.times import render_time
from unit.operator.samples import NOW

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("status", "age", "usual", "expected"),
    [
        (ConditionStatus.UNKNOWN, SECOND, 15.0, STARTING_SECONDS),
        (ConditionStatus.UNKNOWN, STARTING_PERIOD, 15.0, 15.0),
        (ConditionStatus.TRUE, SECOND, 15.0, 15.0),
        (ConditionStatus.FALSE, SECOND, 15.0, 15.0),
        (ConditionStatus.UNKNOWN, SECOND, 1.0, 1.0),
    ],
    ids=["starting", "starting for too long", "ready", "failed", "the usual pause is shorter"],
)
def test_a_starting_driver_is_observed_more_often(status: ConditionStatus, age: timedelta, usual: float, expected: float) -> None:
    ready = Condition(
        type="Ready",
        status=status,
        reason="x",
        message="x",
        last_transition_time=render_time(NOW - age),
        observed_generation=1,
    )
    assert find_resync_seconds(DedupJobStatus(observed_generation=1, conditions=[ready]), NOW, usual) == expected
    assert find_resync_seconds(DedupJobStatus(observed_generation=1), NOW, usual) == usual
