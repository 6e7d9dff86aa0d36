"""What the driver does with records that it cannot deduplicate, late records, unusual records, and keys that expire."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from dedup_api.driver_status import DriverStatus
from dedup_api.exits import ExitCode
from dedup_api.faults import Fault
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from kafka.broker import Broker, Record, use_topics
from kafka.driver import Driver, StartDriver, build_config
from kafka.record_corpus import CORPUS
from testbed.layout import Layout
from testbed.promtool import fetch_promtool

DEAD_LETTERS = {"onLate": "DeadLetter", "onInvalid": "DeadLetter"}


@pytest.fixture
def topics(broker: Broker) -> Iterator[tuple[str, str, str]]:
    """The topics for the source, the output and the dead letters."""
    with use_topics(broker, 1, 2, 1, config={"max.message.bytes": "12000000"}) as (source, sink, dead):
        yield source, sink, dead


def build_job(broker: Broker, topics: tuple[str, str, str], **changes: Any) -> JobConfig:
    source, sink, dead = topics
    return build_config(broker.bootstrap, source, sink, deadLetter={"topic": dead}, **{**DEAD_LETTERS, **changes})


def event(number: int | str, at: str, *headers: tuple[str, bytes | None]) -> Record:
    return Record(b"k", json.dumps({"id": number, "at": at}).encode(), headers)


def split_headers(record: Record) -> tuple[tuple[Any, ...], dict[str, str]]:
    """The headers that the record had, in their order, and those that the driver has added."""
    own = tuple(header for header in record.headers if not header[0].startswith("dedup-"))
    assert record.headers[: len(own)] == own, "the driver must add its headers behind the record's own"
    added = {name: content.decode() for name, content in record.headers[len(own) :] if isinstance(content, bytes)}
    assert len(own) + len(added) == len(record.headers)
    return own, added


def test_no_record_of_the_corpus_stops_the_driver_and_each_goes_to_its_topic(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    source, sink, dead = topics
    records = [Record(str(number).encode(), case.value, (("n", str(number).encode()),)) for number, case in enumerate(CORPUS)]
    broker.send(source, records)
    with start_in_shared_jvm(build_job(broker, topics)) as driver:
        status = driver.wait_for_rows(len(CORPUS))
        metrics = driver.get("/metrics")[1]
        assert driver.stop() == ExitCode.DONE, driver.read_output()
    invalid = {number for number, case in enumerate(CORPUS) if case.fault is not None}
    output, letters = broker.read_all(sink), broker.read_all(dead)
    assert sorted(output, key=lambda record: int(record.key or b"")) == [
        records[number] for number in range(len(CORPUS)) if number not in invalid
    ]
    for letter in letters:
        number = int(letter.key or b"")
        own, added = split_headers(letter)
        assert (letter.value, own) == (CORPUS[number].value, records[number].headers), CORPUS[number].name
        expected = {"dedup-source-topic": source, "dedup-source-partition": "0", "dedup-source-offset": str(number)}
        assert added.pop("dedup-detail") and ("dedup-event-time" in added) == (added["dedup-reason"] == Fault.TIME_IN_FUTURE)
        added.pop("dedup-event-time", None)
        assert added == {"dedup-reason": CORPUS[number].fault, **expected}, CORPUS[number].name
    assert sorted(int(letter.key or b"") for letter in letters) == sorted(invalid)
    progress = status.progress
    assert (progress.unique, progress.invalid, progress.dead_letters) == (len(CORPUS) - len(invalid), len(invalid), len(invalid))
    assert sum(progress.invalid_by_reason.values()) == len(invalid)
    assert 'dedup_unaccounted_rows{law="in"} 0.0' in metrics and 'dedup_unaccounted_rows{law="out"} 0.0' in metrics


def test_promtool_accepts_the_metrics(broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver) -> None:
    source, _, _ = topics
    broker.send(source, [event(number, "2024-05-06T12:00:00Z") for number in (1, 2, 1)])
    with start_in_shared_jvm(build_job(broker, topics)) as driver:
        driver.wait_for_rows(3)
        driver.wait_until(lambda status: status.progress.lag_seconds == 0)
        deadline = time.monotonic() + 60
        while 'phase="process"' not in (metrics := driver.get("/metrics")[1]):
            assert time.monotonic() < deadline, metrics
            time.sleep(0.2)
    promtool = fetch_promtool(Layout.of_this_checkout())
    done = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if not line.startswith("#")}
    assert values['dedup_transactions_total{result="committed"}'] == values["dedup_batches_total"] >= 1
    assert values['dedup_transactions_total{result="aborted"}'] == values["dedup_producer_reopens_total"] == 0
    assert values["dedup_checkpoint_bytes"] > 0
    assert values['dedup_batch_phase_seconds_total{phase="process"}'] > 0
    assert values['dedup_state_operation_seconds_total{operation="update"}'] >= 0
    assert values["dedup_watermark_lag_seconds"] > 365 * 86_400


def feed(broker: Broker, driver: Driver, source: str, before: DriverStatus | None, *records: Record) -> DriverStatus:
    """Sends the records and waits until the driver has read them, so that the next records come in another batch."""
    rows = before.progress.rows_in if before else 0
    broker.send(source, records)
    return driver.wait_for_rows(rows + len(records))


@pytest.mark.parametrize("policy", ["Emit", "DeadLetter", "Drop"])
def test_late_records(broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver, policy: str) -> None:
    """Neither a record dated 2099 nor a producer whose clock is an hour ahead makes a record late."""
    source, sink, dead = topics
    ahead = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3590))
    recent = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 300))
    with start_in_shared_jvm(build_job(broker, topics, watermark="10m", onLate=policy)) as driver:
        status = feed(broker, driver, source, None, event(1, recent), event("ahead", ahead), event("2099", "2099-01-01T00:00:00Z"))
        status = feed(broker, driver, source, status, event("ahead", ahead), event("fill", recent))
        late = event("late", "2024-05-06T12:00:00.5Z", ("own", b"\x00"), ("own", None))
        status = feed(broker, driver, source, status, event(2, recent), late, event(1, recent))
        assert driver.stop() == ExitCode.DONE, driver.read_output()
    progress = status.progress
    assert (progress.unique, progress.duplicates, progress.late, progress.invalid) == (4, 2, 1, 1), progress
    assert (progress.late_emitted, progress.rows_out) == ((1, 5) if policy == "Emit" else (0, 4))
    output, letters = broker.read_all(sink), broker.read_all(dead)
    ids = sorted(str(json.loads(record.value or b"")["id"]) for record in output)
    assert ids == sorted(["1", "2", "ahead", "fill", *(["late"] if policy == "Emit" else [])])
    [future] = [letter for letter in letters if letter.value and b"2099" in letter.value]
    assert split_headers(future)[1]["dedup-event-time"] == "2099-01-01T00:00:00.000Z"
    if policy == "Emit":
        [emitted] = [record for record in output if record.value == late.value]
        assert emitted.headers == (*late.headers, ("dedup-late", b"true"))
    if policy == "DeadLetter":
        [letter] = [letter for letter in letters if letter.value == late.value]
        own, added = split_headers(letter)
        assert own == late.headers
        assert (added["dedup-reason"], added["dedup-event-time"], added["dedup-source-offset"]) == ("Late", "2024-05-06T12:00:00.500Z", "6")
        assert added["dedup-watermark"][:4] == time.strftime("%Y", time.gmtime())
    assert len(letters) == (2 if policy == "DeadLetter" else 1)


def test_an_invalid_record_stops_the_job_and_nothing_of_its_batch_is_written(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    source, sink, dead = topics
    good, bad = event(1, "2024-05-06T12:00:00Z"), Record(b"k", b'{"id":"secret","at":"nonsense"}')
    broker.send(source, [good, bad, Record(b"k", b"secret")])
    with start_in_shared_jvm(build_job(broker, topics, onInvalid="Fail")) as driver:
        assert driver.wait_for_end() == ExitCode.INVALID_RECORD, driver.read_output()
        message = driver.read_termination_message()
        output = driver.read_output()
    assert message.reason == Reason.INVALID_RECORD
    assert (
        f"the record at offset 1 of partition 0 of the topic {source} is invalid, and 1 more in its batch: TimeUnreadable"
        in message.message
    )
    assert "secret" not in output, "the driver must not log the content of records"
    assert broker.read_all(sink) == broker.read_all(dead) == []
    with start_in_shared_jvm(build_job(broker, topics)) as driver:
        status = driver.wait_for_rows(3)
    assert (status.progress.unique, status.progress.dead_letters) == (1, 2)
    assert (broker.read_all(sink), len(broker.read_all(dead))) == ([good], 2)


def test_a_timestamp_beyond_all_calendars_stops_the_job_and_the_message_names_the_remedy(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    """Spark's source fails before the driver sees the record. The driver can only name the setting that prevents it."""
    source, _, _ = topics
    broker.configure(source, {"message.timestamp.after.max.ms": str(2**63 - 1)})
    send_with_timestamp(broker, source, b'{"id":1,"at":"2024-05-06T12:00:00Z"}', 1_715_000_000_000_000_000)
    with start_in_shared_jvm(build_job(broker, topics)) as driver:
        assert driver.wait_for_end() == ExitCode.INVALID_RECORD, driver.read_output()
        message = driver.read_termination_message()
    assert message.reason == Reason.INVALID_RECORD and "message.timestamp.after.max.ms" in message.message


