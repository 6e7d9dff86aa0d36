"""What a job must do with every record, in plain Python: written from the documentation and not from the driver's code.

Event time in the payload, key in fields of it, one JSON object per record. Two things it cannot know, and is told. Where a batch begins and
ends, and when it was planned, is Spark's to choose: the offset log says it. And which copy of a key comes out, where a batch holds several:
they meet in a shuffle. Copies may have different times, so what was chosen decides how long the key is remembered; the model takes the
copy that was seen to come out, for this and for nothing else. Streams in which copies always had the same time would not need to be told,
but in a backlog nobody knows beforehand which copies share a batch, and an event that comes again later is what expiry is about.

Event times are microseconds since 1970, all other times milliseconds.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from dedup_api.faults import Fault
from dedup_api.status import Progress
from kafka.reference import Number, encode_key, encode_part, find, hash_text, read_object

MICROS = 1000
"""Of a millisecond."""
CARRIED = 15
"""Times of a partition before the batch that count to its middle, as far as the same process has read them."""

Place = tuple[int, int]
"""Partition and offset."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999."""
_ISO8601 = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?(Z|[+-]\d\d:\d\d)?")
_DIGITS = re.compile(r"-?\d{1,15}(\.\d{1,6})?")
_EPOCH_FORMATS = {"EpochMillis": 1000, "EpochSeconds": 1_000_000}
"""Microseconds of each one's unit."""


@dataclass(frozen=True)
class Rules:
    """What of a job's settings decides about records."""

    key_fields: tuple[str, ...]
    time_field: str
    time_format: str
    delay: int
    """spec.watermark."""
    skew: int
    """spec.eventTime.maxFutureSkew."""


