"""Whose consumer group it is."""

from __future__ import annotations

import pytest

from dedup_api.driver_status import Phase
from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.checkpoint.identity_file import Identity
from dedup_job.errors import JobError
from dedup_job.kafka.group_guard import build_mark, find_group_problem, uses_new_group
from dedup_job.kafka.startup_check import wait_for_kafka
from dedup_job.report.status import State
from unit.job.fake_brokers import FakeBrokers, build_config

OWN = build_mark(build_config())


@pytest.mark.parametrize(
    ("group", "members", "marks", "problem"),
    [
        ("billing", 0, {}, None),
        ("billing", 0, {0: OWN, 1: OWN}, None),
        ("billing", 1, {}, "has 1 member,"),
        ("billing", 3, {0: OWN}, "has 3 members"),
        ("billing", 0, {0: ""}, "has offsets without a mark, so another application has written them"),
        ("billing", 0, {0: OWN, 1: "dedup-operator other/job"}, "has offsets with the mark 'dedup-operator other/job'"),
        (None, 0, {0: "", 1: ""}, None),  # a job of version 0.1.0 that is created again
        (None, 0, {0: "flink"}, "has offsets with the mark 'flink'"),
        (None, 1, {}, "has 1 member"),
    ],
)
def test_a_group_of_another_application_is_refused(group: str | None, members: int, marks: dict[int, str], problem: str | None) -> None:
    brokers, config = FakeBrokers(), build_config(**({"consumerGroup": group} if group else {}))
    brokers.members, brokers.marks = members, marks
    found = find_group_problem(brokers, config)
    if problem is None:
        assert found is None
        return
    assert found is not None and found.reason == Reason.CONSUMER_GROUP_TAKEN
    assert problem in found.message and config.consumer_group in found.message


def test_without_the_right_to_look_the_driver_starts() -> None:
    class Forbidden(FakeBrokers):
        def fetch_group_members(self, group: str) -> int:
            raise JobError(ExitCode.AUTHORIZATION, "no right")

    assert find_group_problem(Forbidden(), build_config()) is None


def test_the_first_start_waits_until_the_group_is_free_and_a_later_one_does_not_look() -> None:
    brokers, state, seen = FakeBrokers(), State(), []
    brokers.members = 1

    def wait(seconds: float) -> bool:
        snapshot = state.read()
        assert snapshot.phase is Phase.WAITING and snapshot.blocked_by is not None
        seen.append(snapshot.blocked_by.reason)
        brokers.members = 0
        return False

    config = build_config()
    assert wait_for_kafka(brokers, config, state, wait) is not None
    assert seen == [Reason.CONSUMER_GROUP_TAKEN]
    brokers.members = 1
    identity = Identity(config=config, topic_id="id of orders", consumer_group=config.consumer_group, spark_version="4.2.0")
    assert wait_for_kafka(brokers, config, state, wait, identity) is not None
    assert seen == [Reason.CONSUMER_GROUP_TAKEN]


@pytest.mark.parametrize(
    ("recorded", "wanted", "new"),
    [
        (None, "billing", False),  # a file of version 0.1.0, which allowed an edit of the group and recorded none
        ("billing", "billing", False),
        ("billing", "other", True),
        ("billing", None, True),  # back to the group of the first start, which somebody may have taken meanwhile
    ],
)
def test_a_group_is_new_until_a_driver_of_the_checkpoint_has_used_it(recorded: str | None, wanted: str | None, new: bool) -> None:
    identity = Identity(config=build_config(), consumer_group=recorded, spark_version="4.2.0")
    assert uses_new_group(identity, build_config(consumerGroup=wanted)) is new
    assert uses_new_group(None, build_config(consumerGroup=wanted))
