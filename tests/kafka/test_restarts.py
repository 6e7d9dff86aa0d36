"""`eventTime.from: Arrival` across restarts: a key that has expired while no driver ran must not drop the next record.

Spark judges the records of a process's first batch by the keys that the state holds then, so a batch without data must
come first.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dedup_api.driver_status import Phase
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.next_batch import plan_expiry_batch
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from kafka.broker import Broker, Record, use_topics
from kafka.driver import Driver, StartDriver, build_config

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

AGAIN = Record(b"k", b"the same")
WATERMARK = 10
"""Seconds."""


def build_arrival_job(broker: Broker, source: str, sink: str, **changes: Any) -> JobConfig:
    settings = {"format": "Raw", "key": {"from": "KafkaKey"}, "eventTime": {"from": "Arrival"}, "watermark": f"{WATERMARK}s"}
    return build_config(broker.bootstrap, source, sink, **{**settings, **changes})


def run_once(driver: Driver) -> None:
    """Waits until the driver has committed the first record, and stops it."""
    driver.wait_for_rows(1)
    assert driver.stop() == ExitCode.DONE, driver.read_output()


def test_a_key_that_expired_while_no_driver_ran_drops_nothing(broker: Broker, start_in_shared_jvm: StartDriver) -> None:
    with use_topics(broker, 1, 1) as (source, sink):
        config = build_arrival_job(broker, source, sink)
        broker.send(source, [AGAIN])
        with start_in_shared_jvm(config) as driver:
            run_once(driver)
        time.sleep(WATERMARK + 1)
        with start_in_shared_jvm(config) as driver:
            driver.wait_until(lambda status: status.phase is Phase.RUNNING)
            broker.send(source, [AGAIN])
            status = driver.wait_for_rows(2)
            assert driver.stop() == ExitCode.DONE, driver.read_output()
        output = broker.read_all(sink)
    assert (status.progress.unique, status.progress.duplicates, status.progress.late) == (2, 0, 0), status.progress
    assert output == [AGAIN, AGAIN]


def test_a_key_that_expired_between_two_runs_of_available_now_drops_nothing(broker: Broker, start_in_shared_jvm: StartDriver) -> None:
    with use_topics(broker, 1, 1) as (source, sink):
        config = build_arrival_job(broker, source, sink, availableNow=True)
        for run in (1, 2):
            broker.send(source, [AGAIN])
            with start_in_shared_jvm(config) as driver:
                assert driver.wait_for_end() == ExitCode.DONE, driver.read_output()
            assert len(broker.read_all(sink)) == run
            time.sleep(WATERMARK + 1)


def test_a_planned_batch_is_repeated_and_a_batch_without_data_follows(
    broker: Broker, start_in_shared_jvm: StartDriver, tmp_path: Path
) -> None:
    """The repeat has the watermark of its plan, by which the key has not expired. So the records that wait in the topic
    must come one batch later, also with `availableNow`."""
    with use_topics(broker, 1, 1) as (source, sink):
        broker.send(source, [AGAIN])
        with start_in_shared_jvm(build_arrival_job(broker, source, sink)) as driver:
            run_once(driver)
            checkpoint = CheckpointLayout(driver.checkpoint, 1)
        for number, changes in enumerate(({}, {"availableNow": True}), start=2):
            plan_expiry_batch(checkpoint, 0, int(time.time() * 1000))  # None where the stopped driver had planned one
            assert OffsetLog(checkpoint).read_newest() != CommitLog(checkpoint).read_newest(), "as after a kill"
            time.sleep(WATERMARK + 1)
            broker.send(source, [AGAIN])
            with start_in_shared_jvm(build_arrival_job(broker, source, sink, **changes)) as driver:
                if changes:
                    assert driver.wait_for_end() == ExitCode.DONE, driver.read_output()
                else:
                    driver.wait_for_rows(number)
                    assert driver.stop() == ExitCode.DONE, driver.read_output()
            assert len(broker.read_all(sink)) == number


def test_no_expiry_batch_is_requested_before_the_first_batch_of_a_process(spark: SparkSession, tmp_path: Path) -> None:
    """Spark prepares the query after `start` has returned, and plans no batch without data before its first batch."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.txt").write_text("a line")
    writer = spark.readStream.text(str(source)).writeStream.format("noop").option("checkpointLocation", str(tmp_path / "checkpoint"))
    writer.trigger(availableNow=True).start().awaitTermination()
    jvm: Any = spark._jvm
    query = writer.trigger(processingTime="0 seconds").start()
    try:
        for _ in range(50):
            assert jvm.dev.streamdedup.ExpiryBatch.request(query._jsq.streamingQuery(), 1) is False
            time.sleep(0.02)
        assert query.exception() is None
    finally:
        query.stop()


def test_quick_restarts_on_a_quiet_topic_do_not_fail(broker: Broker, start_driver: StartDriver) -> None:
    """The driver's first look at the query can come before Spark has prepared it. Its watermark is old enough by then for
    a batch without data, and its key has not expired."""
    with use_topics(broker, 1, 1) as (source, sink):
        config = build_arrival_job(broker, source, sink, watermark="40s")
        broker.send(source, [AGAIN])
        with start_driver(config) as driver:
            run_once(driver)
        for _ in range(4):
            with start_driver(config) as driver:
                driver.wait_until(lambda status: status.phase is Phase.RUNNING)
                time.sleep(1)
                assert driver.stop() == ExitCode.DONE, driver.read_output()
