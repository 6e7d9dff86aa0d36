"""The position that lag tools see: what is written, when, and what is said about a group that refuses it."""

import logging
import threading

import pytest
from confluent_kafka import KafkaError

from dedup_job.kafka import consumer_group
from dedup_job.kafka.consumer_group import GroupMirror, build_warning
from unit.job.test_session import CONFIG


class Group:
    """Takes offsets, or answers with an error code."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.taken: list[dict[int, int]] = []
        self.wanted, self.enough = 1, threading.Event()

    def write_group_offsets(self, group: str, topic: str, offsets: dict[int, int]) -> KafkaError | None:
        assert (group, topic) == ("dedup.shop.orders", "orders")
        if self.answers:
            return KafkaError(self.answers.pop(0))
        self.taken.append(offsets)
        if len(self.taken) >= self.wanted:
            self.enough.set()
        return None


def test_a_position_is_written_once() -> None:
    group = Group()
    mirror = GroupMirror(group, CONFIG)
    mirror.write_newest()
    mirror.mirror({0: 5})
    mirror.write_newest()
    mirror.write_newest()
    mirror.mirror({0: 6, 1: 2})
    mirror.write_newest()
    assert group.taken == [{0: 5}, {0: 6, 1: 2}]


def test_no_partitions_are_no_position() -> None:
    group = Group()
    mirror = GroupMirror(group, CONFIG)
    mirror.mirror({0: 5})
    mirror.write_newest()
    mirror.mirror({})
    mirror.write_newest()
    assert group.taken == [{0: 5}]


def test_what_was_refused_is_written_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    group = Group()
    group.answers = [KafkaError.UNKNOWN_MEMBER_ID] * 3
    mirror = GroupMirror(group, CONFIG)
    mirror.mirror({0: 5})
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            mirror.write_newest()
    assert group.taken == [{0: 5}]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "spec.source.consumerGroup" in caplog.records[0].message and "members" in caplog.records[0].message


def test_a_coordinator_that_comes_back_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    group = Group()
    group.answers = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]
    mirror = GroupMirror(group, CONFIG)
    mirror.mirror({0: 5})
    for _ in range(3):
        mirror.write_newest()
    assert group.taken == [{0: 5}] and not caplog.records
    group.answers = [KafkaError.NOT_COORDINATOR] * 9
    mirror.mirror({0: 6})
    for _ in range(9):
        mirror.write_newest()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_the_thread_writes_what_came_last_before_it_is_closed() -> None:
    group = Group()
    mirror = GroupMirror(group, CONFIG)
    mirror.start()
    for offset in range(1, 200):
        mirror.mirror({0: offset})
    mirror.close()
    assert group.taken[-1] == {0: 199}
    assert not mirror._thread.is_alive()


def test_the_thread_tries_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_group, "RETRY", 0.01)
    group = Group()
    group.answers = [KafkaError.GROUP_AUTHORIZATION_FAILED] * 5
    mirror = GroupMirror(group, CONFIG)
    mirror.start()
    mirror.mirror({0: 5})
    assert group.enough.wait(60)
    mirror.close()
    assert group.taken == [{0: 5}]


def test_a_position_is_repeated_before_the_brokers_forget_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_group, "REPEAT", 0.01)
    group = Group()
    group.wanted = 3
    mirror = GroupMirror(group, CONFIG)
    mirror.start()
    mirror.mirror({0: 5})
    assert group.enough.wait(60)
    mirror.close()
    assert group.taken[:3] == [{0: 5}] * 3


def test_a_mirror_that_was_never_started_closes() -> None:
    GroupMirror(Group(), CONFIG).close()


def test_a_refusal_names_the_field() -> None:
    assert "spec.source.consumerGroup" in build_warning("g", KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
