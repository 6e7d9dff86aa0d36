"""What the driver finds missing before it starts the JVM, and how it waits."""

import pytest

from dedup_api.driver_status import Phase
from dedup_api.reasons import Reason
from dedup_job.checkpoint.identity_file import Identity
from dedup_job.errors import JobError
from dedup_job.kafka.startup_check import find_broker_problem, wait_for_kafka
from dedup_job.report.status import State
from unit.job.fake_brokers import FakeBrokers, build_config


@pytest.mark.parametrize(
    ("brokers", "reason"),
    [
        (FakeBrokers(), None),
        (FakeBrokers(up=False), Reason.SOURCE_UNAVAILABLE),
        (FakeBrokers(topics=("out",)), Reason.SOURCE_TOPIC_MISSING),
        (FakeBrokers(topics=("orders",)), Reason.SINK_TOPIC_MISSING),
    ],
)
def test_each_missing_part_has_its_reason(brokers: FakeBrokers, reason: Reason | None) -> None:
    problem = find_broker_problem(brokers, build_config())
    assert (problem and problem.reason) == reason


@pytest.mark.parametrize(
    ("topic_id", "on_data_loss", "reason"),
    [
        ("id of orders", "Fail", None),
        ("", "Fail", None),
        ("id of another", "Fail", Reason.SOURCE_TOPIC_REPLACED),
        ("id of another", "Continue", Reason.SOURCE_TOPIC_MISSING),
    ],
)
def test_a_recreated_source_topic_is_a_problem(topic_id: str, on_data_loss: str, reason: Reason | None) -> None:
    problem = find_broker_problem(FakeBrokers(), build_config(onDataLoss=on_data_loss), topic_id)
    assert (problem and problem.reason) == reason


def test_the_driver_waits_until_nothing_is_missing() -> None:
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

    assert wait_for_kafka(brokers, build_config(), state, wait) == "cluster"
    assert seen == [Reason.SOURCE_UNAVAILABLE, Reason.SOURCE_TOPIC_MISSING, Reason.SINK_TOPIC_MISSING]
    assert (state.read().phase, state.read().blocked_by) == (Phase.STARTING, None)


def test_a_requested_stop_ends_the_wait() -> None:
    assert wait_for_kafka(FakeBrokers(up=False), build_config(), State(), lambda seconds: True) is None


def test_another_cluster_is_refused_before_a_topic_is_missing_there() -> None:
    """Whoever reads that a topic is missing creates it."""
    identity = Identity(config=build_config(bootstrapServers="old:9092"), topic_id="another", cluster_id="elsewhere", spark_version="4.2.0")
    state = State()
    with pytest.raises(JobError) as caught:
        wait_for_kafka(FakeBrokers(topics=("orders",)), build_config(), state, lambda seconds: True, identity)
    assert caught.value.reason == Reason.SOURCE_CLUSTER_CHANGED
    assert state.read().blocked_by is None
