"""Tombstones, headers, framing and implausible times under a real driver."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from kafka.broker import Broker, Record, use_topics
from kafka.driver import StartDriver, build_config

AT = "2024-05-06T12:00:00Z"
FRAME = b"\x00\x00\x00\x00\x0c"


@pytest.fixture
def topics(broker: Broker) -> Iterator[tuple[str, str, str]]:
    """The topics for the source, the output and the dead letters."""
    with use_topics(broker, 1, 2, 1) as (source, sink, dead):
        yield source, sink, dead


def build_job(broker: Broker, topics: tuple[str, str, str], **changes: Any) -> JobConfig:
    source, sink, dead = topics
    return build_config(broker.bootstrap, source, sink, deadLetter={"topic": dead}, **changes)


def framed(number: int) -> bytes:
    return FRAME + json.dumps({"event.id": number, "times": [{"at": AT}]}).encode()


def test_tombstones_pass_in_the_order_of_their_kafka_key_and_framed_bytes_stay(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    """An event that is sent again after its delete is a copy of the first one, and the delete stays the last word."""
    source, sink, dead = topics
    sent = [Record(b"a", framed(1)), Record(b"a", None), Record(b"a", framed(1)), Record(b"b", framed(2)), Record(b"a", None)]
    broker.send(source, sent)
    config = build_job(
        broker,
        topics,
        framing="SchemaRegistry",
        key={"fields": ["['event.id']"]},
        eventTime={"field": "times[0].at"},
        onTombstone="Pass",
        onInvalid="Fail",
    )
    with start_in_shared_jvm(config) as driver:
        status = driver.wait_for_rows(5)
        metrics = driver.get("/metrics")[1]
        assert driver.stop() == ExitCode.DONE, driver.read_output()
    progress = status.progress
    assert (progress.unique, progress.duplicates, progress.late, progress.invalid) == (4, 1, 0, 0), progress
    assert 'dedup_unaccounted_rows{law="in"} 0.0' in metrics and 'dedup_unaccounted_rows{law="out"} 0.0' in metrics
    output = broker.read_all(sink)
    assert [record.value for record in output if record.key == b"a"] == [framed(1), None, None]
    assert [record.value for record in output if record.key == b"b"] == [framed(2)]
    assert broker.read_all(dead) == []


def test_the_policy_for_tombstones_is_not_that_for_invalid_records(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    source, sink, dead = topics
    good = Record(b"k", json.dumps({"id": 1, "at": AT}).encode())
    broker.send(source, [good, Record(b"k", b"not json"), Record(b"gone", None)])
    with start_in_shared_jvm(build_job(broker, topics, onTombstone="Fail", onInvalid="Drop")) as driver:
        assert driver.wait_for_end() == ExitCode.INVALID_RECORD, driver.read_output()
        message = driver.read_termination_message()
    assert message.reason == Reason.INVALID_RECORD
    assert "the record at offset 2 of partition 0" in message.message and "Tombstone" in message.message
    assert "more in its batch" not in message.message, "the record that is not JSON stops nothing"
    assert broker.read_all(sink) == []
    with start_in_shared_jvm(build_job(broker, topics, onTombstone="DeadLetter", onInvalid="Drop")) as driver:
        progress = driver.wait_for_rows(3).progress
        assert driver.stop() == ExitCode.DONE
    assert (progress.unique, progress.invalid, progress.dead_letters) == (1, 2, 1), progress
    assert progress.invalid_by_reason == {"Tombstone": 1, "NotJson": 1}
    assert broker.read_all(sink) == [good]
    [letter] = broker.read_all(dead)
    assert (letter.key, letter.value, dict(letter.headers)["dedup-reason"]) == (b"gone", None, b"Tombstone")


def test_identifier_and_time_in_headers_and_a_foreign_header_of_the_drivers_name(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    """As CloudEvents in binary mode: the payload says nothing about the event."""
    source, sink, dead = topics

    def event(identifier: bytes, at: str = AT) -> Record:
        return Record(b"k", b"\xff payload", (("ce_source", b"shop"), ("ce_id", identifier), ("ce_time", at.encode())))

    foreign = (("dedup-reason", b"mine"), ("ce_source", b"shop"), ("ce_time", AT.encode()), ("dedup-late", b"no"))
    bad = Record(b"k", b"x", foreign)
    broker.send(source, [event(b"1"), event(b"2"), event(b"1"), event(b"1", "2024-05-06T12:00:01Z"), bad])
    config = build_job(
        broker,
        topics,
        format="Raw",
        key={"from": "Header", "headers": ["ce_source", "ce_id"]},
        eventTime={"from": "Header", "header": "ce_time"},
        onInvalid="DeadLetter",
    )
    with start_in_shared_jvm(config) as driver:
        progress = driver.wait_for_rows(5).progress
        assert driver.stop() == ExitCode.DONE
    assert (progress.unique, progress.duplicates, progress.dead_letters) == (2, 2, 1), progress
    assert {dict(record.headers)["ce_id"] for record in broker.read_all(sink)} == {b"1", b"2"}
    [letter] = broker.read_all(dead)
    assert letter.headers[:4] == (("original-dedup-reason", b"mine"), *foreign[1:])
    added = letter.headers[4:]
    assert added[:2] == (("dedup-reason", b"KeyMissing"), ("dedup-detail", b"the header ce_id is missing"))
    names = [name for name, _ in letter.headers]
    assert len(names) == len(set(names)), "the reader of a dead letter must not find a header of the driver twice"


def test_seconds_that_are_read_as_milliseconds_give_a_warning(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    source, _, _ = topics
    now = int(time.time())
    broker.send(source, [Record(b"k", json.dumps({"id": number, "at": now}).encode()) for number in range(10)])
    config = build_job(broker, topics, eventTime={"field": "at", "format": "EpochMillis"})
    with start_in_shared_jvm(config) as driver:
        status = driver.wait_for_rows(10)
        [warning] = status.warnings
        assert (
            warning.reason == Reason.EVENT_TIMES_IMPLAUSIBLE
            and "Set spec.eventTime.format to EpochSeconds (if they are seconds)" in warning.message
        )
        assert warning.message in driver.read_output()
        broker.send(source, [Record(b"k", json.dumps({"id": number, "at": now * 1000}).encode()) for number in range(100)])
        assert driver.wait_for_rows(110).warnings == [], "plausible times end the warning"
