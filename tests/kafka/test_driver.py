"""The driver as a process, from topic to topic: what comes out, what it says, how it stops and starts again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from dedup_api.driver_status import Phase
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from kafka.broker import Broker, Record, use_topics
from kafka.driver import GRACE, Driver, build_config
from kafka.hostile import CORPUS
from kafka.test_parse import AT

Start = Callable[[JobConfig | str], Driver]


def build_event(number: int) -> Record:
    """Event `number`: every byte of a copy is the same, so that it does not matter which copy comes out."""
    at = f"2024-05-06T07:{number // 60 % 60:02}:{number % 60:02}Z"
    value = json.dumps({"at": at, "id": f"event-{number}", "text": "ä" * (number % 7)}, ensure_ascii=False).encode()
    headers = (("trace", f"t{number}".encode()), ("empty", b""), ("none", None), ("trace", b"again"))
    return Record(None if number % 5 == 0 else f"k{number % 50}".encode(), value, headers if number % 2 else ())


def build_plan(events: int, duplicates: int, seed: int) -> list[Record]:
    """Each event once, and so many copies of some of them near where they first were."""
    choice = random.Random(seed)
    order = [(float(number), number) for number in range(events)]
    order += [(number + choice.uniform(0.5, 2000), number) for number in choice.choices(range(events), k=duplicates)]
    return [build_event(number) for _, number in sorted(order)]


def test_every_event_comes_out_once_also_across_a_restart(broker: Broker, start_driver: Start) -> None:
    plan = build_plan(events=60_000, duplicates=15_000, seed=3)
    with use_topics(broker, 3, 2) as (source, sink):
        broker.send(source, plan)
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": 20_000}
        config = build_config(broker.bootstrap, source, sink, source=settings)
        with start_driver(config) as driver:
            driver.wait_until(lambda status: status.batch_running_since is not None)
            assert driver.stop() == ExitCode.DONE  # in the middle of a batch: it is finished and committed, no other is begun
            first = driver.read_output()
            committed = [entry.name for entry in (driver.checkpoint / "generation-1/spark/commits").iterdir() if entry.name.isdigit()]
            assert len(committed) == first.count('"batch committed"') >= 1, first
        with start_driver(config) as driver:
            before = driver.wait_until(lambda status: status.attempt is not None)
            assert before.attempt == 2
            status = driver.wait_until(lambda status: status.progress.rows_in >= len(plan) and status.progress.lag_records == 0)
            assert driver.get("/healthz")[0] == driver.get("/readyz")[0] == 200
            metrics = driver.get("/metrics")[1]
            assert driver.stop() == ExitCode.DONE
        out = broker.read_all(sink)

    assert '"stopped as requested"' in first, first
    progress = status.progress
    assert (progress.rows_in, progress.rows_out, progress.duplicates) == (75_000, 60_000, 15_000), progress
    assert (progress.late, progress.invalid, progress.state_rows) == (0, 0, 60_000), progress
    assert progress.watermark == "2024-05-06T06:59:59.000Z"
    assert 0 < sum_samples(metrics, "dedup_rows_in_total") < 75_000, "counters begin with the process, totals with the checkpoint"
    assert sum_samples(metrics, "dedup_unaccounted_rows") == 0
    compare(out, {build_event(number) for number in range(60_000)})


def test_nothing_is_lost_or_twice_when_the_driver_is_killed(broker: Broker, start_driver: Start) -> None:
    plan = build_plan(events=20_000, duplicates=5_000, seed=5)
    with use_topics(broker, 2, 1) as (source, sink):
        broker.send(source, plan)
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": 5_000}
        config = build_config(broker.bootstrap, source, sink, source=settings)
        with start_driver(config) as driver:
            driver.wait_until(lambda status: (status.progress.batch or 0) >= 1 and status.batch_running_since is not None)
            driver.kill()
        with start_driver(config) as driver:
            status = driver.wait_for_rows(len(plan))
            assert driver.stop() == ExitCode.DONE
        out = broker.read_all(sink)
    progress = status.progress
    assert (progress.rows_in, progress.rows_out, progress.duplicates) == (25_000, 20_000, 5_000), progress
    compare(out, {build_event(number) for number in range(20_000)})


def sum_samples(metrics: str, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{")))


def compare(out: list[Record], expected: set[Record]) -> None:
    """The whole output: nothing missing, nothing twice, nothing foreign, all bytes as they came."""
    found = set(out)
    assert not expected - found, f"missing: {len(expected - found)}, first {next(iter(expected - found))}"
    assert not found - expected, f"foreign: {len(found - expected)}, first {next(iter(found - expected))}"
    assert len(out) == len(found), f"twice: {len(out) - len(found)}"


def test_hostile_records_are_counted_and_stop_nothing(broker: Broker, start_driver: Start) -> None:
    small = [hostile.value for hostile in CORPUS if hostile.fault is not None and not hostile.is_large]
    good = [Record(b"k", json.dumps({"id": number, "at": AT}).encode()) for number in range(10)]
    with use_topics(broker, 1, 1) as (source, sink):
        broker.send(source, [*good[:5], *(Record(b"h", value) for value in small), *good[5:], *good])
        with start_driver(build_config(broker.bootstrap, source, sink)) as driver:
            status = driver.wait_for_rows(20 + len(small))
            # What ends the JVM ends the driver at once, with a reason.
            driver.kill_jvm()
            assert driver.wait_for_end(GRACE) == ExitCode.INTERNAL
            message = driver.read_termination_message()
        out = broker.read_all(sink)
    progress = status.progress
    assert (progress.rows_out, progress.duplicates, progress.invalid, progress.late) == (10, 10, len(small), 0), progress
    assert progress.state_rows is not None and progress.state_rows >= 10
    compare(out, set(good))
    assert message.reason is Reason.DRIVER_FAILED and "JVM" in message.message


def test_late_records_are_counted(broker: Broker, start_driver: Start) -> None:
    def event(number: int, time: str) -> Record:
        return Record(b"k", json.dumps({"id": number, "at": f"2024-05-06T{time}Z"}).encode())

    with use_topics(broker, 1, 1) as (source, sink):
        broker.send(source, [event(1, "12:00:00")])
        with start_driver(build_config(broker.bootstrap, source, sink, watermark="10m")) as driver:
            driver.wait_for_rows(1)
            broker.send(source, [event(4, "12:00:00")])  # records are late by the watermark of the batch before
            driver.wait_for_rows(2)
            broker.send(source, [event(2, "11:49:00"), event(3, "11:51:00"), event(1, "12:00:00")])
            status = driver.wait_for_rows(5)
            assert driver.stop() == ExitCode.DONE
        out = broker.read_all(sink)
    progress = status.progress
    assert (progress.rows_out, progress.duplicates, progress.late, progress.invalid) == (3, 1, 1, 0), progress
    assert {json.loads(record.value or b"")["id"] for record in out} == {1, 3, 4}


def test_missing_topics_are_waited_for(broker: Broker, start_driver: Start) -> None:
    with use_topics(broker, 1, 1) as (source, sink):
        broker.delete(source)
        broker.delete(sink)
        with start_driver(build_config(broker.bootstrap, source, sink)) as driver:
            status = driver.wait_until(lambda status: status.phase is Phase.WAITING)
            assert status.blocked_by is not None and status.blocked_by.reason is Reason.SOURCE_TOPIC_MISSING
            assert source in status.blocked_by.message
            assert driver.get("/healthz")[0] == 200 and driver.get("/readyz")[0] == 503
            broker.create(source, 1)
            driver.wait_until(lambda status: status.blocked_by is not None and status.blocked_by.reason is Reason.SINK_TOPIC_MISSING)
            broker.create(sink, 1)
            broker.send(source, [build_event(1)])
            driver.wait_for_rows(1)
            assert driver.get("/readyz")[0] == 200
            # A topic that goes away later ends the driver; the next start waits for it.
            broker.delete(source)
            assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
            assert driver.read_termination_message().reason is Reason.SOURCE_TOPIC_MISSING


def test_an_unreachable_broker_is_waited_for_and_a_stop_ends_the_wait(start_driver: Start) -> None:
    with start_driver(build_config("no-such-host.invalid:9092", "in", "out")) as driver:
        status = driver.wait_until(lambda status: status.phase is Phase.WAITING)
        assert status.blocked_by is not None and status.blocked_by.reason is Reason.SOURCE_UNAVAILABLE
        assert "no-such-host.invalid" in status.blocked_by.message
        driver.terminate()
        assert driver.wait_for_end() == ExitCode.DONE


def test_the_console_shows_records_and_a_long_trigger_stops_promptly(broker: Broker, start_driver: Start) -> None:
    events = [build_event(number) for number in range(1, 101)]
    with use_topics(broker, 2) as (source,):
        broker.send(source, [*events, *events])
        with start_driver(build_config(broker.bootstrap, source, None, processingTime="1h")) as driver:
            status = driver.wait_for_rows(200)
            driver.terminate()
            assert driver.wait_for_end(GRACE) == ExitCode.DONE
            lines = [json.loads(line) for line in driver.read_output().splitlines() if line.startswith('{"batch"')]
    assert (status.progress.rows_out, status.progress.duplicates) == (100, 100)
    assert len(lines) == 20
    assert {line["value"] for line in lines} <= {(event.value or b"").decode() for event in events}


def test_a_bad_pattern_ends_with_64(broker: Broker, start_driver: Start) -> None:
    with use_topics(broker, 1) as (source,):
        config = build_config(broker.bootstrap, source, None, eventTime={"field": "at", "format": "yyyy-QQQQQQ"})
        with start_driver(config) as driver:
            assert driver.wait_for_end() == ExitCode.CONFIGURATION
            message = driver.read_termination_message()
    assert message.reason is Reason.CONFIGURATION_REFUSED
    assert "spec.eventTime.format" in message.message


def test_a_config_that_cannot_be_read_ends_with_64(start_driver: Start) -> None:
    with start_driver('{"namespace": "tests"}') as driver:
        assert driver.wait_for_end() == ExitCode.CONFIGURATION
        assert "job.json: name" in driver.read_termination_message().message


def test_overlapping_fields_end_with_64(start_driver: Start) -> None:
    with start_driver(build_config("b:1", "in", None, key={"fields": ["a", "a.b"]})) as driver:
        assert driver.wait_for_end() == ExitCode.CONFIGURATION
        assert "spec.key.fields[0]: the path a lies above or below" in driver.read_termination_message().message


def test_a_volume_that_takes_no_writes_ends_with_73(start_driver: Start, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "generation-1").write_text("a file where the folder should be")
    with start_driver(build_config("b:1", "in", None)) as driver:
        assert driver.wait_for_end() == ExitCode.CHECKPOINT_NOT_WRITABLE
        assert driver.read_termination_message().reason is Reason.CHECKPOINT_NOT_WRITABLE


def test_a_checkpoint_without_its_count_of_starts_ends_with_74(start_driver: Start, tmp_path: Path) -> None:
    (tmp_path / "checkpoint" / "generation-1").mkdir(parents=True)
    (tmp_path / "checkpoint" / "generation-1" / "job.json").write_text("{}")
    with start_driver(build_config("b:1", "in", None)) as driver:
        assert driver.wait_for_end() == ExitCode.CHECKPOINT_DAMAGED
        message = driver.read_termination_message()
        assert message.reason is Reason.CHECKPOINT_DAMAGED and "attempt" in message.message
