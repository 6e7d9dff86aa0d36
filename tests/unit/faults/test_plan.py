"""The plan and the schedule of a fault run: a seed gives the same ones each time, and they have what the run needs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from dedup_api.faults import INVALID_FAULTS
from dedup_api.faults import Fault as RecordFault
from dedup_api.spec import Delivery
from faults.holds import HEADER, RECORDS, HoldChecker
from faults.plan import FIRST_LATE, WATERMARK, Plan, Record, build_plan, find_event
from faults.schedule import (
    ALL_POINTS,
    MAX_VISITS,
    Action,
    Counts,
    End,
    Fault,
    Point,
    Target,
    build_ends,
    build_schedule,
    list_points,
    parse_fault,
)

COUNTS = Counts(kills=3 * len(Point), broker_kills=5, freezes=3, second_drivers=2)


@cache
def make_plan() -> Plan:
    return build_plan(7, 20_000)


def list_valid() -> list[tuple[int, int]]:
    return [(event, copy) for event, copy in make_plan().list_all() if make_plan().find_fault(event) is None]


def read_value(event: int) -> dict[str, Any]:
    found = json.loads(make_plan().build_record(event, 0).value or b"")
    assert isinstance(found, dict)
    return found


def read_time(event: int) -> datetime:
    return datetime.fromisoformat(read_value(event)["at"])


def test_a_plan_has_the_number_of_records_that_was_given() -> None:
    plan = make_plan()
    assert 20_000 <= plan.records <= 20_002
    assert plan.events < 0.8 * plan.records, "at least a fifth of the records must be duplicates"
    assert build_plan(7, plan.records) == plan, "the producer must build the same plan from the seed and the number of records"


def test_every_copy_goes_in_once_in_the_order_of_the_positions() -> None:
    plan = make_plan()
    order = list(plan.list_all())
    assert sorted(order) == [(event, copy) for event in range(plan.events) for copy in range(plan.count_copies(event))]
    positions = [plan.find_position(*place) for place in order]
    assert all(one < two for one, two in pairwise(positions))


def test_the_same_seed_gives_the_same_plan() -> None:
    assert [make_plan().build_record(event, 0) for event in range(50)] == [
        build_plan(7, 20_000).build_record(event, 0) for event in range(50)
    ]
    assert make_plan().build_record(5, 0) != Plan(8, make_plan().events).build_record(5, 0)


def test_no_copy_is_late_or_beyond_the_watermark() -> None:
    """Also when some partitions are behind by as many records as the producer may have unsent."""
    plan = make_plan()
    newest = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    worst = timedelta()
    for event, _ in list_valid():
        at = read_time(event)
        newest = max(newest, at)
        worst = max(worst, newest - at)
    assert timedelta() < worst < WATERMARK / 2
    first, last = list_valid()[0][0], list_valid()[-1][0]
    assert read_time(last) - read_time(first) > 4 * WATERMARK, (
        "the event times must span several watermarks, so that keys expire during the run"
    )
    assert newest < plan.end


def test_copies_have_the_same_key_and_value_and_different_timestamps() -> None:
    plan = make_plan()
    for event in range(2000):
        copies = [plan.build_record(event, copy) for copy in range(plan.count_copies(event))]
        assert {(copy.key, copy.value) for copy in copies} == {(copies[0].key, copies[0].value)}
        assert len({copy.timestamp for copy in copies}) == len(copies)
        assert plan.find_fault(event) is not None or find_event(copies[0].value) == event


def test_faulty_records_have_every_fault_and_no_copies() -> None:
    plan = make_plan()
    faulty = {event: fault for event in range(plan.events) if (fault := plan.find_fault(event)) is not None}
    assert plan.faulty == Counter(faulty.values()) and plan.uniques + len(faulty) == plan.events
    assert set(plan.faulty) == set(RecordFault)
    late = plan.faulty[RecordFault.LATE]
    assert 0.006 * plan.records < late < 0.014 * plan.records
    assert 0.006 * plan.records < plan.faulty.total() - late < 0.014 * plan.records
    assert {plan.count_copies(event) for event in faulty} == {1}


def test_late_records_are_far_behind_and_come_after_the_first_watermark() -> None:
    plan = make_plan()
    late = [event for event in range(plan.events) if plan.find_fault(event) is RecordFault.LATE]
    assert late[0] >= plan.events / FIRST_LATE
    assert max(map(read_time, late)) < read_time(list_valid()[0][0]) - 100 * WATERMARK


def test_a_future_time_is_ahead_of_its_own_timestamp() -> None:
    plan = make_plan()
    future = [event for event in range(plan.events) if plan.find_fault(event) is RecordFault.TIME_IN_FUTURE]
    for event in future:
        assert read_time(event).timestamp() - plan.build_record(event, 0).timestamp / 1000 > timedelta(hours=2).total_seconds()
    assert future


@pytest.mark.parametrize("fault", INVALID_FAULTS)
def test_an_invalid_record_has_its_fault_and_no_other(fault: RecordFault) -> None:
    """Checked for every form of the fault."""
    plan = make_plan()
    values = [plan.build_record(event, 0).value for event in range(plan.events) if plan.find_fault(event) is fault]
    assert values
    assert {find_fault(value) for value in values} == {fault}


def find_fault(value: bytes | None) -> RecordFault:
    """The fault as a reader finds it who does not know the plan."""
    if value is None:
        return RecordFault.TOMBSTONE
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return RecordFault.NOT_UTF8
    try:
        document = json.loads(text)
    except ValueError:
        return RecordFault.NOT_JSON
    if not isinstance(document, dict):
        return RecordFault.NOT_JSON
    key, at = document.get("id"), document.get("at")
    if not key:
        return RecordFault.KEY_MISSING if key is None else RecordFault.KEY_EMPTY
    if not isinstance(key, str):
        return RecordFault.KEY_UNREADABLE
    if at is None:
        return RecordFault.TIME_MISSING
    try:
        datetime.fromisoformat(at)
    except (TypeError, ValueError):
        return RecordFault.TIME_UNREADABLE
    return RecordFault.TIME_IN_FUTURE


def test_records_have_all_kinds_of_keys_headers_and_texts() -> None:
    plan = make_plan()
    records = [plan.build_record(event, 0) for event in range(5000)]
    assert {None, b""} < {record.key for record in records}
    headers = {record.headers for record in records}
    assert () in headers and any(value is None for found in headers for _, value in found)
    assert any(len({name for name, _ in found}) < len(found) for found in headers), "some record must have two headers of the same name"
    assert any("😀".encode() in (record.value or b"") for record in records)
    assert {plan.find_partition(event, 0) for event in range(5000)} == set(range(plan.partitions))


def test_most_keys_lie_in_one_partition_and_some_in_several() -> None:
    plan = make_plan()
    places: dict[bytes | None, set[int]] = {}
    for event in range(plan.events):
        places.setdefault(plan.find_key(event), set()).add(plan.find_partition(event, 0))
    counts = [len(found) for key, found in places.items() if key is not None]
    assert max(counts) > 1


@pytest.mark.parametrize("value", [None, b"", b"e5", b'{"id": "5", ', b'{"id": "e5"}', b'{"id": "e-5", ', b' {"id": "e5", '])
def test_a_value_that_is_not_of_a_plan_has_no_event(value: bytes | None) -> None:
    assert find_event(value) is None


def test_the_same_seed_gives_the_same_schedule() -> None:
    first = build_schedule(3, COUNTS, ALL_POINTS)
    assert first == build_schedule(3, COUNTS, ALL_POINTS)
    assert first != build_schedule(4, COUNTS, ALL_POINTS)


@pytest.mark.parametrize("delivery", list(Delivery))
@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_has_every_action_point_and_target(seed: int, delivery: Delivery) -> None:
    points = list_points(delivery)
    faults = build_schedule(seed, COUNTS, points)
    by_action = {action: [fault for fault in faults if fault.action is action] for action in Action}
    assert [len(by_action[action]) for action in (Action.KILL, Action.BROKER, Action.FREEZE, Action.SECOND)] == [3 * len(Point), 5, 3, 2]
    kills = by_action[Action.KILL]
    assert {fault.point for fault in kills} == set(points)
    assert {fault.target for fault in kills} == set(Target)
    if delivery is Delivery.EXACTLY_ONCE:
        assert {(fault.point, fault.target) for fault in kills} == {(point, target) for point in Point for target in Target}
    assert all(1 <= fault.visit <= MAX_VISITS and 0 <= fault.fraction < 1 for fault in faults)


def test_without_transactions_no_point_lies_in_a_transaction() -> None:
    assert Point.IN_TRANSACTION not in list_points(Delivery.AT_LEAST_ONCE)
    assert set(list_points(Delivery.EXACTLY_ONCE)) == set(Point)


def test_some_kills_happen_to_runs_that_end_and_some_twice_in_a_batch() -> None:
    counts = replace(COUNTS, runs=7, repeats=4)
    faults = build_schedule(5, counts, ALL_POINTS)
    assert sum(fault.action is Action.KILL for fault in faults) == counts.kills + counts.repeats
    runs = {fault for fault in faults if fault.available_now}
    assert len(runs) >= 7 and all(fault.point not in (Point.RANDOM, Point.STOPPING) for fault in runs)
    pairs = [(first, second) for first, second in pairwise(faults) if second == replace(first, visit=1)]
    assert len(pairs) >= 4


@pytest.mark.parametrize("seed", range(10))
def test_transactions_of_the_source_end_in_both_ways(seed: int) -> None:
    ends = build_ends(seed, replace(COUNTS, transactions=5), 20)
    assert len(ends) == 5 and set(ends) <= set(range(20)) and set(ends.values()) == set(End)
    assert ends == build_ends(seed, replace(COUNTS, transactions=5), 20)
    assert len(build_ends(seed, replace(COUNTS, transactions=5), 3)) == 3


def build_held(hold: int, number: int, where: bytes) -> Record:
    value = json.dumps({"id": f"hold-{hold}-{number}", "at": "2024-05-06T07:08:09Z"}).encode()
    return Record(None, value, ((HEADER, where),), 0)


def test_the_check_of_transactions_finds_what_came_out_wrongly() -> None:
    """The first transaction is committed, the second is aborted."""
    right = [build_held(0, number, b"inside") for number in range(RECORDS)] + [
        build_held(1, number, b"behind") for number in range(RECORDS)
    ]

    def check(output: list[Record], may_repeat: bool = False) -> list[str]:
        checker = HoldChecker([End.COMMIT, End.ABORT])
        plain = Record(None, b"plain", (), 0)
        assert list(checker.sort_out([*output, plain])) == [plain]
        return checker.finish(may_repeat)

    assert check(right) == []
    assert len(check(right[1:])) == 1
    assert len(check([*right, build_held(0, 3, b"behind")])) == 1
    assert check([*right, build_held(0, 3, b"behind")], may_repeat=True) == []
    assert check([*right[:-1], build_held(1, RECORDS - 1, b"inside")]) == [f"hold-1-{RECORDS - 1} came out of an aborted transaction"]


def test_a_fault_is_the_same_after_json() -> None:
    fault = Fault(Action.FREEZE, Point.MID_TASK, Target.JVM, 3, 0.25)
    assert parse_fault(fault.to_json()) == fault
