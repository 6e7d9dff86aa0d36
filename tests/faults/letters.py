"""The verdict on the dead letters: each stray of the plan once, as it came, with headers that say what it is and where it was. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dedup_api.faults import Fault
from faults.check import Tally, Verdict
from faults.plan import WATERMARK, Header, Plan, Record
from faults.strays import SHIFTS

Place = tuple[int, int]
"""Source partition and offset."""

_PREFIX = "dedup-"
_ALWAYS = ("reason", "detail", "source-topic", "source-partition", "source-offset")
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


def find_places(plan: Plan) -> dict[Place, int]:
    """Where each stray lies in the source topic, which holds every record of the plan once and in its order, and nothing else."""
    ends = [0] * plan.partitions
    places: dict[Place, int] = {}
    for event, copy in plan.list_all():
        partition = plan.find_partition(event, copy)
        if plan.find_fault(event) is not None:
            places[partition, ends[partition]] = event
        ends[partition] += 1
    return places


def build_time(moment: datetime) -> bytes:
    """RFC 3339 in UTC, cut off to milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


@dataclass
class LetterChecker:
    """Takes the dead letters in any order. Which event one is of is told by the place that it says it comes from."""

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
            self._tally.note("foreign", record)
            return
        if event in self._seen:
            self._tally.note("twice", record)
        self._seen.add(event)
        planned = self.plan.build_record(event, 0)
        wrong = [*self._compare(planned, record, own), *self._compare_added(event, added)]
        if wrong:
            self._tally.note("changed", f"{', '.join(wrong)} of {record}, planned as {planned}")

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
        """The names of headers that are wrong, too many or missing."""
        fault = self.plan.find_fault(event)
        assert fault is not None
        expected = {"reason": str(fault).encode(), "source-topic": self.source_topic.encode()}
        if fault in SHIFTS:
            expected["event-time"] = build_time(self.plan.find_time(event))
        found = {name.removeprefix(_PREFIX): value or b"" for name, value in added}
        # The first batches have no watermark, and only what is late is sure to come behind them.
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
        """It stays behind all event times, and that of a late record is not before its own."""
        is_reached = fault is not Fault.LATE or event_time is None or event_time <= watermark
        return _TIME.fullmatch(watermark) is not None and watermark <= build_time(self.plan.end - WATERMARK) and is_reached

    def finish(self) -> Verdict:
        missing = set(self._places.values()) - self._seen
        return self._tally.finish(len(missing), (self.plan.build_record(event, 0) for event in sorted(missing)))


def split_headers(headers: tuple[Header, ...]) -> tuple[tuple[Header, ...], tuple[Header, ...]]:
    """The record's own, and those that were added behind them."""
    first = next((index for index, (name, _) in enumerate(headers) if name.startswith(_PREFIX)), len(headers))
    return headers[:first], headers[first:]


def read_place(added: tuple[Header, ...]) -> Place | None:
    found = dict(added)
    try:
        return int(found[f"{_PREFIX}source-partition"] or b""), int(found[f"{_PREFIX}source-offset"] or b"")
    except (KeyError, ValueError):
        return None


def check_letters(plan: Plan, letters: Iterable[Record], source_topic: str, with_timestamps: bool = True) -> Verdict:
    checker = LetterChecker(plan, source_topic, with_timestamps)
    for record in letters:
        checker.add(record)
    return checker.finish()
