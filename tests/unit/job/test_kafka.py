"""Waiting for brokers and topics, and the lag, with brokers that a test can take away."""

import threading
import time
from itertools import islice
from typing import Any

import pytest

from dedup_api.driver_status import Phase
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.spark_logs import Commit
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import OffsetEnd, TopicInfo
from dedup_job.kafka.lag import LagProbe, find_unread
from dedup_job.kafka.retries import LONGEST_PAUSE, build_pauses
from dedup_job.kafka.startup_check import find_broker_problem, wait_for_kafka
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State
from unit.job.test_session import DOCUMENT


def build_config(**source: Any) -> JobConfig:
    return JobConfig.model_validate({**DOCUMENT, "source": {**DOCUMENT["source"], **source}, "sink": {"kafka": {"topic": "out"}}})


class FakeBrokers:
    def __init__(self, up: bool = True, topics: tuple[str, ...] = ("orders", "out")) -> None:
        self.up, self.topics = up, list(topics)
        self.ends, self.starts = {0: 10, 1: 20}, {0: 0, 1: 5}

    def fetch_topic(self, topic: str) -> TopicInfo | None:
        if not self.up:
            raise JobError(ExitCode.UNAVAILABLE, "no broker answers")
        return TopicInfo(f"id of {topic}", [0, 1]) if topic in self.topics else None

    def fetch_offsets(self, topic: str, partitions: list[int], end: OffsetEnd) -> dict[int, int]:
        return self.ends if end is OffsetEnd.LATEST else self.starts


@pytest.mark.parametrize(
    ("brokers", "reason"),
    [
        (FakeBrokers(), None),
        (FakeBrokers(up=False), Reason.SOURCE_UNAVAILABLE),
        (FakeBrokers(topics=("out",)), Reason.SOURCE_TOPIC_MISSING),
        (FakeBrokers(topics=("orders",)), Reason.SINK_TOPIC_MISSING),
    ],
)
def test_findings(brokers: FakeBrokers, reason: Reason | None) -> None:
    finding = find_broker_problem(brokers, build_config())
    assert (finding and finding.reason) == reason


@pytest.mark.parametrize(
    ("topic_id", "on_data_loss", "reason"),
    [
        ("id of orders", "Fail", None),
        ("", "Fail", None),
        ("id of another", "Fail", Reason.SOURCE_TOPIC_REPLACED),
        ("id of another", "Continue", Reason.SOURCE_TOPIC_MISSING),
    ],
)
def test_a_topic_made_again_explains_a_failure(topic_id: str, on_data_loss: str, reason: Reason | None) -> None:
    finding = find_broker_problem(FakeBrokers(), build_config(onDataLoss=on_data_loss), topic_id)
    assert (finding and finding.reason) == reason


def test_waits_for_one_thing_after_another() -> None:
    brokers, state, seen = FakeBrokers(up=False, topics=()), State(), []

    def wait(seconds: float) -> bool:
        snapshot = state.read()
        assert snapshot.phase is Phase.WAITING and snapshot.blocked_by is not None
        seen.append(snapshot.blocked_by.reason)
        if not brokers.up:
            brokers.up = True
        else:
            brokers.topics.append("orders" if not brokers.topics else "out")
        return False

    assert wait_for_kafka(brokers, build_config(), state, wait)
    assert seen == [Reason.SOURCE_UNAVAILABLE, Reason.SOURCE_TOPIC_MISSING, Reason.SINK_TOPIC_MISSING]
    assert (state.read().phase, state.read().blocked_by) == (Phase.STARTING, None)


def test_a_stop_ends_the_wait() -> None:
    assert not wait_for_kafka(FakeBrokers(up=False), build_config(), State(), lambda seconds: True)


def test_pauses_grow_and_end_at_the_longest() -> None:
    pauses = list(islice(build_pauses(), 10))
    assert pauses[:3] == [0.5, 1.0, 2.0] and pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize(
    ("ends", "committed", "starts", "unread"),
    [
        ({}, {}, {}, {}),
        ({0: 10, 1: 20}, {0: 10, 1: 20}, {}, {}),
        ({0: 10, 1: 20}, {0: 4}, {0: 0, 1: 15}, {0: 4, 1: 15}),
        ({0: 10}, {0: 2}, {0: 5}, {0: 5}),
        ({0: 3}, {0: 10}, {0: 0}, {}),
    ],
)
def test_unread(ends: dict[int, int], committed: dict[int, int], starts: dict[int, int], unread: dict[int, int]) -> None:
    assert find_unread(ends, committed, starts) == unread


class FakeOldest:
    """Each record has waited for a minute."""

    def fetch_timestamp(self, topic: str, offsets: dict[int, int]) -> int | None:
        return int(time.time() * 1000) - 60_000


def test_the_probe_reports_lag_and_trouble() -> None:
    brokers, state, metrics = FakeBrokers(), State(), Metrics()
    probe = LagProbe(brokers, FakeOldest(), build_config(startingOffsets="Earliest"), state, metrics, threading.Event())
    probe.probe()
    assert state.read().lag == 25 and state.read().lag_seconds in (60, 61)
    state.update(commit=Commit(3, 0, {0: 10, 1: 18}))
    probe.probe()
    assert state.read().lag == 2
    since = state.read().lag_since
    assert since is not None
    probe.probe()
    assert state.read().lag_since == since, "since they were first seen"
    brokers.up = False
    probe.probe()
    blocked = state.read().blocked_by
    assert blocked is not None and blocked.reason is Reason.SOURCE_UNAVAILABLE and state.read().lag == 2
    assert state.read().lag_since is None, "an outage is not the driver's delay"
    assert metrics.registry.get_sample_value("dedup_blocked") == 1
    brokers.up = True
    probe.probe()
    assert state.read().blocked_by is None and metrics.registry.get_sample_value("dedup_blocked") == 0
    state.update(commit=Commit(4, 0, {0: 10, 1: 20}))
    probe.probe()
    assert (state.read().lag, state.read().lag_seconds, state.read().lag_since) == (0, 0, None)


def test_no_lag_before_the_first_batch_of_a_job_that_starts_at_the_end() -> None:
    state = State()
    LagProbe(FakeBrokers(), FakeOldest(), build_config(startingOffsets="Latest"), state, Metrics(), threading.Event()).probe()
    assert state.read().lag is None
