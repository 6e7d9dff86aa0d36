"""Partitions that are added to the source topic and to the output topic while records go in."""

from __future__ import annotations

import random
import time

import pytest

from dedup_api.exits import ExitCode
from kafka.broker import Broker, use_topics
from kafka.driver import Driver, StartDriver, build_config
from kafka.events import build_event, build_events, compare

OUTPUT_SECONDS = 120
"""The output's new partitions must hold records within this time. The driver's producer asks every 15 s which
partitions there are."""


PAUSE = 0.3
"""Seconds between two slices, so that the feed is slower than a driver on a busy machine."""


class Feed:
    """Sends new events and copies of earlier ones to all partitions of the topic, in slices."""

    NEW, COPIES, REACH = 400, 100, 4000

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker, self._topic, self._choice = broker, topic, random.Random(16)
        self.events = self.records = 0

    def send_slice(self) -> None:
        numbers = [*range(self.events, self.events + self.NEW)]
        self.events += self.NEW
        numbers += self._choice.choices(range(max(0, self.events - self.REACH), self.events), k=self.COPIES)
        self._choice.shuffle(numbers)
        partitions = list(self._broker.find_ends(self._topic))
        parts = {partition: list[int]() for partition in partitions}
        for number in numbers:
            parts[self._choice.choice(partitions)].append(number)
        for partition, part in parts.items():
            self._broker.send(self._topic, map(build_event, part), partition)
        self.records += len(numbers)

    def run_until_read(self, driver: Driver, slices: int) -> None:
        """Sends so many slices, and more until the driver has read what there was before them."""
        before = self.records
        for _ in range(slices):
            self.send_slice()
        while (status := driver.read_status()) is None or status.progress.rows_in <= before:
            assert driver.is_running(), driver.read_output()
            self.send_slice()
            time.sleep(PAUSE)


@pytest.mark.timeout(600)
def test_every_event_comes_out_once_when_topics_get_partitions(broker: Broker, start_in_shared_jvm: StartDriver) -> None:
    with use_topics(broker, 2, 2) as (source, sink):
        feed = Feed(broker, source)
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": 3_000}
        with start_in_shared_jvm(build_config(broker.bootstrap, source, sink, source=settings)) as driver:
            feed.run_until_read(driver, 4)
            broker.add_partitions(source, 5)
            feed.run_until_read(driver, 4)
            broker.add_partitions(sink, 6)
            deadline = time.monotonic() + OUTPUT_SECONDS
            while not all(ends := broker.find_ends(sink).values()):
                feed.run_until_read(driver, 1)
                assert time.monotonic() < deadline, f"after {OUTPUT_SECONDS} s the output's partitions end at {[*ends]}"
            status = driver.wait_for_rows(feed.records)
            assert driver.stop() == ExitCode.DONE
        assert all(broker.find_ends(source).values()), "each new partition of the source must hold records"
        compare(broker.read_all(sink), build_events(range(feed.events)))
    progress = status.progress
    assert (progress.rows_in, progress.rows_out) == (feed.records, feed.events), progress
    assert (progress.duplicates, progress.late) == (feed.records - feed.events, 0), progress
