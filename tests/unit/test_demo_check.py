"""The demo's verdict must be able to say no."""

from __future__ import annotations

import json

import pytest

from demo.check import Verdict, judge


def event(number: int, **more: object) -> bytes:
    return json.dumps({"time_hour": "2013-01-01T10:00:00Z", "carrier": "UA", "flight": number, **more}).encode()


A, B, C = event(1), event(2), event(3)


@pytest.mark.parametrize(
    ("sent", "out", "verdict"),
    [
        ([A, B, A, C], [C, A, B], Verdict(4, 3, 3, 0, 0, 0)),
        ([A, B, A], [A], Verdict(3, 2, 1, 1, 0, 0)),
        ([A, B, A], [A, B, A], Verdict(3, 2, 3, 0, 1, 0)),
        ([A, B], [A, B, event(9)], Verdict(2, 2, 3, 0, 0, 1)),
        ([A, B], [A, event(2, origin="JFK")], Verdict(2, 2, 2, 1, 0, 1)),
        ([A], [], Verdict(1, 1, 0, 1, 0, 0)),
    ],
)
def test_the_verdict_counts_what_is_wrong(sent: list[bytes], out: list[bytes], verdict: Verdict) -> None:
    assert judge(sent, out) == verdict
    assert verdict.kept is (verdict.missing == 0 and verdict.twice == 0 and verdict.foreign == 0)
