"""A producer that saves its position only from time to time, as many real ones do.

After a crash it continues at the saved position and sends all later events again: these are the duplicates. It runs as
a process of its own (`python -m demo.client produce`), because the demo kills it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from confluent_kafka import Message, Producer

from demo.flights import read_events
from demo.plan import SAVE_INTERVAL

REPORT_INTERVAL = 500
"""Events between two lines on stdout. A line is the number of events that Kafka has stored."""
EVENTS_PER_SECOND = 12_000
"""Slow enough to watch: a year takes half a minute."""


def read_position(path: Path) -> int:
    """0 before the first save."""
    return int(path.read_text()) if path.exists() else 0


def _save_position(path: Path, position: int) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(str(position))
    temporary.rename(path)


def produce(bootstrap: str, topic: str, events: Path, position: Path) -> None:
    """Sends the events from the saved position to the end and prints how many are stored."""
    flights = read_events(events)
    start = read_position(position)
    settings = {"enable.idempotence": True, "linger.ms": 20, "partitioner": "murmur2_random", "log_level": 3}
    producer = Producer({"bootstrap.servers": bootstrap, **settings})
    acknowledged: set[int] = set()
    stored = start
    reported = saved = start

    def on_delivery(index: int, error: object) -> None:
        if error is not None:
            raise RuntimeError(f"Kafka refused event {index}: {error}")
        acknowledged.add(index)

    def advance() -> None:
        nonlocal stored, reported, saved
        while stored in acknowledged:
            acknowledged.discard(stored)
            stored += 1
        if stored - saved >= SAVE_INTERVAL or stored == len(flights):
            saved = stored
            _save_position(position, stored)
        if stored - reported >= REPORT_INTERVAL or stored == len(flights):
            reported = stored
            os.write(1, f"{stored}\n".encode())

    started = time.monotonic()
    for index in range(start, len(flights)):
        flight = flights[index]

        def delivered(error: object, _: Message, index: int = index) -> None:
            on_delivery(index, error)

        producer.produce(topic, flight.value, flight.key, on_delivery=delivered)
        if index % 200 == 0:
            producer.poll(0)
            advance()
            ahead = (index - start) / EVENTS_PER_SECOND - (time.monotonic() - started)
            if ahead > 0:
                producer.poll(ahead)
    if producer.flush(60) != 0:
        raise RuntimeError("Kafka did not store all events within a minute.")
    advance()
