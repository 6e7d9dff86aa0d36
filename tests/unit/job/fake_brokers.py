"""Brokers in memory, for tests of the checks at the start and of the lag."""

from __future__ import annotations

from typing import Any

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import OffsetEnd, TopicInfo
from unit.job.test_session import DOCUMENT


def build_config(**source: Any) -> JobConfig:
    return JobConfig.model_validate({**DOCUMENT, "source": {**DOCUMENT["source"], **source}, "sink": {"kafka": {"topic": "out"}}})


class FakeBrokers:
    def __init__(self, up: bool = True, topics: tuple[str, ...] = ("orders", "out")) -> None:
        self.up, self.topics = up, list(topics)
        self.members, self.marks, self.cluster = 0, dict[int, str](), "cluster"
        self.ends, self.starts = {0: 10, 1: 20}, {0: 0, 1: 5}
        self.open_records = dict[int, int]()
        """Records between the last stable offset and the high watermark, by partition."""

    def fetch_topic(self, topic: str) -> TopicInfo | None:
        if not self.up:
            raise JobError(ExitCode.UNAVAILABLE, "no broker answers")
        return TopicInfo(f"id of {topic}", [0, 1]) if topic in self.topics else None

    def fetch_offsets(self, topic: str, partitions: list[int], end: OffsetEnd) -> dict[int, int]:
        if end is OffsetEnd.HIGH_WATERMARK:
            return {partition: offset + self.open_records.get(partition, 0) for partition, offset in self.ends.items()}
        return self.ends if end is OffsetEnd.LATEST else self.starts

    def fetch_cluster_id(self) -> str:
        return self.cluster

    def fetch_group_members(self, group: str) -> int:
        return self.members

    def fetch_group_marks(self, group: str, topic: str, partitions: list[int]) -> dict[int, str]:
        return self.marks
