"""The source under a real driver: records that are gone, a topic that was made again, and the position that lag tools see."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
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
from kafka.broker import Broker, Record, use_topics
from kafka.driver import Driver, build_config
from kafka.test_driver import build_event, compare, sum_samples

Start = Callable[[JobConfig | str], Driver]


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
        """The position is written beside the batches, by a thread of its own."""
        group = self.build_config("Fail").consumer_group
        deadline = time.monotonic() + 30
        while (found := self.broker.read_group(group, self.source)) != expected:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)


@pytest.fixture
def job(broker: Broker) -> Iterator[Job]:
    with use_topics(broker, 2, 1) as (source, sink):
        job = Job(broker, source, sink)
        yield job
        config = job.build_config("Fail")
        broker.delete(config.progress_topic)
        broker.delete_group(config.consumer_group)


def build_events(*parts: range) -> set[Record]:
    return {build_event(number) for part in parts for number in part}


def test_records_that_are_gone_stop_the_job_or_are_counted(job: Job, start_driver: Start) -> None:
    job.send(0, range(1000))
    job.send(1, range(500, 1500))
    with start_driver(job.build_config("Fail")) as driver:
        driver.wait_for_rows(2000)
        job.wait_for_group({0: 1000, 1: 1000})
        assert driver.stop() == ExitCode.DONE

    job.send(0, range(1500, 2000))
    job.send(1, range(2000, 2100))
    job.broker.delete_records(job.source, {0: 1300, 1: 900})
    with start_driver(job.build_config("Fail")) as driver:
        assert driver.wait_for_end() == ExitCode.SOURCE_DATA_LOST, driver.read_output()
        message = driver.read_termination_message()
    assert message.reason is Reason.SOURCE_DATA_LOST
    assert "offsets 1000 to 1299 of partition 0: up to 300 records" in message.message

    with start_driver(job.build_config("Continue")) as driver:
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
def test_a_topic_made_again_stops_the_job_or_is_read_from_its_beginning(job: Job, start_driver: Start, in_output: bool) -> None:
    """What the old topic's last batch had read is lost where it is not in the output, and where it is, its keys are not."""
    job.send(0, range(1000))
    with start_driver(job.build_config("Fail")) as driver:
        driver.wait_for_rows(1000)
        assert driver.stop() == ExitCode.DONE
    if in_output:
        take_back_commit(CheckpointLayout(driver.checkpoint, 1))
    else:
        plan_batch(CheckpointLayout(driver.checkpoint, 1), job.source, {"0": 1007, "1": 0})

    replace_topic(job, 3)
    job.send(0, range(900, 1200))  # fewer than the old topic had: to Spark's old position there is nothing new
    job.send(2, range(1100, 1400))
    with start_driver(job.build_config("Fail")) as driver:
        assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
        message = driver.read_termination_message()
    assert message.reason is Reason.SOURCE_TOPIC_REPLACED and job.source in message.message

    with start_driver(job.build_config("Continue")) as driver:
        status = driver.wait_for_rows(1600)
        compare(job.broker.read_all(job.sink), build_events(range(1400)))
        progress = status.progress
        assert (progress.rows_in, progress.rows_out, progress.duplicates) == (1600, 1400, 200), progress
        assert progress.lost == (0 if in_output else 7)
        # While it runs, Continue does not end the job for good: the next start goes on.
        replace_topic(job, 1)
        job.send(0, range(1400, 1500))
        assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
        assert driver.read_termination_message().reason is Reason.SOURCE_TOPIC_MISSING
    compare(job.broker.read_all(job.sink), build_events(range(1400)))


def replace_topic(job: Job, partitions: int) -> None:
    job.broker.delete(job.source)
    job.broker.create(job.source, partitions)


def plan_batch(checkpoint: CheckpointLayout, topic: str, ends: dict[str, int]) -> None:
    """As Spark leaves a batch that was planned and refused."""
    last = CommitLog(checkpoint).read_newest()
    assert last is not None
    lines = OffsetLog(checkpoint).read_entry(last).splitlines()
    entry = "\n".join([*lines[:2], json.dumps({topic: ends})])
    (checkpoint.spark / "offsets" / str(last + 1)).write_text(entry)
    assert OffsetLog(checkpoint).read_end_offsets(last + 1, topic) == {int(partition): end for partition, end in ends.items()}


def take_back_commit(checkpoint: CheckpointLayout) -> None:
    """As a driver leaves a batch that was killed between its transaction and Spark's commit."""
    last = CommitLog(checkpoint).read_newest()
    assert last is not None
    commits = checkpoint.spark / "commits"
    (commits / str(last)).unlink()
    (commits / f".{last}.crc").unlink()


def test_a_group_with_members_keeps_its_own_position(job: Job) -> None:
    job.send(0, range(10))
    group, offsets = f"group-of-{job.source}", GroupOffsets(ClientSettings(job.broker.bootstrap))
    consumer = Consumer({"bootstrap.servers": job.broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([job.source])
        assert consumer.consume(10, timeout=60), "a member that reads"
        error = offsets.write_group_offsets(group, job.source, {0: 5})
        assert error is not None and error.code() == KafkaError.UNKNOWN_MEMBER_ID
    finally:
        consumer.close()
    deadline = time.monotonic() + 60
    while (error := offsets.write_group_offsets(group, job.source, {0: 5, 1: 0})) is not None:
        assert time.monotonic() < deadline, error
        time.sleep(0.5)
    assert job.broker.read_group(group, job.source) == {0: 5, 1: 0}
    job.broker.delete_group(group)
