"""The parts of a driver that live as long as its process."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.identity_file import Identity
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.lock import CheckpointLock
from dedup_job.errors import JobError
from dedup_job.exits import Cause, decide_failure
from dedup_job.kafka.broker_client import BrokerClient
from dedup_job.kafka.source_topic_guard import SourceTopicGuard
from dedup_job.kafka.startup_check import find_broker_problem
from dedup_job.kafka_messages import JobTopics
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State
from dedup_job.stream.stop import BatchGate


@dataclass(frozen=True, kw_only=True)
class Driver:
    config: JobConfig
    layout: CheckpointLayout
    lock: CheckpointLock
    attempt: int
    gate: BatchGate
    state: State
    metrics: Metrics
    brokers: BrokerClient
    source: SourceTopicGuard
    identity: Identity | None
    """The identity that the checkpoint has; None when no batch was planned on it yet."""
    cluster_id: str
    """The id of the Kafka cluster, empty where the brokers do not tell it."""

    def find_failure(self, causes: list[Cause]) -> JobError:
        """The error with which the driver ends after its query has failed.

        Asks the brokers once. A missing broker or topic explains more than the exception that it has caused.
        """
        topics = JobTopics(source=self.config.source.topic, output=" or the topic ".join(self.config.output_topics))
        return decide_failure(causes, find_broker_problem(self.brokers, self.config, self.source.topic_id), topics)
