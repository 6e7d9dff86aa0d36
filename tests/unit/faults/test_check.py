"""The checks of a fault run must find mistakes, and a fault must happen at the point that it names."""

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

from dedup_api.faults import Fault
from dedup_api.spec import Delivery
from dedup_job.checkpoint.totals import Totals
from faults.commits import Outage, describe_recoveries, list_recoveries
from faults.dead_letter_check import check_dead_letters, find_places
from faults.faulty_driver import SEAMS, Seam, wrap
from faults.files import read_number, read_time, write_number
from faults.output_check import Verdict, check_output, check_totals
from faults.plan import Header, Plan, Record, build_plan, find_event
from faults.report import Report
from faults.schedule import Point


@cache
def make_plan() -> Plan:
    return build_plan(7, 3000)


def make_output() -> list[Record]:
    """The first copy of each event, as a driver without mistakes may write it."""
    plan = make_plan()
    return [plan.build_record(event, copy) for event, copy in plan.list_all() if copy == 0 and plan.find_fault(event) is None]


def check_records(output: list[Record]) -> Verdict:
    return replace(check_output(make_plan(), output), examples=())


def build_verdict(**wrong: int) -> Verdict:
    counts: dict[str, Any] = {
        "out": make_plan().uniques,
        "missing": 0,
        "repeated": 0,
        "unexpected": 0,
        "changed": 0,
        "out_of_order": 0,
        **wrong,
    }
    return Verdict(**counts)


def find_pair() -> tuple[int, int]:
    """The places in the output of two events with the same Kafka key and source partition."""
    plan, last = make_plan(), dict[tuple[bytes | None, int], int]()
    for index, record in enumerate(make_output()):
        event = find_event(record.value)
        assert event is not None
        place = (record.key, plan.find_partition(event, 0))
        if record.key is not None and place in last:
            return last[place], index
        last[place] = index
    raise AssertionError("no two events share a key")


def test_an_output_without_mistakes_passes() -> None:
    assert check_records(make_output()) == build_verdict()
    assert build_verdict().failures == []


def test_any_copy_of_an_event_may_come_out() -> None:
    plan = make_plan()
    later = dict(plan.list_all())
    output = [plan.build_record(event, copy) for event, copy in plan.list_all() if later[event] == copy and not plan.find_fault(event)]
    assert check_records(output) == build_verdict()
    without = [replace(record, timestamp=5) for record in output]
    assert check_output(plan, without, with_timestamps=False) == build_verdict(), "without timestamps any copy must be accepted, too"


def test_missing_records_are_counted() -> None:
    output = make_output()
    del output[10:13]
    assert check_records(output) == build_verdict(out=len(output), missing=3)


def test_repeated_records_are_counted() -> None:
    """Also a repeat as another copy, and each repeat of several."""
    plan, output = make_plan(), make_output()
    event = next(event for event in range(plan.events) if plan.count_copies(event) > 1)
    output += [output[5], output[5], plan.build_record(event, 1)]
    assert check_records(output) == build_verdict(out=len(output), repeated=3)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"id": "e999999", "at": ""}'])
def test_a_record_that_nobody_sent_is_unexpected(value: bytes) -> None:
    output = [*make_output(), Record(None, value, (), 0)]
    assert check_records(output) == build_verdict(out=len(output), unexpected=1)


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
def test_changed_records_are_counted(change: dict[str, object]) -> None:
    output = make_output()
    output[20] = replace(output[20], **change)  # type: ignore[arg-type]
    assert check_records(output) == build_verdict(changed=1)


def test_timestamps_are_not_compared_when_the_delivery_sets_its_own() -> None:
    output = [replace(record, timestamp=5) for record in make_output()]
    verdict = check_output(make_plan(), output, with_timestamps=False)
    assert verdict.failures == []
    output[20] = replace(output[20], key=b"another")
    assert check_output(make_plan(), output, with_timestamps=False).changed == 1