def send_with_timestamp(broker: Broker, topic: str, value: bytes, timestamp: int) -> None:
    """The broker may answer that it has changed a setting, and apply the old one for a moment longer."""
    producer, deadline = Producer({"bootstrap.servers": broker.bootstrap}), time.monotonic() + 60
    errors: list[KafkaError | None] = []
    while not errors or errors[-1] is not None:
        assert time.monotonic() < deadline, f"the broker refuses the timestamp for 60 s: {errors[-1]}"
        producer.produce(topic, value, timestamp=timestamp, on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(60) == 0


def test_with_at_least_once_dead_letters_are_written_too(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    source, sink, dead = topics
    good, bad = event(1, "2024-05-06T12:00:00Z"), Record(None, b"\xff", (("own", b"1"),))
    broker.send(source, [good, bad, good])
    config = build_job(broker, topics, sink={"kafka": {"topic": sink, "delivery": "AtLeastOnce"}})
    with start_in_shared_jvm(config) as driver:
        driver.wait_for_rows(3)
    [letter] = broker.read_all(dead)
    assert broker.read_all(sink) == [good]
    assert (letter.key, letter.value, split_headers(letter)[1]["dedup-reason"]) == (None, b"\xff", "NotUtf8")


def test_the_driver_waits_for_a_missing_dead_letter_topic(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    source, _, dead = topics
    broker.delete(dead)
    with start_in_shared_jvm(build_job(broker, topics)) as driver:
        status = driver.wait_until(lambda status: status.blocked_by is not None)
        assert status.blocked_by is not None and status.blocked_by.reason == Reason.DEAD_LETTER_TOPIC_MISSING
        broker.create(dead, 1)
        broker.send(source, [Record(None, b"x")])
        assert driver.wait_for_rows(1).progress.dead_letters == 1


def test_compressed_records_are_read_and_aborted_ones_are_not(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    """The driver reads what a read-committed consumer sees. It counts no aborted record, no transaction marker and
    no gap."""
    source, sink, _ = topics
    expected: list[Record] = []
    for number, compression in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
        settings = {"bootstrap.servers": broker.bootstrap, "transactional.id": f"{source}-{number}", "compression.type": compression}
        producer = Producer(settings)
        producer.init_transactions(60)
        for commit in (False, True):
            producer.begin_transaction()
            kept = event(f"{number}-{commit}", "2024-05-06T12:00:00Z", ("c", compression.encode()))
            for record in (kept, kept, Record(b"x", b"not json") if not commit else kept):
                producer.produce(source, record.value, record.key, headers=list(record.headers))
            (producer.commit_transaction if commit else producer.abort_transaction)(60)
            expected += [kept] if commit else []
    with start_in_shared_jvm(build_job(broker, topics, onInvalid="Fail")) as driver:
        status = driver.wait_for_rows(15)
        status = driver.wait_until(lambda status: status.progress.lag_records == 0)
    assert (status.progress.rows_in, status.progress.unique, status.progress.duplicates) == (15, 5, 10), status.progress
    assert sorted(broker.read_all(sink), key=str) == sorted(expected, key=str)


def test_a_partition_with_aborted_records_alone_does_not_hold_the_watermark(broker: Broker, start_in_shared_jvm: StartDriver) -> None:
    """In the first batch the watermark follows the partition that is furthest behind, and all must have a time."""
    with use_topics(broker, 2, 1) as (source, sink):
        broker.send(source, [event(1, "2024-05-06T12:00:00Z")], partition=0)
        producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": source})
        producer.init_transactions(60)
        producer.begin_transaction()
        producer.produce(source, b"{}", partition=1)
        producer.flush(60)
        producer.abort_transaction(60)
        with start_in_shared_jvm(build_config(broker.bootstrap, source, sink, watermark="10m")) as driver:
            status = driver.wait_for_rows(1)
            assert driver.stop() == ExitCode.DONE
    assert (status.progress.rows_in, status.progress.watermark) == (1, "2024-05-06T11:50:00.000Z"), status.progress


def test_tombstones_come_out_when_the_kafka_key_is_the_key(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    source, sink, _ = topics
    records = [Record(b"a", b"{}"), Record(b"a", b"{}"), Record(b"a", None), Record(b"a", None), Record(b"b", b"{}")]
    broker.send(source, records)
    config = build_job(broker, topics, key={"from": "KafkaKey"}, eventTime={"from": "KafkaTimestamp"}, onInvalid="Fail")
    with start_in_shared_jvm(config) as driver:
        status = driver.wait_for_rows(5)
    assert (status.progress.unique, status.progress.duplicates) == (3, 2)
    output = broker.read_all(sink)
    of_one_key = [record for record in output if record.key == b"a"]
    assert of_one_key == [Record(b"a", b"{}"), Record(b"a", None)], "records of one key must keep their order"
    assert Record(b"b", b"{}") in output


def test_with_arrival_time_keys_expire_while_no_records_come(
    broker: Broker, topics: tuple[str, str, str], start_in_shared_jvm: StartDriver
) -> None:
    """The driver plans batches without data, which remove expired keys, and plans no more when no key is left."""
    source, sink, _ = topics
    again = Record(b"k", b"the same")
    config = build_job(
        broker, topics, format="Raw", key={"from": "ValueHash"}, eventTime={"from": "Arrival"}, watermark="6s", onInvalid="Fail"
    )
    with start_in_shared_jvm(config) as driver:
        feed(broker, driver, source, None, again, again)
        driver.wait_until(lambda status: status.progress.state_rows == 0, seconds=120)
        batch = driver.wait_until(lambda status: status.progress.batch is not None).progress.batch
        time.sleep(8)  # longer than the watermark, so that batches without data would have come
        after = driver.wait_until(lambda status: True).progress.batch
        assert batch is not None and after is not None and after <= batch + 1, (
            "without keys in its state, the driver must plan no batch except one that was already due"
        )
        broker.send(source, [again])
        status = driver.wait_for_rows(3)
        assert driver.stop() == ExitCode.DONE, driver.read_output()
    assert (status.progress.unique, status.progress.duplicates, status.progress.late) == (2, 1, 0), status.progress
    assert broker.read_all(sink) == [again, again]


def test_late_records_are_counted_when_they_are_dropped(broker: Broker, start_in_shared_jvm: StartDriver) -> None:
    """A record is late by the watermark of the batch before its own."""
    with use_topics(broker, 1, 1) as (source, sink):
        with start_in_shared_jvm(build_config(broker.bootstrap, source, sink, watermark="10m")) as driver:
            status = feed(broker, driver, source, None, event(1, "2024-05-06T12:00:00Z"))
            status = feed(broker, driver, source, status, event(4, "2024-05-06T12:00:00Z"))
            late, in_time, copy = event(2, "2024-05-06T11:49:00Z"), event(3, "2024-05-06T11:51:00Z"), event(1, "2024-05-06T12:00:00Z")
            status = feed(broker, driver, source, status, late, in_time, copy)
            assert driver.stop() == ExitCode.DONE
        output = broker.read_all(sink)
    progress = status.progress
    assert (progress.rows_out, progress.duplicates, progress.late, progress.invalid) == (3, 1, 1, 0), progress
    assert {json.loads(record.value or b"")["id"] for record in output} == {1, 3, 4}
