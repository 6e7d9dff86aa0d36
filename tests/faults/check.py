"""The verdict: the whole output against the plan. Pure; takes the records one by one and remembers a byte for each event."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from faults.plan import Plan, Record, find_event

_EXAMPLES = 3
_MOST = 255
"""Appearances of one event that are counted."""


@dataclass(frozen=True)
class Verdict:
    """All counts are records, and all but `out` must be 0."""

    out: int
    missing: int
    """Events that went in and never came out."""
    twice: int
    """Records whose event had come out before."""
    foreign: int
    """Records of no event of the plan."""
    changed: int
    """Records of an event of which no copy has this key, value, headers and, where it is kept, timestamp."""
    disordered: int
    """Records that came out behind a later one of the same Kafka key and source partition. Repeated ones are not looked at."""
    examples: tuple[str, ...] = ()

    @property
    def failures(self) -> list[str]:
        counts = {
            "missing": self.missing,
            "twice": self.twice,
            "foreign": self.foreign,
            "changed": self.changed,
            "out of order": self.disordered,
        }
        return [f"{count:,} {what}" for what, count in counts.items() if count]


@dataclass
class Checker:
    """Takes the output in the order of each of its partitions; a Kafka key lies in one of them."""

    plan: Plan
    with_timestamps: bool = True
    """Spark's own writer cannot set them."""
    _seen: bytearray = field(init=False)
    _last: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """By Kafka key and source partition: the position of the last record."""
    _counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("out", "twice", "foreign", "changed", "disordered"), 0))
    _examples: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._seen = bytearray(self.plan.events)

    def add(self, record: Record) -> None:
        self._counts["out"] += 1
        event = find_event(record.value)
        if event is None or event >= self.plan.events:
            self._note("foreign", record)
            return
        copy = self._find_copy(event, record)
        if copy is None:
            self._note("changed", record)
        if self._seen[event]:
            self._note("twice", record)
        elif copy is not None and record.key is not None:
            self._check_order(event, copy, record)
        self._seen[event] = min(_MOST, self._seen[event] + 1)

    def _find_copy(self, event: int, record: Record) -> int | None:
        copies = range(self.plan.count_copies(event))
        return next((copy for copy in copies if self._is_copy(self.plan.build_record(event, copy), record)), None)

    def _is_copy(self, planned: Record, record: Record) -> bool:
        if self.with_timestamps:
            return planned == record
        return (planned.key, planned.value, planned.headers) == (record.key, record.value, record.headers)

    def _check_order(self, event: int, copy: int, record: Record) -> None:
        assert record.key is not None
        place = (record.key, self.plan.find_partition(event, copy))
        position = self.plan.find_position(event, copy)
        if position < self._last.get(place, -1):
            self._note("disordered", record)
        self._last[place] = position

    def _note(self, what: str, record: Record) -> None:
        self._counts[what] += 1
        if self._counts[what] <= _EXAMPLES:
            self._examples.append(f"{what}: {record}")

    def finish(self) -> Verdict:
        missing = self._seen.count(0)
        where = -1
        for _ in range(min(missing, _EXAMPLES)):
            where = self._seen.index(0, where + 1)
            self._examples.append(f"missing: {self.plan.build_record(where, 0)}")
        return Verdict(missing=missing, examples=tuple(self._examples), **self._counts)


def check(plan: Plan, output: Iterable[Record], with_timestamps: bool = True) -> Verdict:
    checker = Checker(plan, with_timestamps)
    for record in output:
        checker.add(record)
    return checker.finish()
