"""The settings of every Kafka client of the driver. No other module writes a setting of a Kafka client.

The driver has clients of two families: librdkafka (Python) and Kafka's own Java clients, which Spark and
`TransactionalSink` use. Their settings have the same names where both families know a setting. What a client needs to
reach the brokers is written once per family, in `_build_librdkafka` and `_build_java`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

BLOCK_SECONDS = 60
"""How long one call of a Java client waits for a broker."""
METADATA_SECONDS = 15
"""A producer asks so often which partitions a topic has, and uses new ones from then on. Kafka's default is 5 minutes."""
COORDINATOR_MILLISECONDS = 6000
"""How long a commit of offsets waits for a coordinator. librdkafka takes this limit from the session timeout."""
LARGEST_REQUEST_BYTES = 100 * 1024 * 1024
"""So large that the producer refuses no record that the source topic has accepted. The sink topic has its own limit."""
_SPARK_PREFIX = "kafka."
"""Spark passes options with this prefix on to its Kafka clients."""


@dataclass(frozen=True)
class ClientSettings:
    """Builds the settings of each client that connects to the brokers of one job."""

    bootstrap_servers: str

    def build_broker_client(self) -> dict[str, Any]:
        return {
            **self._build_librdkafka("dedup-driver-probe"),
            "reconnect.backoff.max.ms": 2000,
            "socket.connection.setup.timeout.ms": 4000,  # less than a request takes, so that the request can say so
        }

    def build_topic_admin(self) -> dict[str, Any]:
        return self._build_librdkafka("dedup-driver-sink")

    def build_group_writer(self, group: str) -> dict[str, Any]:
        return {
            **self._build_librdkafka("dedup-driver-group"),
            "group.id": group,
            "enable.auto.commit": False,
            "session.timeout.ms": COORDINATOR_MILLISECONDS,
        }

    def build_lag_reader(self, group: str) -> dict[str, Any]:
        """`group` is the job's own, to which the driver has rights. The reader neither joins it nor commits for it. It reads records
        of open transactions as well, because the lag counts them."""
        return {
            **self._build_librdkafka("dedup-driver-lag"),
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_uncommitted",
            "auto.offset.reset": "earliest",
            "max.partition.fetch.bytes": 1024,  # the broker sends the first batch of records whole, whatever its size
            "enable.partition.eof": True,
        }

    def build_marker_reader(self) -> dict[str, str]:
        return {
            **self._build_java(),
            "default.api.timeout.ms": str(BLOCK_SECONDS * 1000),
            "allow.auto.create.topics": "false",
            "auto.offset.reset": "none",
            "enable.auto.commit": "false",
        }

    def build_producer(self, batch_bytes: int) -> dict[str, str]:
        """`batch_bytes`: size of the records that the producer sends together, see `sink_topics`.

        The partitioner is Java's default, so that a key goes to the partition where other producers put it.
        """
        return {
            **self._build_java(),
            "acks": "all",
            "enable.idempotence": "true",
            "compression.type": "lz4",
            "linger.ms": "20",
            "batch.size": str(batch_bytes),
            "max.request.size": str(LARGEST_REQUEST_BYTES),
            "max.block.ms": str(BLOCK_SECONDS * 1000),
            "metadata.max.age.ms": str(METADATA_SECONDS * 1000),
        }

    def build_transactional_producer(self, batch_bytes: int, transactional_id: str, timeout: int) -> dict[str, str]:
        """`timeout` in seconds, from the first record of a transaction to its commit."""
        return {
            **self.build_producer(batch_bytes),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": str(timeout * 1000),
        }

    def build_spark_source(self) -> dict[str, str]:
        """Options of Spark's Kafka source. A deleted topic must stay missing, so the clients do not create it."""
        return _add_prefix({**self._build_java(), "isolation.level": "read_committed", "allow.auto.create.topics": "false"})

    def build_spark_sink(self, batch_bytes: int) -> dict[str, str]:
        """Options of Spark's own Kafka writer."""
        return _add_prefix(self.build_producer(batch_bytes))

    def _build_librdkafka(self, client_id: str) -> dict[str, Any]:
        return {"bootstrap.servers": self.bootstrap_servers, "client.id": client_id}

    def _build_java(self) -> dict[str, str]:
        return {"bootstrap.servers": self.bootstrap_servers}


def _add_prefix(settings: dict[str, str]) -> dict[str, str]:
    return {f"{_SPARK_PREFIX}{name}": value for name, value in settings.items()}


def get_silent_logger() -> logging.Logger:
    """For librdkafka, which otherwise prints lines that are not JSON.

    Everything that matters also arrives as an error.
    """
    silent = logging.getLogger("dedup_job.librdkafka")
    silent.propagate = False
    silent.handlers = [logging.NullHandler()]
    return silent
