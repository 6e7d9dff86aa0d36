"""A model in plain Python of what a job must do with every record. It is written from the documentation, not from the
driver's code.

It knows one kind of job: one JSON object per record, with the event time and the key in its fields. The model is given
two things that it cannot know. Spark chooses where a batch starts and ends, and when it is planned; the offset log says
so. And where a batch holds several copies of a key, a shuffle decides which of them comes out. Copies may have
different times, and the time of that copy decides how long the key is remembered. For this purpose alone the model uses
the copy that came out.

Event times are microseconds since 1970. All other times are milliseconds.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from dedup_api.faults import Fault
from kafka.reference import Number, encode_headers, encode_key, encode_part, find, find_header, hash_text, read_object

MICROS = 1000
"""Microseconds in a millisecond."""
FIRST_STAMP = 946_684_800_000
"""2000-01-01."""
CARRIED = 15
"""The middle time of a partition counts so many times before the batch, if the same process has read them."""

Place = tuple[int, int]
"""Partition and offset."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999."""
_ISO8601 = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?(Z|[+-]\d\d:\d\d)?")
_DIGITS = re.compile(r"-?\d{1,22}(\.\d{1,6})?")
_EPOCH_FORMATS = {
    "EpochNanos": Decimal("0.001"),
    "EpochMicros": Decimal(1),
    "EpochMillis": Decimal(1000),
    "EpochSeconds": Decimal(1_000_000),
}
"""Microseconds in the unit of each format."""


@dataclass(frozen=True)
class Rules:
    """The settings of a job that decide the outcome of a record."""

    key_fields: tuple[str, ...]
    time_field: str
    time_format: str
    delay: int
    """spec.watermark."""
    skew: int
    """spec.eventTime.maxFutureSkew."""
    tombstones_pass: bool = False
    """spec.onTombstone is Pass."""
    framed: bool = False
    """spec.framing is SchemaRegistry."""
    in_headers: bool = False
    """Key and event time come from the headers `id` and `at`."""


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
    """A batch as the offset log describes it."""

    number: int
    starts: dict[int, int]
    ends: dict[int, int]
    """By partition: the first offset that the batch does not read."""
    time: int
    watermark: int
    """The watermark in the offset log, to be compared with the model's."""
    most: int
    """spec.source.maxOffsetsPerTrigger of the process that ran it."""
    is_first: bool
    """Whether it is the first batch of its process. Then another process may have planned it, with another `most`."""

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
    """Fault, key and time of a record, without regard to other records."""

    fault: Fault | None
    key: bytes
    time: int | None
    passes: bool = False
    """A tombstone that comes out whatever it is."""
    stored: int = 0
    """Of such a tombstone: when it was stored or read, whichever is earlier."""


@dataclass
class Outcome:
    """The outcome of one batch."""

    late_up_to: int
    """0 before there is a watermark."""
    verdicts: dict[Place, Verdict] = field(default_factory=dict)
    faults: dict[Place, Fault] = field(default_factory=dict)
    """The faults of late and invalid records."""
    times: dict[Place, int] = field(default_factory=dict)
    """The event times of all records that have one, also of invalid ones."""
    came_out: dict[bytes, list[Place]] = field(default_factory=dict)
    """By key that was not remembered: its copies in the batch, of which exactly one comes out."""
    watermark: int = 0
    """After the batch."""
    held: int = 0
    """How many keys are remembered after the batch. Each faulty record adds a key of its own, which expires when the
    watermark passes 1970 plus the delay."""

    def count(self, verdict: Verdict) -> int:
        return sum(found is verdict for found in self.verdicts.values())