def test_records_out_of_order_are_counted() -> None:
    one, two = find_pair()
    output = make_output()
    output[one], output[two] = output[two], output[one]
    verdict = check_records(output)
    assert verdict.out_of_order >= 1
    assert verdict == build_verdict(out_of_order=verdict.out_of_order)


def test_records_of_different_keys_may_come_in_any_order() -> None:
    output = make_output()
    keys = [record.key for record in output]
    two = next(index for index in range(1, len(keys)) if keys[index] and keys[index] != keys[0])
    assert keys[0] not in keys[1:two] and keys[two] not in keys[1:two]
    output[0], output[two] = output[two], output[0]
    assert check_records(output) == build_verdict()


@pytest.mark.parametrize("fault", [Fault.LATE, Fault.TIME_IN_FUTURE, Fault.TIME_UNREADABLE, Fault.TOMBSTONE])
def test_a_faulty_record_in_the_output_is_unexpected(fault: Fault) -> None:
    plan = make_plan()
    faulty = next(event for event in range(plan.events) if plan.find_fault(event) is fault)
    output = [*make_output(), plan.build_record(faulty, 0)]
    assert check_records(output) == build_verdict(out=len(output), unexpected=1)


def make_letters() -> list[Record]:
    """The dead letters of a driver without mistakes. The first ones come before there is a watermark."""
    plan = make_plan()
    letters: list[Record] = []
    for (partition, offset), event in find_places(plan).items():
        record, fault = plan.build_record(event, 0), plan.find_fault(event)
        time = plan.find_time(event).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        added = {
            "dedup-reason": str(fault),
            "dedup-detail": "a sentence",
            "dedup-source-topic": "in",
            "dedup-source-partition": str(partition),
            "dedup-source-offset": str(offset),
            **({"dedup-event-time": time} if fault in (Fault.LATE, Fault.TIME_IN_FUTURE) else {}),
            **({"dedup-watermark": "2024-05-06T07:08:09.125Z"} if len(letters) > 5 else {}),
        }
        headers = tuple((name, text.encode()) for name, text in added.items())
        letters.append(replace(record, headers=(*record.headers, *headers)))
    return letters


def check_letters(letters: list[Record], with_timestamps: bool = True) -> Verdict:
    return replace(check_dead_letters(make_plan(), letters, "in", with_timestamps), examples=())


def find_letter(fault: Fault) -> int:
    """The place of the last dead letter with the fault."""
    return [index for index, letter in enumerate(make_letters()) if ("dedup-reason", str(fault).encode()) in letter.headers][-1]


def set_header(letter: Record, name: str, value: bytes | None) -> Record:
    return replace(letter, headers=tuple((found, value if found == name else old) for found, old in letter.headers))


def build_letter_verdict(**wrong: int) -> Verdict:
    return build_verdict(**{"out": make_plan().faulty.total(), **wrong})


def test_dead_letters_without_mistakes_pass_in_any_order() -> None:
    assert check_letters(make_letters()) == check_letters(make_letters()[::-1]) == build_letter_verdict()


def test_faulty_records_have_the_offsets_at_which_the_producer_sends_them() -> None:
    plan = make_plan()
    topic: dict[int, list[int]] = {}
    for event, copy in plan.list_all():
        topic.setdefault(plan.find_partition(event, copy), []).append(event)
    places = find_places(plan)
    assert [topic[partition][offset] for partition, offset in places] == list(places.values())
    assert Counter(map(plan.find_fault, places.values())) == plan.faulty


def test_a_missing_dead_letter_is_counted() -> None:
    letters = make_letters()
    del letters[find_letter(Fault.LATE)], letters[0]
    assert check_letters(letters) == build_letter_verdict(out=len(letters), missing=2)


def test_repeated_dead_letters_are_counted() -> None:
    letters = [*make_letters(), *make_letters()[:2], make_letters()[0]]
    assert check_letters(letters) == build_letter_verdict(out=len(letters), repeated=3)


