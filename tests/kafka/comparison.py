"""Compares what a real job did with what the model says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dedup_api.faults import Fault
from dedup_api.status import Progress
from kafka.model import MICROS, Batch, Model, Outcome, Place, Record, Rules, Verdict, write_time

NUMBER = "n"
"""The header with the number of the record among all that were sent. It tells a record from its copies."""
_DETAIL, _SOME_TEXT = "dedup-detail", b"(some text)"
"""The text of this header may change from version to version, so it is not compared."""


@dataclass(frozen=True)
class Observed:
    """The input and the output of a real job, and what its checkpoint and its status said."""

    topic: str
    source: list[Record]
    """All records of the source topic, in the order of each partition."""
    output: list[Record]
    dead_letters: list[Record]
    batches: list[Batch]
    watermarks: dict[int, int]
    """By batch: the watermark that it was committed with."""
    progress: list[Progress]
    """From the driver's status, read at moments when the driver had read all records that were sent."""


@dataclass
class _Totals:
    """The totals of all batches so far."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    faults: Counter[Fault] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.verdicts.update(outcome.verdicts.values())
        self.faults.update(outcome.faults.values())

    def build_progress(self, batch: int, outcome: Outcome) -> dict[str, object]:
        found = self.verdicts
        return {
            "batch": batch,
            "watermark": None if outcome.watermark == 0 else write_time(outcome.watermark * MICROS),
            "rows_in": found.total(),
            "rows_out": found[Verdict.UNIQUE],
            "unique": found[Verdict.UNIQUE],
            "duplicates": found[Verdict.DUPLICATE],
            "late": found[Verdict.LATE],
            "late_emitted": 0,
            "invalid": found[Verdict.INVALID],
            "invalid_by_reason": {fault: count for fault, count in self.faults.items() if fault is not Fault.LATE},
            "dead_letters": found[Verdict.LATE] + found[Verdict.INVALID],
            "state_rows": outcome.held,
        }


def compare(observed: Observed, rules: Rules) -> list[str]:
    """One sentence for each disagreement of job and model. The job must write dead letters for late and invalid
    records."""
    by_number = {get_number(record): record for record in observed.source}
    out = Counter(get_number(record) for record in observed.output)
    seen = {by_number[number].place for number in out}
    model, totals, wrong = Model(rules), _Totals(), _find_gaps(observed)
    unique: set[Place] = set()
    dead: list[Record] = []
    progress: dict[int, dict[str, object]] = {}
    for batch in observed.batches:
        records = [record for record in observed.source if batch.holds(record.place)]
        before, outcome = model.watermark, model.take(batch, records, seen)
        totals.add(outcome)
        progress[batch.number] = totals.build_progress(batch.number, outcome)
        unique |= {place for place, verdict in outcome.verdicts.items() if verdict is Verdict.UNIQUE}
        dead += [build_dead_letter(record, outcome, observed.topic) for record in records if record.place in outcome.faults]
        wrong += _find_wrong_outcome(batch, before, outcome, observed, seen)
    wrong += [f"record {number} came out {count} times" for number, count in out.items() if count > 1]
    wrong += [f"{record} did not come out" for record in observed.source if record.place in unique - seen]
    wrong += [f"{record} came out changed" for record in observed.output if _strip(record) != _strip(by_number[get_number(record)])]
    wrong += _find_wrong_letters(observed.dead_letters, dead)
    for found in observed.progress:
        expected = progress[found.batch if found.batch is not None else -1]
        said = {name: getattr(found, name) for name in expected}
        wrong += [
            f"progress after batch {found.batch}: {name} is {said[name]}, not {expected[name]}"
            for name in said
            if said[name] != expected[name]
        ]
    return wrong


def _find_gaps(observed: Observed) -> list[str]:
    numbers = [batch.number for batch in observed.batches]
    assert numbers == list(range(len(numbers))), f"the offset log was read with gaps: {numbers}"
    read = sum(batch.count() for batch in observed.batches)
    return [] if read == len(observed.source) else [f"{read} records of {len(observed.source)} were read"]


def _find_wrong_outcome(batch: Batch, before: int, outcome: Outcome, observed: Observed, seen: set[Place]) -> list[str]:
    where = f"batch {batch.number} (late up to {outcome.late_up_to})"
    wrong = []
    for place, verdict in outcome.verdicts.items():
        if place in seen and verdict is not Verdict.UNIQUE:
            why = outcome.faults.get(place, "a copy of it is remembered or came out")
            wrong.append(f"{where}: the record at {place}, time {outcome.times.get(place)}, came out, and is {verdict} ({why})")
    if batch.watermark != before:
        wrong.append(f"{where}: planned with the watermark {batch.watermark}, not {before}")
    found = observed.watermarks.get(batch.number)
    if found != outcome.watermark:
        wrong.append(f"{where}: committed with the watermark {found}, not {outcome.watermark}")
    return wrong


def _find_wrong_letters(found: Iterable[Record], expected: Iterable[Record]) -> list[str]:
    written, wanted = Counter(_strip(record) for record in found), Counter(_strip(record) for record in expected)
    missing = [f"the dead letter is missing: {letter}" for letter in wanted - written]
    return missing + [f"the dead letter is unexpected: {letter}" for letter in written - wanted]


def build_dead_letter(record: Record, outcome: Outcome, topic: str) -> Record:
    """The dead letter that `docs/records.md` promises."""
    time = outcome.times.get(record.place)
    texts = {
        "dedup-reason": outcome.faults[record.place],
        _DETAIL: _SOME_TEXT.decode(),
        "dedup-source-topic": topic,
        "dedup-source-partition": str(record.partition),
        "dedup-source-offset": str(record.offset),
        "dedup-event-time": None if time is None else write_time(time),
        "dedup-watermark": None if outcome.late_up_to == 0 else write_time(outcome.late_up_to * MICROS),
    }
    more = tuple((name, text.encode()) for name, text in texts.items() if text is not None)
    own = tuple((f"original-{name}" if name in texts else name, value) for name, value in record.headers)
    return Record(record.partition, record.offset, record.stamp, record.key, record.value, own + more)


def _strip(record: Record) -> tuple[object, ...]:
    """The record without its place and without the text of its detail."""
    headers = tuple((name, _SOME_TEXT if name == _DETAIL and value else value) for name, value in record.headers)
    return record.stamp, record.key, record.value, headers


def get_number(record: Record) -> int:
    [number] = [value for name, value in record.headers if name == NUMBER]
    return int(number or b"")
