"""Compares the dead letters with the plan: each faulty record must be there once, unchanged, with the headers that
`docs/records.md` promises. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dedup_api.faults import Fault
from faults.faulty_records import SHIFTS
from faults.output_check import Tally, Verdict
from faults.plan import WATERMARK, Header, Plan, Record

Place = tuple[int, int]
"""Source partition and offset."""

_PREFIX = "dedup-"
_ALWAYS = ("reason", "detail", "source-topic", "source-partition", "source-offset")
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


def find_places(plan: Plan) -> dict[Place, int]:
    """The place of each faulty record in the source topic. The topic holds the plan's records once, in the plan's
    order."""
    ends = [0] * plan.partitions
    places: dict[Place, int] = {}
    for event, copy in plan.list_all():
        partition = plan.find_partition(event, copy)
        if plan.find_fault(event) is not None:
            places[partition, ends[partition]] = event
        ends[partition] += 1
    return places


def build_time(moment: datetime) -> bytes:
    """RFC 3339 in UTC, truncated to milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


@dataclass
class DeadLetterChecker:
    """Takes the dead letters in any order. The place in its headers says which event a dead letter is of."""

    plan: Plan
    source_topic: str
    with_timestamps: bool = True
    _places: dict[Place, int] = field(init=False)
    _seen: set[int] = field(default_factory=set)
    _tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._places = find_places(self.plan)

    def add(self, record: Record) -> None:
        self._tally.out += 1
        own, added = split_headers(record.headers)
        place = read_place(added)
        event = None if place is None else self._places.get(place)
        if event is None:
            self._tally.add("unexpected", record)
            return
        if event in self._seen:
            self._tally.add("repeated", record)
        self._seen.add(event)
        planned = self.plan.build_record(event, 0)
        wrong = [*self._compare(planned, record, own), *self._compare_added(event, added)]
        if wrong:
            self._tally.add("changed", f"{', '.join(wrong)} of {record}, planned as {planned}")

    def _compare(self, planned: Record, record: Record, own: tuple[Header, ...]) -> Iterator[str]:
        if planned.key != record.key:
            yield "key"
        if planned.value != record.value:
            yield "value"
        if planned.headers != own:
            yield "headers"
        if self.with_timestamps and planned.timestamp != record.timestamp:
            yield "timestamp"

    def _compare_added(self, event: int, added: tuple[Header, ...]) -> Iterator[str]:
        """The names of added headers that are wrong, unexpected or missing."""
        fault = self.plan.find_fault(event)
        assert fault is not None
        expected = {"reason": str(fault).encode(), "source-topic": self.source_topic.encode()}
        if fault in SHIFTS:
            expected["event-time"] = build_time(self.plan.find_time(event))
        found = {name.removeprefix(_PREFIX): value or b"" for name, value in added}
        # The first batches have no watermark. A late record never is in one of them, another record may be.
        has_watermark = fault is Fault.LATE or "watermark" in found
        names = [*_ALWAYS, *(["event-time"] if fault in SHIFTS else []), *(["watermark"] if has_watermark else [])]
        if [name for name, _ in added] != [_PREFIX + name for name in names]:
            yield "names of added headers"
            return
        yield from (_PREFIX + name for name, value in expected.items() if found[name] != value)
        if not found["detail"]:
            yield "dedup-detail"
        if has_watermark and not self._is_watermark(found["watermark"], found.get("event-time"), fault):
            yield "dedup-watermark"

    def _is_watermark(self, watermark: bytes, event_time: bytes | None, fault: Fault) -> bool:
        """The watermark is below the newest event time minus the delay, and not below the event time of a late
        record."""
        is_reached = fault is not Fault.LATE or event_time is None or event_time <= watermark
        return _TIME.fullmatch(watermark) is not None and watermark <= build_time(self.plan.end - WATERMARK) and is_reached

    def finish(self) -> Verdict:
        missing = set(self._places.values()) - self._seen
        return self._tally.finish(len(missing), (self.plan.build_record(event, 0) for event in sorted(missing)))


def split_headers(headers: tuple[Header, ...]) -> tuple[tuple[Header, ...], tuple[Header, ...]]:
    """The headers that the record had, and those that the driver has added behind them."""
    first = next((index for index, (name, _) in enumerate(headers) if name.startswith(_PREFIX)), len(headers))
    return headers[:first], headers[first:]


def read_place(added: tuple[Header, ...]) -> Place | None:
    found = dict(added)
    try:
        return int(found[f"{_PREFIX}source-partition"] or b""), int(found[f"{_PREFIX}source-offset"] or b"")
    except (KeyError, ValueError):
        return None


def check_dead_letters(plan: Plan, letters: Iterable[Record], source_topic: str, with_timestamps: bool = True) -> Verdict:
    checker = DeadLetterChecker(plan, source_topic, with_timestamps)
    for record in letters:
        checker.add(record)
    return checker.finish()