@dataclass
class Model:
    """One job on one checkpoint. It takes one batch after the other."""

    rules: Rules
    watermark: int = 0
    """The watermark for the next batch, by which keys expire."""
    _late_up_to: int = 0
    """The watermark of the batch before, by which records of the next batch are late."""
    _expiries: dict[bytes, int] = field(default_factory=dict)
    _before: dict[int, deque[int]] = field(default_factory=dict)

    def take(self, batch: Batch, records: Sequence[Record], seen: Container[Place]) -> Outcome:
        """`records`: all records of the batch, in the order of each partition. `seen`: the records that came out."""
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
        if record.value is None and self.rules.tombstones_pass:
            return Read(None, own_key(record), None, passes=True, stored=latest(record, batch))
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
        elif read.passes:
            outcome.verdicts[place] = Verdict.UNIQUE
            self._expiries[read.key] = max(read.stored, outcome.late_up_to + 1) * MICROS + self.rules.delay * MICROS
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
        if batch.is_first or batch.count() >= batch.most - len(batch.ends):  # more records may wait behind the batch
            front = min(middles) if set(batch.list_read()) <= set(times) else None
        else:
            front = max(newest, default=None)
        return self.watermark if front is None else max(self.watermark, front // MICROS - self.rules.delay)


def latest(record: Record, batch: Batch) -> int:
    """The latest time at which the record can have been stored. A Kafka timestamp before 2000 says nothing."""
    return min(record.stamp, batch.time) if record.stamp >= FIRST_STAMP else batch.time


def own_key(record: Record) -> bytes:
    return hash_text(f"x{record.partition}:{record.offset}".encode())


def read_record(record: Record, rules: Rules) -> Read:
    """The key and the time of the record, or its first fault. Faults that depend on other records or on the clock
    come later."""
    if rules.in_headers:
        return _read_headers(record, rules)
    value = record.value[5:] if rules.framed and record.value and record.value[0] == 0 else record.value
    document = read_object(value)
    fault = _find_key_fault(value, document, rules) or _find_time_fault(document, rules)
    if fault is not None:
        return Read(fault, own_key(record), None)
    text = encode_key(value, list(rules.key_fields))
    assert text is not None
    return Read(None, hash_text(text), _parse_time(find(document, rules.time_field), rules.time_format))


def _read_headers(record: Record, rules: Rules) -> Read:
    headers = [(name, value.encode() if isinstance(value, str) else value) for name, value in record.headers]
    text, at = encode_headers(headers, ["id"], tombstone=record.value is None), find_header(headers, "at")
    identifier = find_header(headers, "id")
    fault = _find_bytes_fault(record.value, read_object(record.value)) if record.value is not None else None
    if fault is None and text is None:
        fault = Fault.KEY_MISSING if identifier is None else Fault.KEY_EMPTY
    if fault is None and at is None:
        fault = Fault.TIME_MISSING
    try:
        time = None if at is None else _parse_time(at.decode(), rules.time_format)
    except UnicodeDecodeError:
        time = None
    if fault is None and time is None:
        fault = Fault.TIME_UNREADABLE
    return Read(None, hash_text(text or b""), time) if fault is None else Read(fault, own_key(record), None)


def _find_bytes_fault(value: bytes, document: dict[str, Any] | None) -> Fault | None:
    try:
        value.decode()
    except UnicodeDecodeError:
        return Fault.NOT_UTF8
    return Fault.NOT_JSON if document is None else None


def _find_key_fault(value: bytes | None, document: dict[str, Any] | None, rules: Rules) -> Fault | None:
    if value is None:
        return Fault.TOMBSTONE
    if (fault := _find_bytes_fault(value, document)) is not None:
        return fault
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
    """Knows only the common part of what Spark reads as ISO 8601."""
    text = value.literal if isinstance(value, Number) else value
    if not isinstance(text, str):
        return None
    if form in _EPOCH_FORMATS:
        micros = int(Decimal(text) * _EPOCH_FORMATS[form]) if _DIGITS.fullmatch(text) else None
        return micros if micros is not None and _FIRST <= micros <= _LAST else None
    text = re.sub(r"(Z|[+-]\d\d:\d\d)\[[A-Za-z/]+\]$", r"\1", text.upper() if text[10:11] in ("t", "T") else text)
    text = re.sub(r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)", r"\1-\2-\3T\4:\5:\6", text.replace(",", "."))
    if not _ISO8601.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def write_time(micros: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
