"""Finds out whether the source topic exists, and whether it was deleted and recreated."""

from __future__ import annotations

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.spec import OnDataLoss
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import TopicInfo, TopicLookup


def fetch_source_topic(brokers: TopicLookup, config: JobConfig) -> TopicInfo:
    """JobError with TOPIC_MISSING where the topic does not exist."""
    found = brokers.fetch_topic(config.source.topic)
    if found is None:
        raise JobError(ExitCode.TOPIC_MISSING, f"the topic {config.source.topic} does not exist")
    return found


def is_recreated(topic_id: str, found: TopicInfo) -> bool:
    """Whether the topic with this id was deleted and recreated. False where one of the ids is unknown."""
    return bool(topic_id and found.id) and topic_id != found.id


def build_recreated_error(config: JobConfig) -> JobError:
    """The error that ends the driver.

    With Continue the operator starts the driver again, and the next start moves to the new topic: see
    `recreated_topic`.
    """
    message = f"the topic {config.source.topic} was deleted and recreated"
    if config.source.on_data_loss is OnDataLoss.CONTINUE:
        message = f"{message}: the next start of the driver continues at the beginning of the new topic"
        return JobError(ExitCode.TOPIC_MISSING, message, Reason.SOURCE_TOPIC_MISSING)
    message = f"{message}, and the offsets of the checkpoint belong to the old one"
    return JobError(ExitCode.TOPIC_MISSING, message, Reason.SOURCE_TOPIC_REPLACED)