def test_a_record_that_is_no_dead_letter_is_unexpected() -> None:
    """A valid record, one with a wrong offset, and one without its partition."""
    valid = make_output()[3]
    elsewhere = set_header(make_letters()[0], "dedup-source-offset", b"123456")
    letters = [*make_letters(), valid, elsewhere, set_header(elsewhere, "dedup-source-partition", None)]
    assert check_letters(letters) == build_letter_verdict(out=len(letters), unexpected=3)


@pytest.mark.parametrize(
    "change",
    [{"key": b"another"}, {"value": None}, {"value": b"{}"}, {"timestamp": 5}],
)
def test_a_changed_dead_letter_is_counted(change: dict[str, object]) -> None:
    letters = make_letters()
    late = find_letter(Fault.LATE)
    letters[late] = replace(letters[late], **change)  # type: ignore[arg-type]
    assert check_letters(letters) == build_letter_verdict(changed=1)
    assert check_letters(letters, with_timestamps=False).changed == ("timestamp" not in change)


def test_a_tombstone_is_not_an_empty_value() -> None:
    letters = make_letters()
    tombstone = find_letter(Fault.TOMBSTONE)
    letters[tombstone] = replace(letters[tombstone], value=b"")
    assert check_letters(letters) == build_letter_verdict(changed=1)


@pytest.mark.parametrize(
    ("fault", "name", "value"),
    [
        (Fault.LATE, "reason", b"Tombstone"),
        (Fault.NOT_JSON, "reason", b"NotUtf8"),
        (Fault.NOT_JSON, "detail", None),
        (Fault.KEY_MISSING, "source-topic", b"out"),
        (Fault.LATE, "event-time", b"2023-05-07T07:08:09.000Z"),
        (Fault.TIME_IN_FUTURE, "event-time", b"2024-05-06T07:08:09.000Z"),
        (Fault.LATE, "watermark", b"2023-01-01T00:00:00.000Z"),
        (Fault.NOT_UTF8, "watermark", b"2024-05-06T07:08:09Z"),
        (Fault.NOT_UTF8, "watermark", b"2025-05-06T07:08:09.000Z"),
        (Fault.NOT_UTF8, "watermark", None),
    ],
)
def test_a_wrong_header_is_counted(fault: Fault, name: str, value: bytes | None) -> None:
    letters, index = make_letters(), find_letter(fault)
    letters[index] = set_header(letters[index], f"dedup-{name}", value)
    assert letters != make_letters()
    assert check_letters(letters) == build_letter_verdict(changed=1)


@pytest.mark.parametrize("fault", [Fault.LATE, Fault.TOMBSTONE])
def test_the_added_headers_come_once_behind_the_own_headers(fault: Fault) -> None:
    letters, index = make_letters(), find_letter(fault)
    headers = letters[index].headers
    places = {name: where for where, (name, _) in enumerate(headers)}
    late = fault is Fault.LATE
    wrong: list[tuple[Header, ...]] = [
        (("more", b""), *headers),
        (*headers, ("more", b"")),
        (*headers, headers[-1]),
        headers[::-1],
        *(headers[:where] + headers[where + 1 :] for name, where in places.items() if late or name != "dedup-watermark"),
    ]
    if not late:
        wrong.append((*headers[:-1], ("dedup-event-time", b"2024-05-06T07:08:09.000Z"), headers[-1]))
    for changed in wrong:
        letters[index] = replace(letters[index], headers=changed)
        verdict = check_letters(letters)
        assert verdict.failures, changed
        assert verdict in (build_letter_verdict(changed=1), build_letter_verdict(unexpected=1, missing=1))


def test_the_totals_of_the_driver_are_compared_with_the_plan() -> None:
    plan = make_plan()
    invalid = {str(fault): count for fault, count in plan.faulty.items() if fault is not Fault.LATE}
    totals = Totals(
        rows_in=plan.records,
        rows_out=plan.uniques,
        unique=plan.uniques,
        duplicates=plan.records - plan.events,
        late=plan.faulty[Fault.LATE],
        invalid=invalid,
        dead_letters=sum(plan.faulty.values()),
    )
    assert check_totals(plan, totals) == []
    assert check_totals(plan, replace(totals, late=1)) == [f"the driver counts late 1, and the plan has {plan.faulty[Fault.LATE]}"]
    assert len(check_totals(plan, replace(totals, invalid={**invalid, "NotJson": 1}))) == 1
    assert len(check_totals(plan, replace(totals, rows_in=1, dead_letters=1))) == 2


