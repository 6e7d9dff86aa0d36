"""The progress topic: compacted, one partition, made by the driver unless it is there."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError

REQUEST_TIMEOUT = 30.0
"""Seconds: making a topic takes a controller's round."""
DEFAULT_REPLICATION = -1
"""The brokers' own default."""

TOPIC_SETTINGS = {
    "cleanup.policy": "compact",
    "segment.ms": str(60 * 60 * 1000),  # only closed segments are compacted
    "max.message.bytes": str(8 * 1024 * 1024),  # a marker holds the offsets of all partitions of the source
}

_AUTHORIZATION = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


def ensure_progress_topic(bootstrap_servers: str, topic: str) -> None:
    """Makes the topic; JobError when the brokers refuse."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "client.id": "dedup-driver-progress"})
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
