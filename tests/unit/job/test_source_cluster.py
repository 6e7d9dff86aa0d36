"""Another address is fine, another cluster is not."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.checkpoint.identity_file import Identity
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import TopicInfo
from dedup_job.kafka.source_cluster import check_source_cluster
from unit.job.fake_brokers import FakeBrokers, build_config

OLD, NEW = "k:9092", "k.kafka.svc:9092"


class Brokers(FakeBrokers):
    def __init__(self, topic_id: str, cluster: str) -> None:
        super().__init__()
        self.topic_id, self.cluster = topic_id, cluster

    def fetch_topic(self, topic: str) -> TopicInfo | None:
        return TopicInfo(self.topic_id, [0])


@pytest.mark.parametrize("on_data_loss", ["Fail", "Continue"])
@pytest.mark.parametrize(
    ("known", "found", "servers", "refused"),
    [
        (("topic", "cluster"), ("topic", "cluster"), NEW, False),
        (("topic", None), ("topic", "cluster"), NEW, False),  # a checkpoint of version 0.1.0
        (("topic", "cluster"), ("topic", ""), NEW, False),
        (("topic", "cluster"), ("recreated", "cluster"), OLD, False),  # the source topic guard decides
        (("topic", "cluster"), ("recreated", "cluster"), NEW, False),
        (("topic", "cluster"), ("another", "elsewhere"), NEW, True),
        (("topic", "cluster"), ("another", "elsewhere"), OLD, True),  # the name leads to another cluster now
        (("topic", None), ("another", "elsewhere"), NEW, True),
        (("topic", None), ("another", "elsewhere"), OLD, False),  # as in version 0.1.0: recreated, as far as anybody can tell
        ((None, "cluster"), ("", "cluster"), NEW, False),  # brokers without ids of topics
        ((None, "cluster"), ("", "elsewhere"), NEW, True),
        ((None, None), ("", "cluster"), NEW, True),
        ((None, "cluster"), ("", ""), NEW, True),
        ((None, None), ("", ""), OLD, False),
    ],
)
def test_only_another_topic_is_refused(
    known: tuple[str | None, str | None], found: tuple[str, str], servers: str, refused: bool, on_data_loss: str
) -> None:
    identity = Identity(config=build_config(bootstrapServers=OLD), topic_id=known[0], cluster_id=known[1], spark_version="4.2.0")
    config, brokers = build_config(bootstrapServers=servers, onDataLoss=on_data_loss), Brokers(*found)
    if not refused:
        assert check_source_cluster(brokers, config, identity) == found[1]
        return
    with pytest.raises(JobError) as caught:
        check_source_cluster(brokers, config, identity)
    assert (caught.value.code, caught.value.reason) == (ExitCode.TOPIC_MISSING, Reason.SOURCE_CLUSTER_CHANGED)
    assert servers in caught.value.message


def test_a_new_checkpoint_takes_any_cluster() -> None:
    assert check_source_cluster(Brokers("topic", "cluster"), build_config(), None) == "cluster"


def test_the_identity_moves_to_the_new_address_and_keeps_everything_else() -> None:
    """A driver of version 0.1.0 compares the address."""
    first: dict[str, Any] = {"bootstrapServers": OLD, "startingOffsets": "Latest"}
    identity = Identity(config=build_config(**first), topic_id="topic", spark_version="4.2.0")
    assert identity.move_to(build_config(bootstrapServers=NEW)) == build_config(**{**first, "bootstrapServers": NEW})
