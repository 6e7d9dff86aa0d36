"""Numbered events for a job under faults: a feed that sends them, the output that has arrived, and the comparison."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

EVENTS_PER_SECOND = 150
MOST_EVENTS = 350_000
"""Enough for more than half an hour, and within the one hour of event time that `render_event` can write."""
NEAR, FAR = 40, 700
"""Events between an event and its copy: near copies are mostly in the same micro-batch, far ones after a restart."""


def list_due(number: int) -> list[int]:
    """The events to send at step `number`: the new one and copies of earlier ones; one of six is sent thrice."""
    due = [number]
    if number >= NEAR and number % 2 == 0:
        due.append(number - NEAR)
    if number >= FAR and number % 3 == 0:
        due.append(number - FAR)
    return due


def render_event(number: int) -> bytes:
    seconds = number // 100  # event time; the watermark is longer than the whole stream
    return json.dumps({"id": number, "ts": f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"}).encode()


def parse_event(value: bytes | None) -> int | None:
    """The event's number; None when the feed never sends these bytes."""
    try:
        number = json.loads(value or b"")["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) and render_event(number) == value else None


class Feed:
    """Sends events at a steady rate until it is stopped. Use it as a context manager."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
        self._topic, self._stop = topic, threading.Event()
        self._errors: list[KafkaError] = []
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self.events = 0
        """The events with numbers below this are sent."""

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def stop(self) -> int:
        """Stops the feed and returns the number of its events. Raises when Kafka has not stored all of them."""
        self.__exit__()
        assert self._producer.flush(60) == 0, "the broker does not store the events"
        assert not self._errors, self._errors[0]
        return self.events

    def _run(self) -> None:
        started = time.monotonic()
        while self.events < MOST_EVENTS and not self._stop.wait(0.02):
            due = min(MOST_EVENTS, int((time.monotonic() - started) * EVENTS_PER_SECOND))
            for number in range(self.events, due):
                for event in list_due(number):
                    self._producer.produce(self._topic, render_event(event), key=str(event), on_delivery=self._record_error)
                self.events = number + 1
            self._producer.poll(0)

    def _record_error(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._errors.append(error)


class Output:
    """The records of a topic that a read-committed consumer has received. Use it as a context manager."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        settings = {"group.id": "cluster-faults", "isolation.level": "read_committed", "enable.auto.commit": False}
        self._consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        self.values: list[bytes | None] = []
        self.newest = -1
        """The highest event number that was received."""

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *exception: object) -> None:
        self._consumer.close()

    def read_on(self) -> Output:
        for message in self._consumer.consume(10_000, timeout=0.3):
            if message.error() is None:
                self.values.append(message.value())
                self.newest = max(self.newest, parse_event(message.value()) or 0)
        return self


@dataclass(frozen=True)
class Verdict:
    """The differences between the output and the events of the feed. In a correct output each list is empty."""

    missing: list[int]
    repeated: list[int]
    unknown: list[bytes | None]
    """Records that the feed never sent."""

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.repeated or self.unknown)

    def __str__(self) -> str:
        lists: dict[str, Sequence[object]] = {"missing": self.missing, "repeated": self.repeated, "unknown": self.unknown}
        return ", ".join(f"{len(found)} {what} {found[:5]}" for what, found in lists.items())


def compare(values: Iterable[bytes | None], events: int) -> Verdict:
    """`events`: the feed has sent the events with numbers below this."""
    found: Counter[int] = Counter()
    unknown = []
    for value in values:
        number = parse_event(value)
        if number is None or number >= events:
            unknown.append(value)
        else:
            found[number] += 1
    missing = [number for number in range(events) if number not in found]
    return Verdict(missing, sorted(number for number, count in found.items() if count > 1), unknown)
