"""The event time that tests give a flight is the time that the airport's clock showed."""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from demo.flights import Flight, add_departure

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("time_hour", "minute", "dep_delay", "dep_time", "departed"),
    [
        ("2013-01-01T10:00:00Z", 15, 2, 517, "2013-01-01T10:17:00Z"),
        ("2013-01-01T11:00:00Z", 0, -6, 554, "2013-01-01T10:54:00Z"),
        ("2013-07-02T03:00:00Z", 55, 5, 2400, "2013-07-02T04:00:00Z"),  # midnight, by the calendar of the day before
        ("2013-01-09T14:00:00Z", 0, 1301, 641, "2013-01-10T11:41:00Z"),  # the longest delay there is
    ],
)
def test_a_departure_is_what_the_clock_showed(time_hour: str, minute: int, dep_delay: int, dep_time: int, departed: str) -> None:
    columns = {"time_hour": time_hour, "minute": minute, "dep_delay": dep_delay, "dep_time": dep_time}
    flight, time = add_departure(Flight(b"k", json.dumps(columns).encode()))
    assert json.loads(flight.value) == {**columns, "departed": departed}
    assert time == datetime.fromisoformat(departed)
    clock = time.astimezone(NEW_YORK)
    assert clock.hour * 100 + clock.minute == dep_time % 2400


def test_a_flight_that_never_left_has_no_departure() -> None:
    columns = {"time_hour": "2013-01-01T10:00:00Z", "minute": 15, "dep_delay": None, "dep_time": None}
    flight, time = add_departure(Flight(b"k", json.dumps(columns).encode()))
    assert json.loads(flight.value) == {**columns, "departed": None} and time is None
