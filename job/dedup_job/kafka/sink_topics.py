"""Prepares the topics that the driver writes to.

It makes sure that the progress topic exists, warns where that topic is not compacted, and finds out how large a batch
of records the topics accept.
"""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError, KafkaException

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import create_topic, fetch_topic_settings
from dedup_job.kafka.client_settings import ClientSettings

PROGRESS_PARTITIONS = 1
TOPIC_SETTINGS = {
    "cleanup.policy": "compact",
    "segment.ms": str(60 * 60 * 1000),  # Kafka compacts closed segments only
    "max.message.bytes": str(8 * 1024 * 1024),  # a marker holds the offsets of all partitions of the source
}
"""Of a progress topic that the driver creates."""

BATCH_BYTES = 256 * 1024
"""Size of the records that a producer sends together. Kafka's default of 16 KiB makes requests small and frequent."""
BATCH_OVERHEAD = 1024
"""Bytes of a batch that are not records."""

_LOG = logging.getLogger("dedup_job.kafka.sink_topics")
_AUTHORIZATION = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
_UNAVAILABLE = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT}


def ensure_progress_topic(settings: ClientSettings, topic: str) -> None:
    """Creates the topic unless it exists; JobError when the brokers refuse."""
    try:
        create_topic(settings, topic, PROGRESS_PARTITIONS, TOPIC_SETTINGS)
    except KafkaException as error:
        found: KafkaError = error.args[0]
        if found.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise _explain_refusal(settings, topic, found) from error


def _explain_refusal(settings: ClientSettings, topic: str, error: KafkaError) -> JobError:
    if error.code() in _AUTHORIZATION:
        message = (
            f"the progress topic {topic} does not exist and the driver may not create it: create it with cleanup.policy compact "
            "and one partition"
        )
        return JobError(ExitCode.AUTHORIZATION, message)
    if error.code() in _UNAVAILABLE:
        return _build_unavailable(settings, topic, error.str())
    return JobError(ExitCode.SINK_REFUSED, f"the brokers do not create the progress topic {topic}: {error.str()}")


def _build_unavailable(settings: ClientSettings, topic: str, cause: str) -> JobError:
    return JobError(ExitCode.UNAVAILABLE, f"no broker of {settings.bootstrap_servers} creates the progress topic {topic}: {cause}")


def fetch_batch_bytes(settings: ClientSettings, topics: list[str]) -> int:
    """At most what each of the topics accepts in one batch; BATCH_BYTES where the brokers do not say.

    A producer whose batch is too large splits it into equal parts and sends them again, without end, and never reports
    that a record is too large.
    """
    found = [_fetch_settings(settings, topic) for topic in topics]
    return min(build_batch_bytes(int(topic["max.message.bytes"])) if topic else BATCH_BYTES for topic in found)


def check_progress_topic(settings: ClientSettings, topic: str) -> None:
    """Warns about a topic from which Kafka would delete the marker of a job that writes nothing for a long time."""
    policy = _fetch_settings(settings, topic).get("cleanup.policy", "compact")
    if "delete" in policy:
        message = "the progress topic %s has cleanup.policy %s, so Kafka deletes the job's marker: set cleanup.policy to compact"
        _LOG.warning(message, topic, policy)


def _fetch_settings(settings: ClientSettings, topic: str) -> dict[str, str]:
    """Of a topic, by name; empty where the brokers do not say."""
    try:
        return fetch_topic_settings(settings, topic)
    except KafkaException as error:
        _LOG.warning("the settings of topic %s cannot be read: %s", topic, error)
        return {}


def build_batch_bytes(limit: int) -> int:
    """`limit`: the topic's max.message.bytes."""
    return max(1, min(BATCH_BYTES, limit - BATCH_OVERHEAD))
