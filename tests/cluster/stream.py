"""A stream of numbered events through a job while faults happen to it: what goes in, what has come out, and the comparison."""

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
"""More than half an hour of them, and within the hour that `render_event` can tell; a feed that nobody stops ends by itself."""
NEAR, FAR = 40, 700
"""Events between two copies: mostly in the same batch, and mostly on both sides of a restart."""


def list_due(number: int) -> list[int]:
    """The events to send at step `number`: the new one, and copies of earlier ones. Of six events one comes three times."""
    due = [number]
    if number >= NEAR and number % 2 == 0:
        due.append(number - NEAR)
    if number >= FAR and number % 3 == 0:
        due.append(number - FAR)
    return due


def render_event(number: int) -> bytes:
    seconds = number // 100  # of event time; the watermark is longer than all of it
    return json.dumps({"id": number, "ts": f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"}).encode()


def parse_event(value: bytes | None) -> int | None:
    """None for what is not exactly an event of the feed."""
    try:
        number = json.loads(value or b"")["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) and render_event(number) == value else None


class Feed:
    """Sends events at a steady rate until it is stopped. Use it with `with`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
        self._topic, self._stop = topic, threading.Event()
        self._errors: list[KafkaError] = []
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self.events = 0
        """Sent so far: the numbers below this."""

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def stop(self) -> int:
        """The number of events that stand in the topic; all of them do, or this raises."""
        self.__exit__()
        assert self._producer.flush(60) == 0, "the broker does not take the events"
        assert not self._errors, self._errors[0]
        return self.events

    def _run(self) -> None:
        begun = time.monotonic()
        while self.events < MOST_EVENTS and not self._stop.wait(0.02):
            due = min(MOST_EVENTS, int((time.monotonic() - begun) * EVENTS_PER_SECOND))
            for number in range(self.events, due):
                for event in list_due(number):
                    self._producer.produce(self._topic, render_event(event), key=str(event), on_delivery=self._note)
                self.events = number + 1
            self._producer.poll(0)

    def _note(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._errors.append(error)


class Output:
    """What a read-committed consumer has seen of a topic from its beginning. Use it with `with`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        settings = {"group.id": "cluster-faults", "isolation.level": "read_committed", "enable.auto.commit": False}
        self._consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        self.values: list[bytes | None] = []
        self.newest = -1
        """The highest number so far."""

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
    """The output against the plan; each list must be empty."""

    missing: list[int]
    twice: list[int]
    foreign: list[bytes | None]

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.twice or self.foreign)

    def __str__(self) -> str:
        lists: dict[str, Sequence[object]] = {"missing": self.missing, "twice": self.twice, "foreign": self.foreign}
        return ", ".join(f"{len(found)} {what} {found[:5]}" for what, found in lists.items())


def compare(values: Iterable[bytes | None], events: int) -> Verdict:
    """`events`: the numbers below this went in."""
    found: Counter[int] = Counter()
    foreign = []
    for value in values:
        number = parse_event(value)
        if number is None or number >= events:
            foreign.append(value)
        else:
            found[number] += 1
    missing = [number for number in range(events) if number not in found]
    return Verdict(missing, sorted(number for number, count in found.items() if count > 1), foreign)