def test_failures_name_the_count_and_the_kind_of_mistake() -> None:
    verdict = build_verdict(missing=1, repeated=2000, unexpected=3, changed=4, out_of_order=5)
    assert verdict.failures == ["1 missing", "2,000 repeated", "3 unexpected", "4 changed", "5 out of order"]


def test_a_recovery_lasts_from_the_last_kill_to_the_first_commit_of_the_next_driver() -> None:
    outages = [Outage(10.0, 13.0), Outage(20.0, 23.0), Outage(40.0, 43.0), Outage(90.0, 93.0)]
    commits = [5.0, 11.0, 12.0, 30.5, 31.0, 43.5]
    assert list_recoveries(outages, commits) == [10.5, 3.5]
    assert describe_recoveries([10.5, 3.5]) == "median 7.0 s, worst 10.5 s, of 2 measured"
    assert describe_recoveries([]) == "no recovery was measured"


def test_a_report_also_fails_for_violations_and_dead_letters() -> None:
    faulty = Counter({Fault.LATE: 1, Fault.NOT_JSON: 3, Fault.TOMBSTONE: 4})
    report = Report(
        1, Delivery.EXACTLY_ONCE, 2, 2, faulty, 1, 100, 1.0, (), Totals(), build_verdict(), build_letter_verdict(), Counter(), Counter()
    )
    assert report.failures == []
    assert replace(report, violations=("a second driver ended with 0",)).failures == ["a second driver ended with 0"]
    assert replace(report, verdict=build_verdict(repeated=1)).failures == ["1 repeated"]
    assert replace(report, dead_letters=build_letter_verdict(repeated=1)).failures == ["1 repeated of the dead letters"]
    assert "7 invalid and 1 late" in report.describe()
    assert report.describe().count("missing 0, repeated 0") == 2


def test_repeated_records_are_a_mistake_only_for_exactly_once() -> None:
    verdict = build_verdict(repeated=1, missing=2)
    report = Report(1, Delivery.AT_LEAST_ONCE, 2, 2, Counter(), 1, 100, 1.0, (), Totals(), verdict, verdict)
    assert report.failures == ["2 missing", "2 missing of the dead letters"]
    assert len(replace(report, delivery=Delivery.EXACTLY_ONCE).failures) == 4


def test_a_number_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_number(tmp_path / "n") == 0 and read_time(tmp_path / "n") is None
    write_number(tmp_path / "n", 1234567.25)
    assert read_number(tmp_path / "n") == 1234567 and read_time(tmp_path / "n") == 1234567.25


def test_the_driver_has_every_method_at_which_a_fault_may_happen() -> None:
    assert set(SEAMS) == set(Point) - {Point.RANDOM}, "add the new points to SEAMS in faults/faulty_driver.py"
    for seam in (seam for seams in SEAMS.values() for seam in seams):
        owner = getattr(importlib.import_module(seam.module), seam.owner)
        assert callable(getattr(owner, seam.method)), f"the driver has no such method any more, correct {seam} in faults/faulty_driver.py"


class Subject:
    def step(self, number: int) -> list[str]:
        CALLS.append(f"step {number}")
        return CALLS


CALLS: list[str] = []


def test_a_step_is_called_before_or_after_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("subject")
    module.__dict__["Subject"] = Subject
    monkeypatch.setitem(sys.modules, "subject", module)
    wrap(Seam("subject", "Subject", "step"), lambda owner: CALLS.append("before"))
    wrap(Seam("subject", "Subject", "step", after=True), lambda owner: CALLS.append("after"))
    assert Subject().step(5) == ["before", "step 5", "after"]
