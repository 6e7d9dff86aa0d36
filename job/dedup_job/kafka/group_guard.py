"""Checks that nobody else uses the consumer group to which the driver writes its position, before it does so for the first time.

The driver never reads the group's offsets, but another application does: a job with its group would move that application
to another place in the topic. From its first commit on, the driver leaves a mark in the metadata of its offsets, so that it
recognizes them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.identity_file import Identity
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import TopicLookup
from dedup_job.kafka.source_topic import fetch_source_topic

_LOG = logging.getLogger("dedup_job.kafka.group_guard")


class GroupLookup(TopicLookup, Protocol):
    def fetch_group_members(self, group: str) -> int: ...

    def fetch_group_marks(self, group: str, topic: str, partitions: list[int]) -> dict[int, str]: ...


def build_mark(config: JobConfig) -> str:
    """What the driver writes into the metadata of its offsets."""
    return f"dedup-operator {config.namespace}/{config.name}"


def uses_new_group(identity: Identity | None, config: JobConfig) -> bool:
    """Whether no driver of this checkpoint has used the consumer group before. `identity` is None for a new checkpoint.

    Version 0.1.0 did not record the group. Its drivers have used theirs, without a mark.
    """
    return identity is None or identity.consumer_group not in (None, config.consumer_group)


def find_group_problem(brokers: GroupLookup, config: JobConfig) -> JobError | None:
    """The error when the group belongs to another application; also when no broker answers.

    Where the job has no right to look at the group, it has none to write to it either, and no harm is done.
    """
    try:
        partitions = fetch_source_topic(brokers, config).partitions
        members = brokers.fetch_group_members(config.consumer_group)
        marks = brokers.fetch_group_marks(config.consumer_group, config.source.topic, partitions)
    except JobError as error:
        if error.code is not ExitCode.AUTHORIZATION:
            return error
        _LOG.warning("the driver may not look at its consumer group: %s", error.message, extra={"fields": {"group": config.consumer_group}})
        return None
    owner = find_foreign_owner(config, members, marks)
    if owner is None:
        return None
    message = (
        f"the consumer group {config.consumer_group} (spec.source.consumerGroup) {owner}, and this job would change its position in the "
        f"topic {config.source.topic}"
    )
    return JobError(ExitCode.CONFIGURATION, message, Reason.CONSUMER_GROUP_TAKEN)


def find_foreign_owner(config: JobConfig, members: int, marks: Mapping[int, str]) -> str | None:
    """What speaks for another application, as a part of a sentence. `marks`: the metadata of the group's offsets on the
    source topic, by partition; empty for offsets without metadata."""
    if members > 0:
        return f"has {members} member{'s' if members > 1 else ''}"
    own = build_mark(config)
    foreign = {mark for mark in marks.values() if mark and mark != own}
    if foreign:
        return f"has offsets with the mark {min(foreign)[:100]!r}"
    if "" in marks.values() and config.consumer_group != config.default_name:
        return "has offsets without a mark, so another application has written them"
    return None
