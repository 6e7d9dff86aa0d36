"""The verdict of a fault run must be able to say no, and what happens to a driver must happen where it says."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dedup_api.spec import Delivery
from dedup_job.totals import Totals
from faults.check import Verdict, check
from faults.commits import Outage, describe_recoveries, list_recoveries
from faults.faulty_driver import SEAMS, Seam, wrap
from faults.files import read_number, read_time, write_number
from faults.plan import Plan, Record, build_plan
from faults.report import Report
from faults.schedule import Point


@cache
def make_plan() -> Plan:
    return build_plan(7, 3000)


def make_output() -> list[Record]:
    """The first copy of each event, as a perfect job would write it."""
    plan = make_plan()
    return [plan.build_record(event, copy) for event, copy in plan.list_all() if copy == 0]


def judge(output: list[Record]) -> Verdict:
    return replace(check(make_plan(), output), examples=())


def build_verdict(**wrong: int) -> Verdict:
    counts: dict[str, Any] = {"out": make_plan().events, "missing": 0, "twice": 0, "foreign": 0, "changed": 0, "disordered": 0, **wrong}
    return Verdict(**counts)


def find_pair() -> tuple[int, int]:
    """Two events of one Kafka key and one source partition."""
    plan, last = make_plan(), dict[tuple[bytes | None, int], int]()
    for event in range(plan.events):
        key = plan.find_key(event)
        place = (key, plan.find_partition(event, 0))
        if key is not None and place in last:
            return last[place], event
        last[place] = event
    raise AssertionError("no two events share a key")


def test_a_perfect_output_passes() -> None:
    assert judge(make_output()) == build_verdict()
    assert build_verdict().failures == []


def test_another_copy_is_as_good() -> None:
    plan = make_plan()
    later = dict(plan.list_all())
    output = [plan.build_record(event, copy) for event, copy in plan.list_all() if later[event] == copy]
    assert judge(output) == build_verdict()


def test_what_is_missing_is_counted() -> None:
    output = make_output()
    del output[10:13]
    assert judge(output) == build_verdict(out=len(output), missing=3)


def test_what_comes_twice_is_counted() -> None:
    """Also as another copy, and as often as it comes."""
    plan, output = make_plan(), make_output()
    event = next(event for event in range(plan.events) if plan.count_copies(event) > 1)
    output += [output[5], output[5], plan.build_record(event, 1)]
    assert judge(output) == build_verdict(out=len(output), twice=3)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"id": "e999999", "at": ""}'])
def test_what_nobody_sent_is_foreign(value: bytes) -> None:
    output = [*make_output(), Record(None, value, (), 0)]
    assert judge(output) == build_verdict(out=len(output), foreign=1)


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"another"},
        {"key": None},
        {"value": b'{"id": "e20", "at": "never"}'},
        {"headers": (("more", b""),)},
        {"headers": (("null", None), ("empty", b""))},
        {"timestamp": 5},
    ],
)
def test_what_was_changed_is_counted(change: dict[str, object]) -> None:
    output = make_output()
    output[20] = replace(output[20], **change)  # type: ignore[arg-type]
    assert judge(output) == build_verdict(changed=1)


def test_timestamps_are_left_out_where_the_delivery_sets_its_own() -> None:
    output = [replace(record, timestamp=5) for record in make_output()]
    verdict = check(make_plan(), output, with_timestamps=False)
    assert verdict.failures == []
    output[20] = replace(output[20], key=b"another")
    assert check(make_plan(), output, with_timestamps=False).changed == 1


def test_what_is_out_of_order_is_counted() -> None:
    one, two = find_pair()
    output = make_output()
    output[one], output[two] = output[two], output[one]
    verdict = judge(output)
    assert verdict.disordered >= 1
    assert verdict == build_verdict(disordered=verdict.disordered)


def test_other_keys_may_change_places() -> None:
    plan = make_plan()
    two = next(event for event in range(1, plan.events) if plan.find_key(event) != plan.find_key(0) and plan.find_key(event))
    between = {plan.find_key(event) for event in range(1, two)}
    assert plan.find_key(0) not in between and plan.find_key(two) not in between
    output = make_output()
    output[0], output[two] = output[two], output[0]
    assert judge(output) == build_verdict()


def test_failures_say_how_many_of_what() -> None:
    verdict = build_verdict(missing=1, twice=2000, foreign=3, changed=4, disordered=5)
    assert verdict.failures == ["1 missing", "2,000 twice", "3 foreign", "4 changed", "5 out of order"]


def test_a_recovery_is_counted_from_the_last_kill_to_a_commit_of_the_next_driver() -> None:
    outages = [Outage(10.0, 13.0), Outage(20.0, 23.0), Outage(40.0, 43.0), Outage(90.0, 93.0)]
    commits = [5.0, 11.0, 12.0, 30.5, 31.0, 43.5]
    assert list_recoveries(outages, commits) == [10.5, 3.5]
    assert describe_recoveries([10.5, 3.5]) == "median 7.0 s, worst 10.5 s, of 2 measured"
    assert describe_recoveries([]) == "no recovery was measured"


def test_a_report_fails_for_what_the_verdict_does_not_see() -> None:
    report = Report(1, Delivery.EXACTLY_ONCE, 2, 2, 1, 100, 1.0, (), Totals(), build_verdict(), Counter(), Counter())
    assert report.failures == []
    assert replace(report, violations=("a second driver ended with 0",)).failures == ["a second driver ended with 0"]
    assert replace(report, verdict=build_verdict(twice=1)).failures == ["1 twice"]
    assert "missing 0, twice 0" in report.describe()


def test_a_number_crosses_between_processes(tmp_path: Path) -> None:
    assert read_number(tmp_path / "n") == 0 and read_time(tmp_path / "n") is None
    write_number(tmp_path / "n", 1234567.25)
    assert read_number(tmp_path / "n") == 1234567 and read_time(tmp_path / "n") == 1234567.25


def test_the_driver_has_every_place_where_a_trap_may_lie() -> None:
    assert set(SEAMS) == set(Point) - {Point.RANDOM}
    for seam in (seam for seams in SEAMS.values() for seam in seams):
        owner = getattr(importlib.import_module(seam.module), seam.owner)
        assert callable(getattr(owner, seam.method)), seam


class Subject:
    def step(self, number: int) -> list[str]:
        CALLS.append(f"step {number}")
        return CALLS


CALLS: list[str] = []


def test_a_trap_lies_before_or_behind_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("subject")
    module.__dict__["Subject"] = Subject
    monkeypatch.setitem(sys.modules, "subject", module)
    wrap(Seam("subject", "Subject", "step"), lambda owner: CALLS.append("before"))
    wrap(Seam("subject", "Subject", "step", after=True), lambda owner: CALLS.append("after"))
    assert Subject().step(5) == ["before", "step 5", "after"]
