"""The driver as a process: how it stops, is killed and starts again, what it answers over HTTP, and its exit codes.

These drivers have a JVM of their own, except where a test says otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path

from dedup_api.driver_status import Phase
from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from kafka.broker import Broker, Record, use_topics
from kafka.driver import GRACE, StartDriver, build_config
from kafka.events import build_event, build_events, build_stream, compare, sum_samples
from kafka.record_corpus import CORPUS


def test_every_event_comes_out_once_across_a_restart(broker: Broker, start_driver: StartDriver) -> None:
    stream = build_stream(events=60_000, duplicates=15_000, seed=3)
    with use_topics(broker, 3, 2) as (source, sink):
        broker.send(source, stream)
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": 20_000}
        config = build_config(broker.bootstrap, source, sink, source=settings)
        with start_driver(config) as driver:
            driver.wait_until(lambda status: status.batch_running_since is not None)
            assert driver.stop() == ExitCode.DONE  # it finishes and commits the running batch, and starts no other
            first = driver.read_output()
            committed = [entry.name for entry in (driver.checkpoint / "generation-1/spark/commits").iterdir() if entry.name.isdigit()]
            assert len(committed) == first.count('"batch committed"') >= 1, first
        with start_driver(config) as driver:
            before = driver.wait_until(lambda status: status.attempt is not None)
            assert before.attempt == 2
            status = driver.wait_until(lambda status: status.progress.rows_in >= len(stream) and status.progress.lag_records == 0)
            assert driver.get("/healthz")[0] == driver.get("/readyz")[0] == 200
            metrics = driver.get("/metrics")[1]
            assert driver.stop() == ExitCode.DONE
        output = broker.read_all(sink)

    assert '"stopped as requested"' in first, first
    progress = status.progress
    assert (progress.rows_in, progress.rows_out, progress.duplicates) == (75_000, 60_000, 15_000), progress
    assert (progress.late, progress.invalid, progress.state_rows) == (0, 0, 60_000), progress
    assert progress.watermark == "2024-05-06T06:59:59.000Z"
    rows_in = sum_samples(metrics, "dedup_rows_in_total")
    assert 0 < rows_in < 75_000, "a counter starts with the process, and only status.progress counts all runs"
    assert sum_samples(metrics, "dedup_unaccounted_rows") == 0
    compare(output, build_events(range(60_000)))


def test_a_killed_driver_loses_and_repeats_nothing(broker: Broker, start_driver: StartDriver) -> None:
    stream = build_stream(events=20_000, duplicates=5_000, seed=5)
    with use_topics(broker, 2, 1) as (source, sink):
        broker.send(source, stream)
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": 5_000}
        config = build_config(broker.bootstrap, source, sink, source=settings)
        with start_driver(config) as driver:
            driver.wait_until(lambda status: (status.progress.batch or 0) >= 1 and status.batch_running_since is not None)
            driver.kill()
        with start_driver(config) as driver:
            status = driver.wait_for_rows(len(stream))
            assert driver.stop() == ExitCode.DONE
        output = broker.read_all(sink)
    progress = status.progress
    assert (progress.rows_in, progress.rows_out, progress.duplicates) == (25_000, 20_000, 5_000), progress
    compare(output, build_events(range(20_000)))


def test_invalid_records_are_counted_and_a_jvm_that_dies_ends_the_driver(broker: Broker, start_driver: StartDriver) -> None:
    invalid = [record.value for record in CORPUS if record.fault is not None and not record.is_large]
    valid = [Record(b"k", json.dumps({"id": number, "at": "2024-05-06T07:08:09Z"}).encode()) for number in range(10)]
    with use_topics(broker, 1, 1) as (source, sink):
        broker.send(source, [*valid[:5], *(Record(b"i", value) for value in invalid), *valid[5:], *valid])
        with start_driver(build_config(broker.bootstrap, source, sink)) as driver:
            status = driver.wait_for_rows(20 + len(invalid))
            driver.kill_jvm()
            assert driver.wait_for_end(GRACE) == ExitCode.INTERNAL
            message = driver.read_termination_message()
        output = broker.read_all(sink)
    progress = status.progress
    assert (progress.rows_out, progress.duplicates, progress.invalid, progress.late) == (10, 10, len(invalid), 0), progress
    assert progress.state_rows is not None and progress.state_rows >= 10
    compare(output, set(valid))
    assert message.reason == Reason.DRIVER_FAILED and "JVM" in message.message


def test_the_driver_waits_for_missing_topics(broker: Broker, start_in_shared_jvm: StartDriver) -> None:
    with use_topics(broker, 1, 1) as (source, sink):
        broker.delete(source)
        broker.delete(sink)
        with start_in_shared_jvm(build_config(broker.bootstrap, source, sink)) as driver:
            status = driver.wait_until(lambda status: status.phase is Phase.WAITING)
            assert status.blocked_by is not None and status.blocked_by.reason == Reason.SOURCE_TOPIC_MISSING
            assert source in status.blocked_by.message
            assert driver.get("/healthz")[0] == 200 and driver.get("/readyz")[0] == 503
            broker.create(source, 1)
            driver.wait_until(lambda status: status.blocked_by is not None and status.blocked_by.reason == Reason.SINK_TOPIC_MISSING)
            broker.create(sink, 1)
            broker.send(source, [build_event(1)])
            driver.wait_for_rows(1)
            assert driver.get("/readyz")[0] == 200
            # A topic that is deleted later ends the driver, and its next start waits for the topic.
            broker.delete(source)
            assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
            assert driver.read_termination_message().reason == Reason.SOURCE_TOPIC_MISSING


def test_a_driver_that_waits_for_a_broker_can_be_stopped(start_driver: StartDriver) -> None:
    with start_driver(build_config("no-such-host.invalid:9092", "in", "out")) as driver:
        status = driver.wait_until(lambda status: status.phase is Phase.WAITING)
        assert status.blocked_by is not None and status.blocked_by.reason == Reason.SOURCE_UNAVAILABLE
        assert "no-such-host.invalid" in status.blocked_by.message
        driver.terminate()
        assert driver.wait_for_end() == ExitCode.DONE


def test_the_console_shows_records_and_a_long_trigger_delays_no_stop(broker: Broker, start_in_shared_jvm: StartDriver) -> None:
    events = [build_event(number) for number in range(1, 101)]
    with use_topics(broker, 2) as (source,):
        broker.send(source, [*events, *events])
        with start_in_shared_jvm(build_config(broker.bootstrap, source, None, processingTime="1h")) as driver:
            status = driver.wait_for_rows(200)
            driver.terminate()
            assert driver.wait_for_end(GRACE) == ExitCode.DONE
            lines = [json.loads(line) for line in driver.read_output().splitlines() if line.startswith('{"batch"')]
    assert (status.progress.rows_out, status.progress.duplicates) == (100, 100)
    assert len(lines) == 20
    assert {line["value"] for line in lines} <= {(event.value or b"").decode() for event in events}


def test_a_pattern_that_spark_refuses_ends_with_64(broker: Broker, start_in_shared_jvm: StartDriver) -> None:
    with use_topics(broker, 1) as (source,):
        config = build_config(broker.bootstrap, source, None, eventTime={"field": "at", "format": "yyyy-QQQQQQ"})
        with start_in_shared_jvm(config) as driver:
            assert driver.wait_for_end() == ExitCode.CONFIGURATION
            message = driver.read_termination_message()
    assert message.reason == Reason.CONFIGURATION_REFUSED
    assert "spec.eventTime.format" in message.message


def test_a_config_that_cannot_be_read_ends_with_64(start_driver: StartDriver) -> None:
    with start_driver('{"namespace": "tests"}') as driver:
        assert driver.wait_for_end() == ExitCode.CONFIGURATION
        assert "job.json: name" in driver.read_termination_message().message


def test_overlapping_fields_end_with_64(start_driver: StartDriver) -> None:
    with start_driver(build_config("b:1", "in", None, key={"fields": ["a", "a.b"]})) as driver:
        assert driver.wait_for_end() == ExitCode.CONFIGURATION
        assert "spec.key.fields[1]: no record can have both a.b and a" in driver.read_termination_message().message


def test_a_volume_that_takes_no_writes_ends_with_73(start_driver: StartDriver, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "generation-1").write_text("a file where the folder should be")
    with start_driver(build_config("b:1", "in", None)) as driver:
        assert driver.wait_for_end() == ExitCode.CHECKPOINT_NOT_WRITABLE
        assert driver.read_termination_message().reason == Reason.CHECKPOINT_NOT_WRITABLE


def test_a_checkpoint_without_its_number_of_starts_ends_with_74(start_driver: StartDriver, tmp_path: Path) -> None:
    (tmp_path / "checkpoint" / "generation-1").mkdir(parents=True)
    (tmp_path / "checkpoint" / "generation-1" / "job.json").write_text("{}")
    with start_driver(build_config("b:1", "in", None)) as driver:
        assert driver.wait_for_end() == ExitCode.CHECKPOINT_DAMAGED
        message = driver.read_termination_message()
        assert message.reason == Reason.CHECKPOINT_DAMAGED and "attempt" in message.message
