"""Numbered events, and the comparison of an output with the events that it must hold."""

from __future__ import annotations

import json
import random

from kafka.broker import Record


def build_event(number: int) -> Record:
    """All copies of an event have the same bytes, so that it does not matter which of them the driver writes."""
    at = f"2024-05-06T07:{number // 60 % 60:02}:{number % 60:02}Z"
    value = json.dumps({"at": at, "id": f"event-{number}", "text": "ä" * (number % 7)}, ensure_ascii=False).encode()
    headers = (("trace", f"t{number}".encode()), ("empty", b""), ("none", None), ("trace", b"again"))
    return Record(None if number % 5 == 0 else f"k{number % 50}".encode(), value, headers if number % 2 else ())


def build_events(*parts: range) -> set[Record]:
    return {build_event(number) for part in parts for number in part}


def build_stream(events: int, duplicates: int, seed: int) -> list[Record]:
    """Each event once, and so many copies, each of them at most 2,000 events behind its first."""
    choice = random.Random(seed)
    order = [(float(number), number) for number in range(events)]
    order += [(number + choice.uniform(0.5, 2000), number) for number in choice.choices(range(events), k=duplicates)]
    return [build_event(number) for _, number in sorted(order)]


def compare(output: list[Record], expected: set[Record]) -> None:
    """Each expected record must stand in the output once, with all its bytes, and no other record."""
    found = set(output)
    assert not expected - found, f"{len(expected - found)} records are missing, one of them is {next(iter(expected - found))}"
    assert not found - expected, f"{len(found - expected)} records are unexpected, one of them is {next(iter(found - expected))}"
    assert len(output) == len(found), f"{len(output) - len(found)} records stand in the output more than once"


def sum_samples(metrics: str, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
