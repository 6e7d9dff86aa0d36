"""The position that lag tools see: when the driver writes it, and what it logs about a group that refuses it."""

import logging
import threading

import pytest
from confluent_kafka import KafkaError

from dedup_job.kafka import consumer_group
from dedup_job.kafka.consumer_group import GroupMirror, build_warning
from unit.job.test_session import CONFIG


class Group:
    """Accepts offsets, or answers with an error code."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.accepted: list[dict[int, int]] = []
        self.wanted, self.enough = 1, threading.Event()

    def write_group_offsets(self, group: str, topic: str, offsets: dict[int, int]) -> KafkaError | None:
        assert (group, topic) == ("dedup.shop.orders", "orders")
        if self.answers:
            return KafkaError(self.answers.pop(0))
        self.accepted.append(offsets)
        if len(self.accepted) >= self.wanted:
            self.enough.set()
        return None


def test_an_unchanged_position_is_written_once() -> None:
    group = Group()
    mirror = GroupMirror(group, CONFIG)
    mirror.write_newest()
    mirror.mirror({0: 5})
    mirror.write_newest()
    mirror.write_newest()
    mirror.mirror({0: 6, 1: 2})
    mirror.write_newest()
    assert group.accepted == [{0: 5}, {0: 6, 1: 2}]


def test_a_position_without_partitions_is_not_written() -> None:
    group = Group()
    mirror = GroupMirror(group, CONFIG)
    mirror.mirror({0: 5})
    mirror.write_newest()
    mirror.mirror({})
    mirror.write_newest()
    assert group.accepted == [{0: 5}]


def test_a_refused_position_is_written_again_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    group = Group()
    group.answers = [KafkaError.UNKNOWN_MEMBER_ID] * 3
    mirror = GroupMirror(group, CONFIG)
    mirror.mirror({0: 5})
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            mirror.write_newest()
    assert group.accepted == [{0: 5}]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "spec.source.consumerGroup" in caplog.records[0].message and "members" in caplog.records[0].message


def test_a_short_absence_of_the_coordinator_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    group = Group()
    group.answers = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]
    mirror = GroupMirror(group, CONFIG)
    mirror.mirror({0: 5})
    for _ in range(3):
        mirror.write_newest()
    assert group.accepted == [{0: 5}] and not caplog.records
    group.answers = [KafkaError.NOT_COORDINATOR] * 9
    mirror.mirror({0: 6})
    for _ in range(9):
        mirror.write_newest()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_closing_writes_the_newest_position() -> None:
    group = Group()
    mirror = GroupMirror(group, CONFIG)
    mirror.start()
    for offset in range(1, 200):
        mirror.mirror({0: offset})
    mirror.close()
    assert group.accepted[-1] == {0: 199}
    assert not mirror._thread.is_alive()


def test_the_thread_retries_without_a_new_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_group, "RETRY_SECONDS", 0.01)
    group = Group()
    group.answers = [KafkaError.GROUP_AUTHORIZATION_FAILED] * 5
    mirror = GroupMirror(group, CONFIG)
    mirror.start()
    mirror.mirror({0: 5})
    assert group.enough.wait(60)
    mirror.close()
    assert group.accepted == [{0: 5}]


def test_an_unchanged_position_is_repeated_before_the_brokers_forget_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_group, "REPEAT_SECONDS", 0.01)
    group = Group()
    group.wanted = 3
    mirror = GroupMirror(group, CONFIG)
    mirror.start()
    mirror.mirror({0: 5})
    assert group.enough.wait(60)
    mirror.close()
    assert group.accepted[:3] == [{0: 5}] * 3


def test_a_mirror_that_was_never_started_can_be_closed() -> None:
    GroupMirror(Group(), CONFIG).close()


def test_the_warning_names_the_field() -> None:
    assert "spec.source.consumerGroup" in build_warning("g", KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
