"""Compares the whole output with the plan. Pure; it takes the records one by one and keeps one byte for each event.

`dead_letter_check` does the same for the dead letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType

from dedup_api.faults import Fault
from dedup_job.checkpoint.totals import Totals
from faults.plan import Plan, Record, find_event

_EXAMPLES = 3
_MAX_COUNT = 255
"""Further appearances of one event are not counted."""


@dataclass(frozen=True)
class Verdict:
    """The result for one topic. All counts are records, and all except `out` must be 0."""

    out: int
    missing: int
    """Events of this topic that never came out."""
    repeated: int
    """Records whose event had come out before."""
    unexpected: int
    """Records without an event in the plan, or whose event belongs to the other topic."""
    changed: int
    """Records whose event has no copy with this key, value, headers and, where the delivery keeps it, timestamp."""
    out_of_order: int
    """Records that came out after a later one of the same Kafka key and source partition. Repeated records and dead
    letters are not checked for this."""
    examples: tuple[str, ...] = ()

    @property
    def failures(self) -> list[str]:
        counts = {
            "missing": self.missing,
            "repeated": self.repeated,
            "unexpected": self.unexpected,
            "changed": self.changed,
            "out of order": self.out_of_order,
        }
        return [f"{count:,} {what}" for what, count in counts.items() if count]


@dataclass
class Tally:
    """The counts so far, and the first examples of each kind of mistake."""

    out: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, what: str, example: object) -> None:
        self.counts[what] += 1
        if self.counts[what] <= _EXAMPLES:
            self.examples.append(f"{what}: {example}")

    def finish(self, missing: int, examples: Iterator[Record]) -> Verdict:
        more = tuple(f"missing: {record}" for record in islice(examples, min(missing, _EXAMPLES)))
        wrong = {name: self.counts[name] for name in ("repeated", "unexpected", "changed", "out_of_order")}
        return Verdict(self.out, missing, **wrong, examples=(*self.examples, *more))


@dataclass
class OutputChecker:
    """Takes the output in the order of each partition. All records of a Kafka key are in one partition."""

    plan: Plan
    with_timestamps: bool = True
    """False for AtLeastOnce, because Spark's own writer cannot set timestamps."""
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
            self._tally.add("unexpected", record)
            return
        copies = self._list_copies(event, record)
        if not copies:
            self._tally.add("changed", record)
        if self._seen[event]:
            self._tally.add("repeated", record)
        elif len(copies) == 1 and record.key is not None:
            self._check_order(event, copies[0], record)
        self._seen[event] = min(_MAX_COUNT, self._seen[event] + 1)

    def _list_copies(self, event: int, record: Record) -> list[int]:
        """The copies that the record can be. Without timestamps there may be several."""
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
            self._tally.add("out_of_order", record)
        self._last[place] = position

    def finish(self) -> Verdict:
        missing = self._seen.count(0) - self.plan.faulty.total()
        return self._tally.finish(missing, (self.plan.build_record(event, 0) for event in self._list_missing()))

    def _list_missing(self) -> Iterator[int]:
        event = self._seen.find(0)
        while event >= 0:
            if self.plan.find_fault(event) is None:
                yield event
            event = self._seen.find(0, event + 1)


def check_output(plan: Plan, output: Iterable[Record], with_timestamps: bool = True) -> Verdict:
    checker = OutputChecker(plan, with_timestamps)
    for record in output:
        checker.add(record)
    return checker.finish()


def check_totals(plan: Plan, totals: Totals, extra: Mapping[str, int] = MappingProxyType({})) -> list[str]:
    """One sentence for each total of the driver that is not the plan's plus `extra`. The totals count all runs of the
    driver."""
    invalid = {str(fault): count for fault, count in plan.faulty.items() if fault is not Fault.LATE}
    planned = {
        "rows_in": plan.records + extra.get("rows_in", 0),
        "rows_out": plan.uniques + extra.get("rows_out", 0),
        "unique": plan.uniques + extra.get("unique", 0),
        "duplicates": plan.records - plan.events + extra.get("duplicates", 0),
        "late": plan.faulty[Fault.LATE],
        "late_emitted": 0,
        "invalid": invalid,
        "dead_letters": plan.faulty.total(),
    }
    counted = {name: getattr(totals, name) for name in planned}
    return [
        f"the driver counts {name} {counted[name]}, and the plan has {planned[name]}" for name in planned if counted[name] != planned[name]
    ]
