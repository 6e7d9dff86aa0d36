"""The plan of a run: which events go in, in how many copies, in which order, with which bytes.

The module is pure: the same seed gives the same plan. A record is a function of its event and its copy, so the checks
can build millions of records again and need not keep them. Some events are faulty: late or invalid. Each of them has
one record, which must become a dead letter.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from dedup_api.faults import INVALID_FAULTS, Fault
from faults.faulty_records import SHIFTS, build_value

Header = tuple[str, bytes | None]

WATERMARK = timedelta(minutes=10)
WATERMARKS = 6
"""The event times span so many watermarks, so that keys also expire during the run."""
COPIES_WITHIN = 25
"""A copy is at most 1/25 of all events behind the first. That is much less than a watermark, so no copy is late, and
no key has expired."""
MAX_COPIES = 3
FAULTY_ONE_IN = 70
"""One event in so many is invalid, and one in so many is late. Each of the two is about one record in a hundred."""
FIRST_LATE = 5
"""Late events come only after the first fifth of all events, because nothing is late before the watermark moves."""

_BEGIN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
_MASK = (1 << 64) - 1
_ID = re.compile(rb'\{"id": "e([0-9]{1,9})", ')
_TEXTS = (
    "",
    "plain",
    'quote " and \\ backslash',
    "Zürich",
    "e\u0301 is not é",
    "файл",
    "東京都",
    "😀👩‍👩‍👧",
    "\u2028 \u0000 \u001f",
    "null",
)
_HEADERS: tuple[tuple[Header, ...], ...] = (
    (),
    (),
    (("trace", b"\x00\xff\x80 no text"),),
    (("again", b"1"), ("again", b"2"), ("again", b"1")),
    (("empty", b""), ("null", None)),
    (("ключ", "値".encode()), ("", b"a header without a name")),
)


@dataclass(frozen=True, slots=True)
class Record:
    """A record with everything that Kafka stores of it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp: int
    """Milliseconds since 1970."""


def find_event(value: bytes | None) -> int | None:
    """The event in the value; None when the value is not from a plan."""
    match = _ID.match(value or b"")
    return int(match.group(1)) if match else None


@dataclass(frozen=True)
class Plan:
    seed: int
    events: int
    partitions: int = 4
    """Partitions of the source topic."""

    def count_copies(self, event: int) -> int:
        """One for most events, and at most MAX_COPIES."""
        if self._draw_faulty(event) < 2:
            return 1
        return (1, 1, 1, 1, 1, 1, 2, 3)[self._mix(event, 1) & 7]

    def find_fault(self, event: int) -> Fault | None:
        """None for an event that must come out."""
        match self._draw_faulty(event):
            case 0:
                return INVALID_FAULTS[self._mix(event, 6) % len(INVALID_FAULTS)]
            case 1 if event >= self.events // FIRST_LATE:
                return Fault.LATE
            case _:
                return None

    def _draw_faulty(self, event: int) -> int:
        return self._mix(event, 5) % FAULTY_ONE_IN

    def find_time(self, event: int) -> datetime:
        """The event time. An invalid event without a readable time has the time that it would have as a valid one."""
        return _BEGIN + timedelta(microseconds=event * self._step) + SHIFTS.get(self.find_fault(event), timedelta())

    def build_record(self, event: int, copy: int) -> Record:
        """Copies have the same key and value. They differ in the timestamp and, mostly, in the headers."""
        headers = _HEADERS[self._mix(event, 16 + copy) % len(_HEADERS)]
        timestamp = self._begin_ms + event * self._step // 1000 + 1000 * copy
        return Record(self.find_key(event), self._build_value(event), headers, timestamp)

    def _build_value(self, event: int) -> bytes | None:
        draw, fault = self._mix(event, 2), self.find_fault(event)
        document = {
            "id": f"e{event}",
            "at": self.find_time(event).isoformat(),
            "text": _TEXTS[draw % len(_TEXTS)] * (1 + (draw >> 8) % 4),
            "n": draw >> 32,
        }
        if fault is not None:
            return build_value(document, fault, draw >> 16)
        return json.dumps(document, ensure_ascii=draw & 64 == 0).encode()

    def find_key(self, event: int) -> bytes | None:
        """The Kafka key. One event in ten has none, and a few have an empty one."""
        draw = self._mix(event, 3)
        if draw % 10 == 0:
            return None
        number = (draw >> 8) % self._keys
        return f"ключ-{number}".encode() if number else b""

    def find_partition(self, event: int, copy: int) -> int:
        """Most records are in the partition of their key. Records without a key, and every seventh, are in any
        partition."""
        draw = self._mix(event, 3)
        scattered = draw % 10 == 0 or draw % 7 == 0
        return self._mix(event, 32 + copy) % self.partitions if scattered else ((draw >> 8) % self._keys) % self.partitions

    def find_position(self, event: int, copy: int) -> int:
        """A number that grows, with gaps, in the order in which the records go in."""
        return (self._find_slot(event, copy) << 36) | (event << 4) | copy

    def _find_slot(self, event: int, copy: int) -> int:
        """The event whose first copy follows this copy."""
        if copy == 0:
            return event
        draw = self._mix(event, 64 + copy)
        farthest = max(2, self.events // COPIES_WITHIN)
        reach = (min(50, farthest), max(2, farthest // 8), farthest)[draw % 3]
        return event + 1 + (draw >> 8) % reach

    def list_all(self) -> Iterator[tuple[int, int]]:
        """All events and copies, in the order in which they go in."""
        waiting: list[tuple[int, int, int]] = []
        for event in range(self.events):
            for copy in range(1, self.count_copies(event)):
                heapq.heappush(waiting, (self.find_position(event, copy), event, copy))
            here = self.find_position(event, 0)
            while waiting and waiting[0][0] < here:
                yield heapq.heappop(waiting)[1:]
            yield event, 0
        while waiting:
            yield heapq.heappop(waiting)[1:]

    @cached_property
    def records(self) -> int:
        """The number of records that go in."""
        return sum(map(self.count_copies, range(self.events)))

    @cached_property
    def faulty(self) -> Counter[Fault]:
        """The number of records that must become dead letters, by fault."""
        faults = map(self.find_fault, range(self.events))
        return Counter(fault for fault in faults if fault is not None)

    @property
    def begin(self) -> datetime:
        """The event time of the first event."""
        return _BEGIN

    @property
    def end(self) -> datetime:
        """The event time of the event behind the last one."""
        return _BEGIN + timedelta(microseconds=self.events * self._step)

    @property
    def uniques(self) -> int:
        """The number of records that must come out."""
        return self.events - self.faulty.total()

    @cached_property
    def _step(self) -> int:
        """Microseconds of event time between two events."""
        return max(1, int(WATERMARK.total_seconds() * 1_000_000) * WATERMARKS // self.events)

    @cached_property
    def _begin_ms(self) -> int:
        return int(_BEGIN.timestamp() * 1000)

    @cached_property
    def _keys(self) -> int:
        return max(3, self.events // 100)

    def _mix(self, number: int, purpose: int) -> int:
        """64 pseudorandom bits, from the finalizer of SplitMix64."""
        x = (self.seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + purpose * 0xD1342543DE82EF95) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        return x ^ (x >> 31)


def build_plan(seed: int, records: int) -> Plan:
    """A plan with at least so many records, and at most two more."""
    plan = Plan(seed, 1)
    events = count = 0
    while count < records:
        count += plan.count_copies(events)
        events += 1
    return Plan(seed, max(1, events))