@dataclass(frozen=True)
class Record:
    partition: int
    offset: int
    stamp: int
    """Kafka timestamp."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, str | bytes | None], ...] = ()

    @property
    def place(self) -> Place:
        return self.partition, self.offset


@dataclass(frozen=True)
class Batch:
    """As the offset log has it."""

    number: int
    starts: dict[int, int]
    ends: dict[int, int]
    """By partition: the first offset that it does not read."""
    time: int
    watermark: int
    """What the job says that it was when the batch was planned; only to be compared."""
    most: int
    """spec.source.maxOffsetsPerTrigger of the process that ran it."""
    is_first: bool
    """Of its process, so that it may have been planned by another, with another `most`."""

    def list_read(self) -> list[int]:
        return [partition for partition, end in self.ends.items() if end > self.starts.get(partition, 0)]

    def holds(self, place: Place) -> bool:
        partition, offset = place
        return self.starts.get(partition, 0) <= offset < self.ends.get(partition, 0)

    def count(self) -> int:
        return sum(self.ends[partition] - self.starts.get(partition, 0) for partition in self.list_read())


class Verdict(StrEnum):
    UNIQUE = "unique"
    DUPLICATE = "duplicate"
    LATE = "late"
    INVALID = "invalid"


@dataclass(frozen=True)
class Read:
    """What a record says, without regard to others."""

    fault: Fault | None
    key: bytes
    time: int | None


@dataclass
class Outcome:
    """Of one batch."""

    late_up_to: int
    """0 before there is a watermark."""
    verdicts: dict[Place, Verdict] = field(default_factory=dict)
    faults: dict[Place, Fault] = field(default_factory=dict)
    """Of the late and the invalid ones."""
    times: dict[Place, int] = field(default_factory=dict)
    """Event times of those that have one, invalid or not."""
    came_out: dict[bytes, list[Place]] = field(default_factory=dict)
    """Keys that were not remembered, and the copies of each, of which exactly one comes out."""
    watermark: int = 0
    """After it."""
    held: int = 0
    """Keys remembered after it. A faulty record is one too, for as long as the watermark has not passed the delay after 1970."""

    def count(self, verdict: Verdict) -> int:
        return sum(found is verdict for found in self.verdicts.values())


@dataclass
class Model:
    """One job on one checkpoint, batch by batch."""

    rules: Rules
    watermark: int = 0
    """As the next batch finds it: keys expire by it."""
    _late_up_to: int = 0
    """As the batch before found it: records of the next one are late by it."""
    _expiries: dict[bytes, int] = field(default_factory=dict)
    _before: dict[int, deque[int]] = field(default_factory=dict)

    def take(self, batch: Batch, records: Sequence[Record], seen: Container[Place]) -> Outcome:
        """`records`: all of the batch, of each partition in order. `seen`: records that were seen to come out."""
        if batch.is_first:
            self._before = {}
        outcome = Outcome(self._late_up_to)
        reads = {record.place: self._read(record, batch, outcome.late_up_to) for record in records}
        for place, read in reads.items():
            self._judge(place, read, outcome)
        self._choose(outcome, reads, seen)
        self._expiries = {key: expiry for key, expiry in self._expiries.items() if expiry > self.watermark * MICROS}
        self._late_up_to, self.watermark = self.watermark, self._decide_watermark(batch, records, reads)
        outcome.watermark, outcome.held = self.watermark, len(self._expiries)
        return outcome

    def _read(self, record: Record, batch: Batch, late_up_to: int) -> Read:
        read = read_record(record, self.rules)
        if read.fault is None and read.time is not None:
            if read.time > (latest(record, batch) + self.rules.skew) * MICROS:
                return Read(Fault.TIME_IN_FUTURE, own_key(record), read.time)
            if read.time <= late_up_to * MICROS:
                return Read(Fault.LATE, own_key(record), read.time)
        return read

    def _judge(self, place: Place, read: Read, outcome: Outcome) -> None:
        if read.time is not None:
            outcome.times[place] = read.time
        if read.fault is not None:
            outcome.faults[place] = read.fault
            outcome.verdicts[place] = Verdict.LATE if read.fault is Fault.LATE else Verdict.INVALID
            self._expiries[read.key] = self.rules.delay * MICROS
        elif read.key in self._expiries:
            outcome.verdicts[place] = Verdict.DUPLICATE
        else:
            outcome.came_out.setdefault(read.key, []).append(place)

    def _choose(self, outcome: Outcome, reads: dict[Place, Read], seen: Container[Place]) -> None:
        for key, copies in outcome.came_out.items():
            chosen = next((place for place in copies if place in seen), copies[0])
            outcome.verdicts.update(dict.fromkeys(copies, Verdict.DUPLICATE))
            outcome.verdicts[chosen] = Verdict.UNIQUE
            self._expiries[key] = (reads[chosen].time or 0) + self.rules.delay * MICROS

    def _decide_watermark(self, batch: Batch, records: Sequence[Record], reads: dict[Place, Read]) -> int:
        newest, middles = [], []
        times: dict[int, list[int]] = {}
        for record in records:
            read = reads[record.place]
            if read.fault in (None, Fault.LATE) and read.time is not None:
                times.setdefault(record.partition, []).append(min(read.time, latest(record, batch) * MICROS))
        for partition, found in times.items():
            before = self._before.setdefault(partition, deque(maxlen=CARRIED))
            known = sorted([*before, *found])
            newest.append(max(found))
            middles.append(known[(len(known) - 1) // 2])
            before.extend(found)
        if batch.is_first or batch.count() >= batch.most - len(batch.ends):  # it may have left records behind
            front = min(middles) if set(batch.list_read()) <= set(times) else None
        else:
            front = max(newest, default=None)
        return self.watermark if front is None else max(self.watermark, front // MICROS - self.rules.delay)


def latest(record: Record, batch: Batch) -> int:
    """When the record is known to have been there."""
    return min(record.stamp, batch.time)


def own_key(record: Record) -> bytes:
    return hash_text(f"x{record.partition}:{record.offset}".encode())


def read_record(record: Record, rules: Rules) -> Read:
    """Key and time, or the first fault of those that a record has by itself."""
    document = read_object(record.value)
    fault = _find_key_fault(record.value, document, rules) or _find_time_fault(document, rules)
    if fault is not None:
        return Read(fault, own_key(record), None)
    text = encode_key(record.value, list(rules.key_fields))
    assert text is not None
    return Read(None, hash_text(text), _parse_time(find(document, rules.time_field), rules.time_format))


def _find_key_fault(value: bytes | None, document: dict[str, Any] | None, rules: Rules) -> Fault | None:
    if value is None:
        return Fault.TOMBSTONE
    try:
        value.decode()
    except UnicodeDecodeError:
        return Fault.NOT_UTF8
    if document is None:
        return Fault.NOT_JSON
    for name in rules.key_fields:
        part = find(document, name)
        if encode_part(part) is None:
            return Fault.KEY_MISSING if part is None else Fault.KEY_EMPTY if part == "" else Fault.KEY_UNREADABLE
    return None


def _find_time_fault(document: dict[str, Any] | None, rules: Rules) -> Fault | None:
    time = find(document, rules.time_field)
    if time is None:
        return Fault.TIME_MISSING
    return Fault.TIME_UNREADABLE if _parse_time(time, rules.time_format) is None else None


def _parse_time(value: Any, form: str) -> int | None:
    """Of what Spark takes for ISO 8601 only the common part."""
    text = value.literal if isinstance(value, Number) else value
    if not isinstance(text, str):
        return None
    if form in _EPOCH_FORMATS:
        micros = int(Decimal(text) * _EPOCH_FORMATS[form]) if _DIGITS.fullmatch(text) else None
        return micros if micros is not None and _FIRST <= micros <= _LAST else None
    if not _ISO8601.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


NUMBER = "n"
"""The header that tells a record from its copies: its number among all that were sent."""
_DETAIL, _SOME_TEXT = "dedup-detail", b"(some text)"
"""Its words may change from version to version."""


@dataclass(frozen=True)
class Observed:
    """What a real job did."""

    topic: str
    source: list[Record]
    """What it was given, of each partition in order."""
    output: list[Record]
    dead_letters: list[Record]
    batches: list[Batch]
    watermarks: dict[int, int]
    """By batch: what it was committed with."""
    progress: list[Progress]
    """From its status, at moments when all that was sent had been read."""


@dataclass
class _Totals:
    """Of all batches so far."""

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
    """Where job and model disagree, a sentence each. Both dead letters are on: `onLate` and `onInvalid`."""
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
    there, wanted = Counter(_strip(record) for record in found), Counter(_strip(record) for record in expected)
    return [f"no dead letter {letter}" for letter in wanted - there] + [f"dead letter too many: {letter}" for letter in there - wanted]


def build_dead_letter(record: Record, outcome: Outcome, topic: str) -> Record:
    """As `docs/records.md` has it."""
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
    return Record(record.partition, record.offset, record.stamp, record.key, record.value, record.headers + more)


def _strip(record: Record) -> tuple[object, ...]:
    """Without its place and the words of its detail."""
    headers = tuple((name, _SOME_TEXT if name == _DETAIL and value else value) for name, value in record.headers)
    return record.stamp, record.key, record.value, headers


def get_number(record: Record) -> int:
    [number] = [value for name, value in record.headers if name == NUMBER]
    return int(number or b"")


def write_time(micros: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
