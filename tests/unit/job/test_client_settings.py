"""The settings that reach each Kafka client, written out in full: a new setting for all clients must show here as
well."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.stream.source import build_source_options
from unit.job.test_session import CONFIG

SETTINGS = ClientSettings("kafka:9092,other:9092")
PRODUCER = {
    "bootstrap.servers": "kafka:9092,other:9092",
    "acks": "all",
    "enable.idempotence": "true",
    "compression.type": "lz4",
    "linger.ms": "20",
    "batch.size": "262144",
    "max.request.size": "104857600",
    "max.block.ms": "60000",
    "metadata.max.age.ms": "15000",
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(
            SETTINGS.build_broker_client(),
            {
                "bootstrap.servers": "kafka:9092,other:9092",
                "client.id": "dedup-driver-probe",
                "reconnect.backoff.max.ms": 2000,
                "socket.connection.setup.timeout.ms": 4000,
            },
            id="broker client",
        ),
        pytest.param(
            SETTINGS.build_topic_admin(),
            {"bootstrap.servers": "kafka:9092,other:9092", "client.id": "dedup-driver-sink"},
            id="topic admin",
        ),
        pytest.param(
            SETTINGS.build_group_writer("group"),
            {
                "bootstrap.servers": "kafka:9092,other:9092",
                "client.id": "dedup-driver-group",
                "group.id": "group",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
            },
            id="group writer",
        ),
        pytest.param(
            SETTINGS.build_lag_reader("group"),
            {
                "bootstrap.servers": "kafka:9092,other:9092",
                "group.id": "group",
                "client.id": "dedup-driver-lag",
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted",
                "auto.offset.reset": "earliest",
                "max.partition.fetch.bytes": 1024,
                "enable.partition.eof": True,
            },
            id="lag reader",
        ),
        pytest.param(
            SETTINGS.build_marker_reader(),
            {
                "bootstrap.servers": "kafka:9092,other:9092",
                "default.api.timeout.ms": "60000",
                "allow.auto.create.topics": "false",
                "auto.offset.reset": "none",
                "enable.auto.commit": "false",
            },
            id="marker reader",
        ),
        pytest.param(SETTINGS.build_producer(262144), PRODUCER, id="producer"),
        pytest.param(
            SETTINGS.build_transactional_producer(262144, "dedup.shop.orders.0123", 900),
            {**PRODUCER, "transactional.id": "dedup.shop.orders.0123", "transaction.timeout.ms": "900000"},
            id="transactional producer",
        ),
        pytest.param(SETTINGS.build_spark_sink(262144), {f"kafka.{name}": value for name, value in PRODUCER.items()}, id="Spark sink"),
        pytest.param(
            build_source_options(CONFIG, 7),
            {
                "kafka.bootstrap.servers": "kafka:9092",
                "kafka.isolation.level": "read_committed",
                "kafka.allow.auto.create.topics": "false",
                "subscribe": "orders",
                "startingOffsets": "latest",
                "maxOffsetsPerTrigger": "7",
                "includeHeaders": "true",
                "failOnDataLoss": "true",
                "fetchOffset.numRetries": "10",
                "fetchOffset.retryIntervalMs": "1000",
            },
            id="Spark source",
        ),
    ],
)
def test_each_client_gets_exactly_these_settings(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    assert settings == expected
