"""What the driver asks the brokers about the topics it writes to: the progress topic, which it makes unless it is there (compacted, one
partition), and how large a batch of records the output topic takes."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.kafka.brokers import get_silent_logger

REQUEST_TIMEOUT = 30.0
"""Seconds: making a topic takes a controller's round."""
DEFAULT_REPLICATION = -1
"""The brokers' own default."""

TOPIC_SETTINGS = {
    "cleanup.policy": "compact",
    "segment.ms": str(60 * 60 * 1000),  # only closed segments are compacted
    "max.message.bytes": str(8 * 1024 * 1024),  # a marker holds the offsets of all partitions of the source
}

BATCH_BYTES = 256 * 1024
"""Of records that a producer sends together: fewer requests and better compression than with its default of 16 KiB."""
BATCH_OVERHEAD = 1024
"""Bytes of a batch that are not records."""

_LOG = logging.getLogger("dedup_job.kafka.sink_topics")
_AUTHORIZATION = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


def ensure_progress_topic(bootstrap_servers: str, topic: str) -> None:
    """Makes the topic; JobError when the brokers refuse."""
    admin = _open_admin(bootstrap_servers)
    wanted = NewTopic(topic, 1, DEFAULT_REPLICATION, config=TOPIC_SETTINGS)
    try:
        admin.create_topics([wanted], request_timeout=REQUEST_TIMEOUT)[topic].result(REQUEST_TIMEOUT + 1)
    except TimeoutError as error:
        raise JobError(ExitCode.UNAVAILABLE, f"no broker of {bootstrap_servers} makes the progress topic {topic}") from error
    except KafkaException as error:
        _explain(error.args[0], bootstrap_servers, topic)


def _explain(error: KafkaError, bootstrap_servers: str, topic: str) -> None:
    if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
        return
    if error.code() in _AUTHORIZATION:
        message = f"the progress topic {topic} does not exist and the driver may not make it: make it, compacted, with one partition"
        raise JobError(ExitCode.AUTHORIZATION, message)
    if error.code() in {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT}:
        raise JobError(ExitCode.UNAVAILABLE, f"no broker of {bootstrap_servers} makes the progress topic {topic}: {error.str()}")
    raise JobError(ExitCode.SINK_REFUSED, f"the brokers do not make the progress topic {topic}: {error.str()}")


def _open_admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "client.id": "dedup-driver-sink"}, logger=get_silent_logger())


def fetch_batch_bytes(bootstrap_servers: str, topics: list[str]) -> int:
    """At most what each of the topics takes in one batch; BATCH_BYTES where the brokers do not tell.

    A producer whose batches are larger splits them into equal ones and sends them again, without end, and never says that a record
    is too large.
    """
    settings = [fetch_settings(bootstrap_servers, topic) for topic in topics]
    return min(build_batch_bytes(int(found["max.message.bytes"])) if found else BATCH_BYTES for found in settings)


def check_progress_topic(bootstrap_servers: str, topic: str) -> None:
    """Warns about a topic that was made by somebody else and would forget the marker of a job that is quiet or suspended for long."""
    policy = fetch_settings(bootstrap_servers, topic).get("cleanup.policy", "compact")
    if "delete" in policy:
        _LOG.warning("the progress topic %s has cleanup.policy %s and forgets the job's marker: set it to compact", topic, policy)


def fetch_settings(bootstrap_servers: str, topic: str) -> dict[str, str]:
    """Of a topic, by name; empty where the brokers do not tell."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = _open_admin(bootstrap_servers)  # bound to a name: what it was asked ends with it
    try:
        found = admin.describe_configs([resource], request_timeout=REQUEST_TIMEOUT)[resource].result(REQUEST_TIMEOUT + 1)
    except (KafkaException, TimeoutError) as error:
        _LOG.warning("the settings of topic %s cannot be read: %s", topic, error)
        return {}
    return {name: str(entry.value) for name, entry in found.items()}


def build_batch_bytes(limit: int) -> int:
    """`limit`: the topic's max.message.bytes."""
    return max(1, min(BATCH_BYTES, limit - BATCH_OVERHEAD))
