"""Checks before the JVM starts that the brokers answer and the topics exist, and waits until they do.

A waiting Python process needs a tenth of the memory of a JVM that fails and restarts, and `/status` can say what is
missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from dedup_api.driver_status import Blocked, Phase
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.identity_file import Identity
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import ClusterLookup, TopicLookup
from dedup_job.kafka.group_guard import GroupLookup, find_group_problem, uses_new_group
from dedup_job.kafka.retries import build_pauses
from dedup_job.kafka.source_cluster import check_source_cluster
from dedup_job.kafka.source_topic import build_recreated_error, fetch_source_topic, is_recreated
from dedup_job.report.status import State

_LOG = logging.getLogger("dedup_job.kafka.startup_check")


def find_broker_problem(brokers: TopicLookup, config: JobConfig, topic_id: str = "") -> JobError | None:
    """Returns the first problem: no broker answers, or a topic is missing. None when a query can run.

    `topic_id`: the id of the topic that the driver reads, empty where unknown.
    """
    try:
        source = fetch_source_topic(brokers, config)
        if is_recreated(topic_id, source):
            return build_recreated_error(config)
        sink = config.sink.kafka
        if sink is not None and brokers.fetch_topic(sink.topic) is None:
            return JobError(ExitCode.TOPIC_MISSING, f"the topic {sink.topic} does not exist", Reason.SINK_TOPIC_MISSING)
        dead = config.dead_letter_topic
        if dead is not None and brokers.fetch_topic(dead) is None:
            return JobError(ExitCode.TOPIC_MISSING, f"the topic {dead} does not exist", Reason.DEAD_LETTER_TOPIC_MISSING)
    except JobError as error:
        return error
    return None


class StartLookup(GroupLookup, ClusterLookup, Protocol):
    """What the driver asks the brokers before it starts."""


def wait_for_kafka(
    brokers: StartLookup, config: JobConfig, state: State, wait: Callable[[float], bool], identity: Identity | None = None
) -> str | None:
    """Waits until nothing is missing. Returns the id of the Kafka cluster, empty where the brokers do not tell it; None when a
    stop was requested. JobError with SourceClusterChanged, which no waiting cures.

    `wait(seconds)` pauses and returns whether a stop was requested. `identity` is None for a new checkpoint.
    """
    blocked: Blocked | None = None
    for pause in build_pauses():
        try:
            cluster_id = check_brokers(brokers, config, identity)
        except JobError as problem:
            if problem.reason is Reason.SOURCE_CLUSTER_CHANGED:
                raise
            found = Blocked(reason=problem.reason, message=problem.message)
        else:
            state.update(phase=Phase.STARTING, blocked_by=None, starting_since=time.time())
            if blocked is not None:
                _LOG.info("the brokers answer and all topics exist", extra={"fields": {"reason": blocked.reason}})
            return cluster_id
        state.update(phase=Phase.WAITING, blocked_by=found)
        if blocked is None or blocked.reason != found.reason:
            _LOG.warning(found.message, extra={"fields": {"reason": found.reason}})
        blocked = found
        if wait(pause):
            return None
    return None


def check_brokers(brokers: StartLookup, config: JobConfig, identity: Identity | None) -> str:
    """The id of the Kafka cluster, empty where the brokers do not tell it. JobError with the first problem: the cluster comes
    before the topics of the output, because a topic that is missing in another cluster must not be created."""
    cluster_id = check_source_cluster(brokers, config, identity)
    problem = find_broker_problem(brokers, config)
    if problem is None and uses_new_group(identity, config):
        problem = find_group_problem(brokers, config)
    if problem is not None:
        raise problem
    return cluster_id
