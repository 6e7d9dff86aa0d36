"""The verdict: the whole output against the plan. Pure; takes the records one by one and remembers a byte for each event.

`letters` does the same for the dead letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from dedup_api.faults import Fault
from dedup_job.checkpoint.totals import Totals
from faults.plan import Plan, Record, find_event

_EXAMPLES = 3
_MOST = 255
"""Appearances of one event that are counted."""


@dataclass(frozen=True)
class Verdict:
    """On one topic. All counts are records, and all but `out` must be 0."""

    out: int
    missing: int
    """Events that went in for this topic and never came out of it."""
    twice: int
    """Records whose event had come out before."""
    foreign: int
    """Records of no event of the plan, or of one that belongs into the other topic."""
    changed: int
    """Records of an event of which no copy has this key, value, headers and, where it is kept, timestamp."""
    disordered: int
    """Records that came out behind a later one of the same Kafka key and source partition. Repeated ones are not looked at, nor are
    dead letters."""
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
class Tally:
    """What has been found so far, and the first examples of what must not be."""

    out: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def note(self, what: str, example: object) -> None:
        self.counts[what] += 1
        if self.counts[what] <= _EXAMPLES:
            self.examples.append(f"{what}: {example}")

    def finish(self, missing: int, examples: Iterator[Record]) -> Verdict:
        more = tuple(f"missing: {record}" for record in islice(examples, min(missing, _EXAMPLES)))
        wrong = {name: self.counts[name] for name in ("twice", "foreign", "changed", "disordered")}
        return Verdict(self.out, missing, **wrong, examples=(*self.examples, *more))


@dataclass
class Checker:
    """Takes the output in the order of each of its partitions; a Kafka key lies in one of them."""

    plan: Plan
    with_timestamps: bool = True
    """Spark's own writer cannot set them."""
    _seen: bytearray = field(init=False)
    _last: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """By Kafka key and source partition: the position of the last record."""
    _tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._seen = bytearray(self.plan.events)

    def add(self, record: Record) -> None:
        self._tally.out += 1
        event = find_event(record.value)
        if event is None or event >= self.plan.events or self.plan.find_fault(event) is not None:
            self._tally.note("foreign", record)
            return
        copies = self._list_copies(event, record)
        if not copies:
            self._tally.note("changed", record)
        if self._seen[event]:
            self._tally.note("twice", record)
        elif len(copies) == 1 and record.key is not None:
            self._check_order(event, copies[0], record)
        self._seen[event] = min(_MOST, self._seen[event] + 1)

    def _list_copies(self, event: int, record: Record) -> list[int]:
        """Those that it can be; more than one only without timestamps, and then nobody knows where it came from."""
        copies = range(self.plan.count_copies(event))
        return [copy for copy in copies if self._is_copy(self.plan.build_record(event, copy), record)]

    def _is_copy(self, planned: Record, record: Record) -> bool:
        if self.with_timestamps:
            return planned == record
        return (planned.key, planned.value, planned.headers) == (record.key, record.value, record.headers)

    def _check_order(self, event: int, copy: int, record: Record) -> None:
        assert record.key is not None
        place = (record.key, self.plan.find_partition(event, copy))
        position = self.plan.find_position(event, copy)
        if position < self._last.get(place, -1):
            self._tally.note("disordered", record)
        self._last[place] = position

    def finish(self) -> Verdict:
        missing = self._seen.count(0) - self.plan.strays.total()
        return self._tally.finish(missing, (self.plan.build_record(event, 0) for event in self._list_missing()))

    def _list_missing(self) -> Iterator[int]:
        event = self._seen.find(0)
        while event >= 0:
            if self.plan.find_fault(event) is None:
                yield event
            event = self._seen.find(0, event + 1)


def check(plan: Plan, output: Iterable[Record], with_timestamps: bool = True) -> Verdict:
    checker = Checker(plan, with_timestamps)
    for record in output:
        checker.add(record)
    return checker.finish()


def check_totals(plan: Plan, totals: Totals) -> list[str]:
    """Where the driver's own counts, over all its lives, are not those of the plan."""
    invalid = {str(fault): count for fault, count in plan.strays.items() if fault is not Fault.LATE}
    planned = {
        "rows_in": plan.records,
        "rows_out": plan.uniques,
        "unique": plan.uniques,
        "duplicates": plan.records - plan.events,
        "late": plan.strays[Fault.LATE],
        "late_emitted": 0,
        "invalid": invalid,
        "dead_letters": plan.strays.total(),
    }
    counted = {name: getattr(totals, name) for name in planned}
    return [f"the driver counts {name} {counted[name]}, planned are {planned[name]}" for name in planned if counted[name] != planned[name]]
