"""Another address of the same brokers, another cluster with a topic of the same name, and a consumer group that belongs to
somebody else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.identity_file import IdentityFile
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.kafka.broker_client import BrokerClient
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.group_guard import build_mark
from faults.own_broker import OwnBroker, ensure_broker_jars
from kafka.broker import Broker, use_topics
from kafka.driver import StartDriver, build_config
from kafka.events import build_event, build_events, compare


@pytest.fixture
def topics(broker: Broker) -> Iterator[tuple[str, str]]:
    with use_topics(broker, 1, 1) as (source, sink):
        yield source, sink


def build_job(bootstrap: str, topics: tuple[str, str], **source: str) -> JobConfig:
    name, sink = topics
    return build_config(bootstrap, name, sink, source={"bootstrapServers": bootstrap, "topic": name, **source})


def send(broker: Broker, topic: str, events: range) -> None:
    broker.send(topic, [build_event(number) for number in events])


def test_the_address_may_change_and_the_cluster_may_not(
    broker: Broker, topics: tuple[str, str], start_in_shared_jvm: StartDriver, tmp_path: Path
) -> None:
    source, sink = topics
    send(broker, source, range(100))
    with start_in_shared_jvm(build_job(broker.bootstrap, topics)) as driver:
        driver.wait_for_rows(100)
        assert driver.stop() == ExitCode.DONE
    identity_file = IdentityFile(CheckpointLayout(driver.checkpoint, 1))

    with OwnBroker(tmp_path / "other", ensure_broker_jars(), {}, cluster_id="YW5vdGhlci1jbHVzdGVyLQ") as other_broker:
        other = Broker(other_broker.bootstrap)
        for topic in topics:
            other.create(topic, 1)
        send(other, source, range(1000, 1200))
        before = identity_file.read()
        with start_in_shared_jvm(build_job(other.bootstrap, topics, onDataLoss="Continue")) as driver:
            assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
            message = driver.read_termination_message()
        assert message.reason == Reason.SOURCE_CLUSTER_CHANGED and other.bootstrap in message.message
        assert other.read_all(sink) == [], "the driver must write nothing to another cluster"
        assert BrokerClient(ClientSettings(other.bootstrap)).fetch_topic(build_job("b:1", topics).progress_topic) is None
        assert identity_file.read() == before

    send(broker, source, range(50, 150))
    port = broker.bootstrap.rsplit(":", 1)[1]
    moved = f"localhost:{port},{broker.bootstrap}"
    with start_in_shared_jvm(build_job(moved, topics)) as driver:
        progress = driver.wait_for_rows(200).progress
        assert driver.stop() == ExitCode.DONE, driver.read_output()
    assert (progress.unique, progress.duplicates) == (150, 50), progress
    compare(broker.read_all(sink), build_events(range(150)))
    identity = identity_file.read()
    assert identity is not None and identity.cluster_id, "the checkpoint knows its cluster"
    assert identity.config.source.bootstrap_servers == moved, "a driver of version 0.1.0 compares the address"


def test_a_consumer_group_of_another_application_is_not_moved(
    broker: Broker, topics: tuple[str, str], start_in_shared_jvm: StartDriver
) -> None:
    source, sink = topics
    group = f"billing-{source}"
    send(broker, source, range(20))
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(source, 0, 7)], asynchronous=False)
    config = build_job(broker.bootstrap, topics, consumerGroup=group)
    try:
        with start_in_shared_jvm(config) as driver:
            status = driver.wait_until(lambda status: status.blocked_by is not None)
            assert status.blocked_by is not None and status.blocked_by.reason == Reason.CONSUMER_GROUP_TAKEN
            assert group in status.blocked_by.message and "without a mark" in status.blocked_by.message
            assert broker.read_group(group, source) == {0: 7}
            broker.delete_group(group)
            driver.wait_for_rows(20)
            deadline = time.monotonic() + 30
            while broker.read_group(group, source) != {0: 20}:
                assert time.monotonic() < deadline, "the driver does not write its position"
                time.sleep(0.1)
            assert driver.stop() == ExitCode.DONE
        [entry] = consumer.committed([TopicPartition(source, 0)], timeout=10)
        assert entry.metadata == build_mark(config)
        with start_in_shared_jvm(config) as driver:  # the next start finds its own mark, and looks no more
            driver.wait_for_rows(20)
            assert driver.stop() == ExitCode.DONE
    finally:
        consumer.close()
        broker.delete_group(group)
    compare(broker.read_all(sink), build_events(range(20)))
