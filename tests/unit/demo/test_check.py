"""The demo's verdict finds every kind of wrong output."""

from __future__ import annotations

import json
from dataclasses import replace

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
def test_the_verdict_counts_each_kind_of_fault(sent: list[bytes], out: list[bytes], verdict: Verdict) -> None:
    assert judge(sent, out) == verdict


GOOD = Verdict(sent=120, distinct=100, out=100, missing=0, repeated=0, unknown=0)


@pytest.mark.parametrize(
    ("verdict", "failures"),
    [
        (GOOD, []),
        (replace(GOOD, missing=1), ["The output has 1 missing events."]),
        (replace(GOOD, repeated=2), ["The output has 2 repeated records."]),
        (replace(GOOD, unknown=3), ["The output has 3 records that were never sent."]),
        (replace(GOOD, distinct=99), ["The demo planned 100 events, and the producer sent 99."]),
        (replace(GOOD, sent=110), ["The producer sent only 10 duplicates; the demo needs 20."]),
    ],
)
def test_a_run_that_proves_nothing_fails_too(verdict: Verdict, failures: list[str]) -> None:
    assert verdict.list_failures(planned=100, duplicates=20) == failures
