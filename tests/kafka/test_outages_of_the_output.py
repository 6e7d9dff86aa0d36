"""What the sink says when the brokers answer, but do not take its records or cannot run its transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_api.spec import Ordering
from dedup_job.checkpoint.last_delivered import NOTHING_DELIVERED
from dedup_job.errors import JobError
from dedup_job.exits import decide_failure
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.sink_topics import ensure_progress_topic
from dedup_job.kafka_messages import JobTopics
from dedup_job.sink.at_least_once import AtLeastOnceSink
from dedup_job.sink.exactly_once import ExactlyOnceSink
from dedup_job.sink.marker import Marker
from dedup_job.sink.sink import Sink
from dedup_job.sink.transactions import Transactions
from dedup_job.stream.query import read_exception_causes
from faults.own_broker import OwnBroker, ensure_broker_jars
from faults.processes import Tag
from kafka.broker import Broker

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.xdist_group("spark-session")
TOPICS = JobTopics(source="in", output="out")
FIRST = Marker(batch=NOTHING_DELIVERED, entry="", attempt=1, rows=0)
PATIENCE = {"max.block.ms": "4000", "request.timeout.ms": "2000", "delivery.timeout.ms": "3000"}
"""Shorter than in a driver, which waits for minutes."""


@dataclass(frozen=True)
class ImpatientSettings(ClientSettings):
    def build_producer(self, batch_bytes: int) -> dict[str, str]:
        return {**super().build_producer(batch_bytes), **PATIENCE}


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[OwnBroker]:
    tag = Tag()
    try:
        with OwnBroker(tmp_path / "broker", ensure_broker_jars(), tag.environment, {"broker.session.timeout.ms": "3000"}) as broker:
            yield broker
    finally:
        tag.kill_all()


def build_transactions(spark: SparkSession, bootstrap: str) -> Transactions:
    return Transactions(
        spark=spark,
        settings=ImpatientSettings(bootstrap),
        transactional_id="outages",
        topic="out",
        progress_topic="progress",
        output="outages",
        batch_bytes=65536,
    )


def build_rows(spark: SparkSession, first: int, size: int = 10) -> DataFrame:
    """Two rows, of partition 3 and the offsets `first` and `first` + 1. The value has `size` bytes, which lz4 hardly
    compresses, and ends with the offset."""
    noise = f"array_join(transform(sequence(0, {size // 64}), i -> sha2(string(i), 256)), '')"
    return spark.sql(
        f"SELECT CAST(NULL AS BINARY) key, CAST(lpad(id, {size}, {noise}) AS BINARY) value, timestamp_millis(1) timestamp, "
        "CAST(NULL AS ARRAY<STRUCT<key: STRING, value: BINARY>>) headers, CAST(NULL AS STRING) topic, 3 partition, id offset "
        f"FROM range({first}, {first + 2}, 1, 1)"
    )


def write(sink: Sink, rows: DataFrame, batch: int) -> JobError | None:
    """The error with which a driver would end."""
    try:
        sink.begin(batch, f"entry {batch}")
        sink.write(rows, batch)
        sink.confirm(2)
    except Exception as error:  # noqa: BLE001  the JVM's exceptions have no common class
        sink.abort()
        return decide_failure(read_exception_causes(error), None, TOPICS)
    return None


def set_topic(bootstrap: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "out", incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.incremental_alter_configs([resource])[resource].result(20)


def open_when_the_coordinator_works(transactions: Transactions) -> None:
    """A new broker creates the topic of the transactions first, which takes longer than these clients wait."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return transactions.open()
        except Py4JJavaError:
            if time.monotonic() > deadline:
                raise


def wait_for_replicas(bootstrap: str, count: int) -> None:
    """Until each partition of the output has so many in-sync replicas."""
    admin, deadline = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}), time.monotonic() + 120
    while True:
        partitions = admin.list_topics("out", timeout=20).topics["out"].partitions.values()
        if all(len(partition.isrs) == count for partition in partitions):
            return
        assert time.monotonic() < deadline, f"the topic has no {count} in-sync replicas after 120 s"
        time.sleep(0.2)


def check_error(error: JobError | None, reason: Reason, *texts: str) -> None:
    assert error is not None and error.reason == reason, error
    missing = [text for text in texts if text not in error.message]
    assert not missing, error.message


@pytest.mark.timeout(600)
def test_a_topic_that_does_not_take_the_records_is_named_with_its_setting(
    own_broker: OwnBroker, spark: SparkSession, tmp_path: Path
) -> None:
    bootstrap = own_broker.bootstrap
    transactions = build_transactions(spark, bootstrap)
    at_least_once = AtLeastOnceSink(ImpatientSettings(bootstrap), topic="out", batch_bytes=65536, ordering=Ordering.NONE, partitions=1)

    def open_sink() -> ExactlyOnceSink:
        """As the next start of a driver does."""
        open_when_the_coordinator_works(transactions)
        return ExactlyOnceSink(transactions, transactions.read_marker() or FIRST, attempt=1, ordering=Ordering.NONE, partitions=1)

    ensure_progress_topic(ClientSettings(bootstrap), "progress")
    # The brokers' own topics have one replica each, which must not be on the second broker.
    open_when_the_coordinator_works(transactions)
    with own_broker.build_second(tmp_path / "second"):
        topic = NewTopic("out", 2, 2, config={"min.insync.replicas": "2"})
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        admin.create_topics([topic])["out"].result(60)
        wait_for_replicas(bootstrap, 2)
        assert write(open_sink(), build_rows(spark, 0), 0) is None
        open_sink()  # the transaction has ended on both brokers: later there would be too few replicas for its end
    try:
        wait_for_replicas(bootstrap, 1)
        for sink in (open_sink(), at_least_once):
            error = write(sink, build_rows(spark, 2), 1)
            check_error(error, Reason.SINK_UNAVAILABLE, "the topic out", "min.insync.replicas")
        set_topic(bootstrap, "min.insync.replicas", "1")
        assert write(open_sink(), build_rows(spark, 2), 1) is None

        record = "the record at offset 4 of partition 3 of the topic in has 2000000 bytes"
        check_error(
            write(open_sink(), build_rows(spark, 4, 2_000_000), 2), Reason.SINK_REFUSED, "the topic out", "max.message.bytes", record
        )
        check_error(write(at_least_once, build_rows(spark, 4, 2_000_000), 2), Reason.SINK_REFUSED, "the topic out", "max.message.bytes")
        set_topic(bootstrap, "max.message.bytes", "3000000")
        assert write(open_sink(), build_rows(spark, 4, 2_000_000), 2) is None
        assert sorted((record.value or b"?")[-1:] for record in Broker(bootstrap).read_all("out")) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    finally:
        transactions.close()


@pytest.mark.timeout(600)
def test_a_coordinator_that_cannot_start_is_named_with_its_setting(own_broker: OwnBroker, spark: SparkSession) -> None:
    own_broker.configure({"transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2"})
    transactions = build_transactions(spark, own_broker.bootstrap)
    with pytest.raises(Exception) as raised:
        transactions.open()
    error = decide_failure(read_exception_causes(raised.value), None, TOPICS)
    assert error.code is ExitCode.UNAVAILABLE
    check_error(error, Reason.TRANSACTIONS_UNAVAILABLE, "transaction.state.log.replication.factor", "__transaction_state")
    own_broker.configure({"transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1"})
    transactions.open()
    transactions.close()
