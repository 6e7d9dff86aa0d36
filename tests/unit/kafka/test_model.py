"""The rules of the model, with outcomes worked out by hand, and the comparison of a job with the model, which must
find mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dedup_api.faults import Fault
from dedup_api.status import Progress
from kafka.comparison import Observed, build_dead_letter, compare
from kafka.model import Batch, Model, Outcome, Record, Rules, Verdict, read_record

DELAY, HOUR, MOST = 10_000, 3_600_000, 8
RULES = Rules(("id",), "at", "EpochMillis", DELAY, skew=HOUR)
NOW = 1_700_000_000_000
"""Milliseconds. The event times of these tests are near it."""
READ = NOW + 1000 * HOUR


def make(offset: int, event: str, time: int, partition: int = 0, stamp: int | None = None) -> Record:
    value = f'{{"id":"{event}","at":{time}}}'.encode()
    return Record(partition, offset, time if stamp is None else stamp, b"k", value, (("n", f"{partition}{offset:03}".encode()),))


class Job:
    """Gives the model records in batches, each of which starts where the one before ended."""

    def __init__(self) -> None:
        self.model, self.source, self.batches, self.outcomes = Model(RULES), list[Record](), list[Batch](), list[Outcome]()
        self._ends = {0: 0, 1: 0}

    def take(self, *events: tuple[str, int], partition: int = 0, first: bool = False, stamp: int | None = None) -> Outcome:
        return self.take_all([(event, time, partition) for event, time in events], first, stamp)

    def take_all(self, events: list[tuple[str, int, int]], first: bool = False, stamp: int | None = None) -> Outcome:
        starts, records = dict(self._ends), []
        for event, time, partition in events:
            records.append(make(self._ends[partition], event, time, partition, stamp))
            self._ends[partition] += 1
        batch = Batch(len(self.batches), starts, dict(self._ends), READ, self.model.watermark, MOST, first)
        self.batches.append(batch)
        self.source += records
        self.outcomes.append(self.model.take(batch, records, {record.place for record in records}))
        return self.outcomes[-1]


def verdicts(outcome: Outcome) -> list[str]:
    return [verdict.value for _, verdict in sorted(outcome.verdicts.items())]


def test_records_are_late_by_the_watermark_of_the_batch_before() -> None:
    job = Job()
    assert job.take(("a", NOW)).watermark == NOW - DELAY
    assert verdicts(job.take(("b", NOW - DELAY))) == ["unique"]
    assert job.take(("c", NOW - DELAY), ("d", NOW - DELAY + 1)).faults == {(0, 2): Fault.LATE}


def test_without_a_watermark_times_up_to_1970_are_late() -> None:
    assert Job().take(("a", 0), ("b", 1)).faults == {(0, 0): Fault.LATE}


@pytest.mark.parametrize(("edge", "verdict"), [(-1, "duplicate"), (0, "unique"), (1, "unique")])
def test_a_key_is_forgotten_after_the_batch_whose_watermark_reaches_its_expiry(edge: int, verdict: str) -> None:
    job = Job()
    job.take(("a", NOW))
    job.take(("b", NOW + 2 * DELAY + edge))
    assert verdicts(job.take(("a", NOW))) == ["duplicate"]
    assert verdicts(job.take(("a", NOW + 2 * DELAY))) == [verdict]


def test_the_copy_that_came_out_decides_how_long_the_key_is_remembered() -> None:
    job = Job()
    starts, ends = {0: 0, 1: 0}, {0: 1, 1: 1}
    copies = [make(0, "a", NOW), make(0, "a", NOW + 5, partition=1)]
    outcome = job.model.take(Batch(0, starts, ends, READ, 0, MOST, True), copies, {(1, 0)})
    assert outcome.verdicts == {(0, 0): Verdict.DUPLICATE, (1, 0): Verdict.UNIQUE}
    assert job.model._expiries == {read_record(copies[0], RULES).key: (NOW + 5 + DELAY) * 1000}


def test_after_a_full_batch_the_slowest_partition_decides_the_watermark() -> None:
    job = Job()
    full = [("a", NOW + 1, 0), ("b", NOW + 2, 0), ("c", NOW + HOUR, 0), ("d", NOW + 50, 1), ("e", NOW + 60, 1), ("f", NOW + 70, 1)]
    assert job.take_all(full).watermark == NOW + 2 - DELAY
    assert job.take(("g", NOW + 80), partition=1).watermark == NOW + 80 - DELAY, "after a batch that is not full, the newest time decides"


@pytest.mark.parametrize(("first", "middle"), [(False, 4), (True, 101)])
def test_the_middle_time_counts_earlier_batches_of_the_same_process(first: bool, middle: int) -> None:
    job = Job()
    job.take_all([(f"a{index}", NOW + index, 0) for index in range(7)])
    full = [(f"b{index}", NOW + 100 + index, 0) for index in range(3)] + [(f"c{index}", NOW + 1000, 1) for index in range(4)]
    assert job.take_all(full, first).watermark == NOW + middle - DELAY


def test_the_first_batch_of_a_process_counts_as_full() -> None:
    """Another process may have planned it, with a smaller limit."""
    events = ("a", NOW), ("b", NOW + 5), ("c", NOW + 9)
    assert [Job().take(*events, first=first).watermark for first in (False, True)] == [NOW + 9 - DELAY, NOW + 5 - DELAY]


def test_a_time_after_the_kafka_timestamp_counts_as_the_timestamp_and_far_after_it_is_a_fault() -> None:
    job = Job()
    outcome = job.take(("a", NOW + HOUR), ("b", NOW + HOUR + 1), stamp=NOW)
    assert (outcome.faults, outcome.watermark) == ({(0, 1): Fault.TIME_IN_FUTURE}, NOW - DELAY)
    assert job.take(("c", READ + HOUR), ("d", READ + HOUR + 1), stamp=2 * READ).faults == {(0, 3): Fault.TIME_IN_FUTURE}


def test_a_full_batch_without_a_valid_record_of_a_partition_does_not_move_the_watermark() -> None:
    job = Job()
    job.take(("a", NOW))
    full = [("b", NOW + HOUR, 0)] * 6 + [("", NOW, 1)]
    assert job.take_all(full).watermark == NOW - DELAY


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, Fault.TOMBSTONE),
        (b'{"id":1,"at":1,"z":"\xff"}', Fault.NOT_UTF8),
        (b'{"id":1,"at":1', Fault.NOT_JSON),
        (b'{"at":1}', Fault.KEY_MISSING),
        (b'{"id":"","at":null}', Fault.KEY_EMPTY),
        (b'{"id":[1],"at":1}', Fault.KEY_UNREADABLE),
        (b'{"id":1,"at":null}', Fault.TIME_MISSING),
        (b'{"id":1,"at":"2024-05-06T07:08:09Z"}', Fault.TIME_UNREADABLE),
        (b'{"id":1,"at":99999999999999999}', Fault.TIME_UNREADABLE),
        (b'{"id":1,"at":1.5}', None),
    ],
)
def test_a_record_gets_its_first_fault(value: bytes | None, fault: Fault | None) -> None:
    assert read_record(Record(0, 0, NOW, None, value), RULES).fault == fault


@pytest.mark.parametrize(
    ("form", "text", "micros"),
    [
        ("EpochMillis", "1714979289123.5", 1714979289123500),
        ("EpochSeconds", "-0.000001", -1),
        ("Iso8601", '"2024-05-06T07:08:09.123456Z"', 1714979289123456),
        ("Iso8601", '"2024-05-06 09:08+02:00"', 1714979280000000),
        ("Iso8601", '"2024-05-06"', 1714953600000000),
    ],
)
def test_event_times_are_read(form: str, text: str, micros: int) -> None:
    assert read_record(Record(0, 0, NOW, None, f'{{"id":1,"at":{text}}}'.encode()), replace(RULES, time_format=form)).time == micros


def observe_correct_job() -> Observed:
    """A job without mistakes, and a stream with unique, duplicate, late and invalid records."""
    job = Job()
    job.take(("a", NOW), ("b", NOW), ("a", NOW))
    job.take(("b", NOW + 1), ("", NOW))
    job.take(("c", NOW - DELAY), ("d", NOW))
    output, letters = [], []
    for batch, outcome in zip(job.batches, job.outcomes, strict=True):
        records = [record for record in job.source if batch.holds(record.place)]
        output += [record for record in records if outcome.verdicts[record.place] is Verdict.UNIQUE]
        letters += [build_dead_letter(record, outcome, "topic") for record in records if record.place in outcome.faults]
    progress = Progress(
        batch=2,
        watermark="2023-11-14T22:13:10.001Z",
        rows_in=7,
        rows_out=3,
        unique=3,
        duplicates=2,
        late=1,
        invalid=1,
        invalid_by_reason={"KeyEmpty": 1},
        dead_letters=2,
        state_rows=3,
    )
    watermarks = {batch.number: outcome.watermark for batch, outcome in zip(job.batches, job.outcomes, strict=True)}
    return Observed("topic", job.source, output, letters, job.batches, watermarks, [progress])


def test_a_job_without_mistakes_agrees_with_the_model() -> None:
    assert compare(observe_correct_job(), RULES) == []


def change(record: Record, name: str, value: bytes | None) -> Record:
    return replace(record, headers=tuple((name, value) if found == name else (found, old) for found, old in record.headers))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda job: replace(job, output=job.output[1:]), "did not come out"),
        (lambda job: replace(job, output=[*job.output, job.output[0]]), "came out 2 times"),
        (lambda job: replace(job, output=[*job.output, job.source[3]]), "a copy of it is remembered"),
        (lambda job: replace(job, output=[*job.output, job.source[5]]), "is late (Late)"),
        (lambda job: replace(job, output=[replace(job.output[0], stamp=1), *job.output[1:]]), "came out changed"),
        (lambda job: replace(job, dead_letters=job.dead_letters[1:]), "the dead letter is missing"),
        (lambda job: replace(job, dead_letters=job.dead_letters * 2), "the dead letter is unexpected"),
        (
            lambda job: replace(job, dead_letters=[change(one, "dedup-reason", b"NotJson") for one in job.dead_letters]),
            "the dead letter is missing",
        ),
        (
            lambda job: replace(job, dead_letters=[change(one, "dedup-detail", b"") for one in job.dead_letters]),
            "the dead letter is missing",
        ),
        (lambda job: replace(job, watermarks={**job.watermarks, 1: NOW}), "committed with the watermark"),
        (lambda job: replace(job, batches=[*job.batches[:2], replace(job.batches[2], watermark=NOW)]), "planned with the watermark"),
        (lambda job: replace(job, progress=[job.progress[0].model_copy(update={"duplicates": 3})]), "duplicates is 3, not 2"),
        (lambda job: replace(job, progress=[job.progress[0].model_copy(update={"state_rows": 4})]), "state_rows is 4, not 3"),
        (lambda job: replace(job, source=[*job.source, make(9, "z", NOW)]), "7 records of 8 were read"),
    ],
)
def test_each_mistake_of_a_job_is_found(spoil: Callable[[Observed], Observed], message: str) -> None:
    found = compare(spoil(observe_correct_job()), RULES)
    assert any(message in sentence for sentence in found), found
