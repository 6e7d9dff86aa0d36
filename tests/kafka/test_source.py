"""The source topic under a real driver: lost records, a recreated topic, and the position that lag tools see."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, KafkaError

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.consumer_group import GroupOffsets
from kafka.broker import Broker, use_topics
from kafka.driver import StartDriver, build_config
from kafka.events import build_event, build_events, compare, sum_samples


@dataclass(frozen=True)
class Job:
    """A job with topics, a consumer group and a progress topic of its own."""

    broker: Broker
    source: str
    sink: str

    def build_config(self, on_data_loss: str) -> JobConfig:
        settings = {"bootstrapServers": self.broker.bootstrap, "topic": self.source, "onDataLoss": on_data_loss}
        return build_config(self.broker.bootstrap, self.source, self.sink, name=self.source, source=settings)

    def send(self, partition: int, events: range) -> None:
        self.broker.send(self.source, [build_event(number) for number in events], partition)

    def wait_for_group(self, expected: dict[int, int]) -> None:
        """Waits until the driver has written these offsets for its consumer group. A thread of its own does that."""
        group = self.build_config("Fail").consumer_group
        deadline = time.monotonic() + 30
        while (found := self.broker.read_group(group, self.source)) != expected:
            assert time.monotonic() < deadline, f"the group has the offsets {found} after 30 s, not {expected}"
            time.sleep(0.1)


@pytest.fixture
def job(broker: Broker) -> Iterator[Job]:
    with use_topics(broker, 2, 1) as (source, sink):
        job = Job(broker, source, sink)
        yield job
        config = job.build_config("Fail")
        broker.delete(config.progress_topic)
        broker.delete_group(config.consumer_group)


def test_lost_records_stop_the_job_or_are_counted(job: Job, start_in_shared_jvm: StartDriver) -> None:
    job.send(0, range(1000))
    job.send(1, range(500, 1500))
    with start_in_shared_jvm(job.build_config("Fail")) as driver:
        driver.wait_for_rows(2000)
        job.wait_for_group({0: 1000, 1: 1000})
        assert driver.stop() == ExitCode.DONE

    job.send(0, range(1500, 2000))
    job.send(1, range(2000, 2100))
    job.broker.delete_records(job.source, {0: 1300, 1: 900})
    with start_in_shared_jvm(job.build_config("Fail")) as driver:
        assert driver.wait_for_end() == ExitCode.SOURCE_DATA_LOST, driver.read_output()
        message = driver.read_termination_message()
    assert message.reason == Reason.SOURCE_DATA_LOST
    assert "offsets 1000 to 1299 of partition 0: up to 300 records" in message.message

    with start_in_shared_jvm(job.build_config("Continue")) as driver:
        status = driver.wait_for_rows(2300)
        metrics = driver.get("/metrics")[1]
        job.wait_for_group({0: 1500, 1: 1100})
        assert driver.stop() == ExitCode.DONE
        assert "offsets 1000 to 1299 of partition 0" in driver.read_output()
    progress = status.progress
    assert (progress.rows_in, progress.rows_out, progress.duplicates, progress.lost) == (2300, 1800, 500, 300), progress
    assert sum_samples(metrics, "dedup_lost_records_total") == 300
    compare(job.broker.read_all(job.sink), build_events(range(1500), range(1800, 2100)))


@pytest.mark.parametrize("in_output", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_recreated_topic_stops_the_job_or_is_read_from_its_start(job: Job, start_in_shared_jvm: StartDriver, in_output: bool) -> None:
    """The records of the old topic's last batch count as lost when they are not in the output. When they are, their
    keys must still be known."""
    job.send(0, range(1000))
    with start_in_shared_jvm(job.build_config("Fail")) as driver:
        driver.wait_for_rows(1000)
        assert driver.stop() == ExitCode.DONE
    if in_output:
        take_back_commit(CheckpointLayout(driver.checkpoint, 1))
    else:
        plan_batch(CheckpointLayout(driver.checkpoint, 1), job.source, {"0": 1007, "1": 0})

    replace_topic(job, 3)
    job.send(0, range(900, 1200))  # fewer than the old topic had, so that Spark sees nothing new behind its old position
    job.send(2, range(1100, 1400))
    with start_in_shared_jvm(job.build_config("Fail")) as driver:
        assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
        message = driver.read_termination_message()
    assert message.reason == Reason.SOURCE_TOPIC_REPLACED and job.source in message.message

    with start_in_shared_jvm(job.build_config("Continue")) as driver:
        status = driver.wait_for_rows(1600)
        compare(job.broker.read_all(job.sink), build_events(range(1400)))
        progress = status.progress
        assert (progress.rows_in, progress.rows_out, progress.duplicates) == (1600, 1400, 200), progress
        assert progress.lost == (0 if in_output else 7)
        # While a driver runs, Continue does not prevent that it ends. The next start would continue.
        replace_topic(job, 1)
        job.send(0, range(1400, 1500))
        assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
        assert driver.read_termination_message().reason == Reason.SOURCE_TOPIC_MISSING
    compare(job.broker.read_all(job.sink), build_events(range(1400)))


def replace_topic(job: Job, partitions: int) -> None:
    job.broker.delete(job.source)
    job.broker.create(job.source, partitions)


def plan_batch(checkpoint: CheckpointLayout, topic: str, ends: dict[str, int]) -> None:
    """Leaves the files of a batch that Spark has planned and the driver has refused."""
    last = CommitLog(checkpoint).read_newest()
    assert last is not None
    lines = OffsetLog(checkpoint).read_entry(last).splitlines()
    entry = "\n".join([*lines[:2], json.dumps({topic: ends})])
    (checkpoint.spark / "offsets" / str(last + 1)).write_text(entry)
    assert OffsetLog(checkpoint).read_end_offsets(last + 1, topic) == {int(partition): end for partition, end in ends.items()}


def take_back_commit(checkpoint: CheckpointLayout) -> None:
    """Leaves the files of a batch whose driver was killed between the transaction and Spark's commit."""
    last = CommitLog(checkpoint).read_newest()
    assert last is not None
    commits = checkpoint.spark / "commits"
    (commits / str(last)).unlink()
    (commits / f".{last}.crc").unlink()


def test_the_driver_writes_no_position_for_a_group_that_has_members(job: Job) -> None:
    job.send(0, range(10))
    group, offsets = f"group-of-{job.source}", GroupOffsets(ClientSettings(job.broker.bootstrap), "another job")
    consumer = Consumer({"bootstrap.servers": job.broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([job.source])
        assert consumer.consume(10, timeout=60), "the consumer reads nothing within 60 s, so it is no member of the group yet"
        error = offsets.write_group_offsets(group, job.source, {0: 5})
        assert error is not None and error.code() == KafkaError.UNKNOWN_MEMBER_ID
    finally:
        consumer.close()
    deadline = time.monotonic() + 60
    while (error := offsets.write_group_offsets(group, job.source, {0: 5, 1: 0})) is not None:
        assert time.monotonic() < deadline, error
        time.sleep(0.1)
    assert job.broker.read_group(group, job.source) == {0: 5, 1: 0}
    job.broker.delete_group(group)
