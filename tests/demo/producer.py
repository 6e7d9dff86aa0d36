"""A producer as they are in life: it notes from time to time how far it got, and after a crash goes on from the note.

Whatever it had stored since the note it sends again; that is where duplicates come from. It runs as a process of its
own (`python -m demo produce`), so that it can be killed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from confluent_kafka import Message, Producer

from demo.flights import read_events

NOTE_INTERVAL = 10_000
"""Events between two notes: eleven days of flights."""
REPORT_INTERVAL = 500
"""Events between two lines on stdout, which say how many in a row are stored."""
EVENTS_PER_SECOND = 12_000
"""Slow enough to watch: a year in half a minute."""


def read_note(path: Path) -> int:
    return int(path.read_text()) if path.exists() else 0


def _write_note(path: Path, position: int) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(str(position))
    temporary.rename(path)


def produce(bootstrap: str, topic: str, events: Path, note: Path) -> None:
    """Sends the events from the noted position to the end; prints the stored position as it goes."""
    flights = read_events(events)
    start = read_note(note)
    settings = {"enable.idempotence": True, "linger.ms": 20, "partitioner": "murmur2_random", "log_level": 3}
    producer = Producer({"bootstrap.servers": bootstrap, **settings})
    acknowledged: set[int] = set()
    stored = start
    reported = noted = start

    def on_delivery(index: int, error: object) -> None:
        if error is not None:
            raise RuntimeError(f"event {index} was refused: {error}")
        acknowledged.add(index)

    def advance() -> None:
        nonlocal stored, reported, noted
        while stored in acknowledged:
            acknowledged.discard(stored)
            stored += 1
        if stored - noted >= NOTE_INTERVAL or stored == len(flights):
            noted = stored
            _write_note(note, stored)
        if stored - reported >= REPORT_INTERVAL or stored == len(flights):
            reported = stored
            os.write(1, f"{stored}\n".encode())

    began = time.monotonic()
    for index in range(start, len(flights)):
        flight = flights[index]

        def delivered(error: object, _: Message, index: int = index) -> None:
            on_delivery(index, error)

        producer.produce(topic, flight.value, flight.key, on_delivery=delivered)
        if index % 200 == 0:
            producer.poll(0)
            advance()
            ahead = (index - start) / EVENTS_PER_SECOND - (time.monotonic() - began)
            if ahead > 0:
                producer.poll(ahead)
    if producer.flush(60) != 0:
        raise RuntimeError("the brokers did not take all events within a minute")
    advance()
