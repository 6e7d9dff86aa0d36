"""Checks at the start that the brokers hold the topic to which the checkpoint belongs.

`spec.source.bootstrapServers` may change: another name of the same brokers, or more of them. The address proves nothing
about the topic, so the driver compares ids. Kafka chooses the id of a topic at random when it creates the topic, and the
id of a cluster is chosen when its storage is formatted, usually at random. The check comes before the driver writes
anything: in another cluster, a topic of the same name has other records at the same offsets.
"""

from __future__ import annotations

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.identity_file import Identity
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import ClusterLookup, TopicInfo
from dedup_job.kafka.source_topic import fetch_source_topic


def check_source_cluster(brokers: ClusterLookup, config: JobConfig, identity: Identity | None) -> str:
    """The cluster's id, empty where the brokers do not tell it. `identity` is None for a new checkpoint.

    JobError with SourceClusterChanged when the brokers hold another topic than that of the checkpoint. A topic that was
    deleted and recreated in the same cluster passes: `source_topic_guard` decides about it.
    """
    cluster_id = brokers.fetch_cluster_id()
    if identity is not None:
        problem = find_other_cluster(identity, config, fetch_source_topic(brokers, config), cluster_id)
        if problem is not None:
            raise JobError(ExitCode.TOPIC_MISSING, problem, Reason.SOURCE_CLUSTER_CHANGED)
    return cluster_id


def find_other_cluster(identity: Identity, config: JobConfig, topic: TopicInfo, cluster_id: str) -> str | None:
    """Why the topic at the brokers is not that of the checkpoint. None when it is, or when nothing speaks against it."""
    if topic.id and topic.id == identity.topic_id:
        return None
    servers, before = config.source.bootstrap_servers, identity.config.source.bootstrap_servers
    if cluster_id and identity.cluster_id:
        if cluster_id == identity.cluster_id:
            return None
        return (
            f"the brokers of {servers} belong to the Kafka cluster {cluster_id}, but the stored offsets belong to the topic "
            f"{config.source.topic} in the cluster {identity.cluster_id}"
        )
    if servers == before:
        return None
    return (
        f"spec.source.bootstrapServers changed from {before} to {servers}, and nothing proves that both are one Kafka cluster: "
        f"the topic {config.source.topic} there does not have the id that the checkpoint knows, or the brokers tell no ids"
    )
