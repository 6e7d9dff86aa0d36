"""What goes into a fault run, and when what happens: the same for the same seed, and what the run needs it to be."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from json import loads
from typing import Any

import pytest

from dedup_api.faults import INVALID_FAULTS
from dedup_api.faults import Fault as RecordFault
from dedup_api.spec import Delivery
from faults.plan import FIRST_LATE, WATERMARK, Plan, build_plan, find_event
from faults.schedule import (
    ALL_POINTS,
    MOST_VISITS,
    Action,
    Counts,
    Fault,
    Point,
    Target,
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
    found = loads(make_plan().build_record(event, 0).value or b"")
    assert isinstance(found, dict)
    return found


def read_time(event: int) -> datetime:
    return datetime.fromisoformat(read_value(event)["at"])


def test_a_plan_has_as_many_records_as_are_asked_for() -> None:
    plan = make_plan()
    assert 20_000 <= plan.records <= 20_002
    assert plan.events < 0.8 * plan.records, "there are duplicates"
    assert build_plan(7, plan.records) == plan, "the producer makes it anew from what it is told"


def test_every_copy_goes_in_once_in_the_order_of_positions() -> None:
    plan = make_plan()
    order = list(plan.list_all())
    assert sorted(order) == [(event, copy) for event in range(plan.events) for copy in range(plan.count_copies(event))]
    positions = [plan.find_position(*place) for place in order]
    assert all(one < two for one, two in pairwise(positions))


def test_a_seed_is_a_plan() -> None:
    assert [make_plan().build_record(event, 0) for event in range(50)] == [
        build_plan(7, 20_000).build_record(event, 0) for event in range(50)
    ]
    assert make_plan().build_record(5, 0) != Plan(8, make_plan().events).build_record(5, 0)


def test_no_copy_is_late_or_beyond_the_watermark() -> None:
    """Also when partitions run apart by as many records as the producer may have on its way."""
    plan = make_plan()
    newest = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    worst = timedelta()
    for event, _ in list_valid():
        at = read_time(event)
        newest = max(newest, at)
        worst = max(worst, newest - at)
    assert timedelta() < worst < WATERMARK / 2
    first, last = list_valid()[0][0], list_valid()[-1][0]
    assert read_time(last) - read_time(first) > 4 * WATERMARK, "keys expire while the run goes on"
    assert newest < plan.end


def test_copies_agree_in_key_and_value_and_can_be_told_apart() -> None:
    plan = make_plan()
    for event in range(2000):
        copies = [plan.build_record(event, copy) for copy in range(plan.count_copies(event))]
        assert {(copy.key, copy.value) for copy in copies} == {(copies[0].key, copies[0].value)}
        assert len({copy.timestamp for copy in copies}) == len(copies)
        assert plan.find_fault(event) is not None or find_event(copies[0].value) == event


def test_strays_are_of_every_fault_and_have_no_copies() -> None:
    plan = make_plan()
    strays = {event: fault for event in range(plan.events) if (fault := plan.find_fault(event)) is not None}
    assert plan.strays == Counter(strays.values()) and plan.uniques + len(strays) == plan.events
    assert set(plan.strays) == set(RecordFault)
    late = plan.strays[RecordFault.LATE]
    assert 0.006 * plan.records < late < 0.014 * plan.records
    assert 0.006 * plan.records < plan.strays.total() - late < 0.014 * plan.records
    assert {plan.count_copies(event) for event in strays} == {1}


def test_what_is_late_is_far_behind_and_comes_when_a_watermark_has_begun() -> None:
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
    """In every form that the fault has."""
    plan = make_plan()
    values = [plan.build_record(event, 0).value for event in range(plan.events) if plan.find_fault(event) is fault]
    assert values
    assert {find_fault(value) for value in values} == {fault}


def find_fault(value: bytes | None) -> RecordFault:
    """As a reader would that knows nothing of the plan."""
    if value is None:
        return RecordFault.TOMBSTONE
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return RecordFault.NOT_UTF8
    try:
        document = loads(text)
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


def test_records_are_of_every_kind() -> None:
    plan = make_plan()
    records = [plan.build_record(event, 0) for event in range(5000)]
    assert {None, b""} < {record.key for record in records}
    headers = {record.headers for record in records}
    assert () in headers and any(value is None for found in headers for _, value in found)
    assert any(len({name for name, _ in found}) < len(found) for found in headers), "a header is repeated"
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
def test_what_no_plan_made_is_of_no_event(value: bytes | None) -> None:
    assert find_event(value) is None


def test_a_seed_is_a_schedule() -> None:
    first = build_schedule(3, COUNTS, ALL_POINTS)
    assert first == build_schedule(3, COUNTS, ALL_POINTS)
    assert first != build_schedule(4, COUNTS, ALL_POINTS)


@pytest.mark.parametrize("delivery", list(Delivery))
@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_has_everything_everywhere(seed: int, delivery: Delivery) -> None:
    points = list_points(delivery)
    faults = build_schedule(seed, COUNTS, points)
    by_action = {action: [fault for fault in faults if fault.action is action] for action in Action}
    assert [len(by_action[action]) for action in (Action.KILL, Action.BROKER, Action.FREEZE, Action.SECOND)] == [3 * len(Point), 5, 3, 2]
    kills = by_action[Action.KILL]
    assert {fault.point for fault in kills} == set(points)
    assert {fault.target for fault in kills} == set(Target)
    if delivery is Delivery.EXACTLY_ONCE:
        assert {(fault.point, fault.target) for fault in kills} == {(point, target) for point in Point for target in Target}
    assert all(1 <= fault.visit <= MOST_VISITS and 0 <= fault.fraction < 1 for fault in faults)


def test_without_transactions_there_are_no_points_in_one() -> None:
    assert Point.IN_TRANSACTION not in list_points(Delivery.AT_LEAST_ONCE)
    assert set(list_points(Delivery.EXACTLY_ONCE)) == set(Point)


def test_a_fault_survives_the_way_to_the_driver() -> None:
    fault = Fault(Action.FREEZE, Point.MID_TASK, Target.JVM, 3, 0.25)
    assert parse_fault(fault.to_json()) == fault
