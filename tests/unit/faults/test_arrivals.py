"""What must come out of a job with `eventTime.from: Arrival`."""

from __future__ import annotations

from collections import Counter

import pytest

from faults.arrivals import EXPIRED_AFTER, WATERMARK, Expectations
from faults.schedule import Counts, list_rounds

LIFE, EXPIRED = WATERMARK.total_seconds(), EXPIRED_AFTER.total_seconds()


@pytest.mark.parametrize(
    ("sent", "read", "right"),
    [
        (10, 20, {1}),
        (LIFE - 10, LIFE, {1}),
        (LIFE - 10, LIFE + 1, {1, 2}),
        (5 + EXPIRED, 10 + EXPIRED, {1, 2}),
        (6 + EXPIRED, 10 + EXPIRED, {2}),
    ],
)
def test_a_copy_comes_out_when_its_key_has_expired(sent: float, read: float, right: set[int]) -> None:
    """The first record was read between the seconds 0 and 5."""
    expected = Expectations()
    expected.add(["e"], 0, 5)
    expected.add(["e"], sent, read)
    assert {count for count in range(4) if not expected.check(Counter(e=count))} == right


def test_an_event_is_not_sent_again_when_it_is_unknown_whether_a_copy_came_out() -> None:
    expected = Expectations()
    expected.add(["known", "unknown"], 0, 5)
    expected.add(["unknown"], LIFE - 10, LIFE + 10)
    assert expected.list_expired(5 + EXPIRED) == []
    assert expected.list_expired(1000) == ["known"]
    expected.add(["known"], 1000, 1010)
    assert expected.list_expired(1000 + EXPIRED) == [] and expected.list_expired(1011 + EXPIRED) == ["known"]


def test_an_event_that_nobody_sent_is_a_mistake() -> None:
    assert len(Expectations().check(Counter(e=1))) == 1


def test_rounds_are_spread_over_the_faults() -> None:
    assert list_rounds(Counts(kills=0), 20) == set()
    assert list_rounds(Counts(kills=0, arrivals=4), 20) == {4, 9, 14, 19}
    assert list_rounds(Counts(kills=0, arrivals=9), 3) == {0, 1, 2}
