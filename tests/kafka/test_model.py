"""Generated streams through a real driver, and what became of each record compared with the model."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.status import Progress
from kafka.broker import Broker, read_messages, use_topics
from kafka.driver import Driver, build_config
from kafka.model import NUMBER, Batch, Observed, Record, Rules, compare
from kafka.streams import PARTITIONS, SKEW, Generator, Plan, Step, plans


class Sender:
    """Writes drafts into the source topic and numbers them."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 100})
        self._topic, self.count = topic, 0

    def send(self, drafts: Step) -> None:
        failed: list[object] = []
        for draft in drafts:
            headers: list[tuple[str, str | bytes | None]] = [(NUMBER, str(self.count).encode())]
            if self.count % 2:
                headers += [("trace", b"x"), ("none", None), ("trace", b"")]
            self._producer.produce(
                self._topic,
                value=draft.value,
                key=draft.key,
                headers=headers,
                partition=draft.partition,
                timestamp=draft.stamp,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            self.count += 1
        assert self._producer.flush(60) == 0 and not failed, failed


class Logs:
    """Spark's logs of batches, which keep the last few: read while they are written."""

    def __init__(self, spark: Path, topic: str) -> None:
        self._spark, self._topic = spark, topic
        self.entries: dict[int, tuple[int, int, dict[int, int]]] = {}
        """By batch: time, watermark and ends, as of its plan."""
        self.watermarks: dict[int, int] = {}
        """By batch: what it was committed with."""
        self.processes: dict[int, int] = {}
        """By the first batch of each: records that a batch may take."""

    @contextmanager
    def follow(self, most: int) -> Iterator[None]:
        """From the start of a process to its end."""
        self.processes[max(self.watermarks, default=-1) + 1] = most
        ended = threading.Event()
        thread = threading.Thread(target=self._read_until, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._read()

    def _read_until(self, ended: threading.Event) -> None:
        while not ended.wait(0.05):
            self._read()

    def _read(self) -> None:
        for number in self._list("commits"):
            if number not in self.watermarks:
                entry, commit = self._read_file("offsets", number), self._read_file("commits", number)
                metadata, ends = json.loads(entry[1]), json.loads(entry[2])[self._topic]
                self.entries[number] = (
                    metadata["batchTimestampMs"],
                    metadata["batchWatermarkMs"],
                    {int(partition): end for partition, end in ends.items()},
                )
                self.watermarks[number] = json.loads(commit[1])["nextBatchWatermarkMs"]

    def _list(self, name: str) -> list[int]:
        folder = self._spark / name
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []

    def _read_file(self, name: str, number: int) -> list[str]:
        return (self._spark / name / str(number)).read_text().splitlines()

    def build_batches(self) -> list[Batch]:
        starts: dict[int, int] = {}
        batches, most = [], 0
        for number, (moment, watermark, ends) in sorted(self.entries.items()):
            most = self.processes.get(number, most)
            batches.append(Batch(number, starts, ends, moment, watermark, most, number in self.processes))
            starts = ends
        return batches


@dataclass
class Run:
    """A plan on its way through the driver."""

    plan: Plan
    start: Callable[[int], Driver]
    """With so many records that a batch may take."""
    sender: Sender
    logs: Logs
    progress: list[Progress] = field(default_factory=list)

    def run(self) -> None:
        generator = Generator(self.plan)
        self.sender.send(generator.build_backlog(self.plan.lives[0].backlog))
        for life, after in zip(self.plan.lives, [*self.plan.lives[1:], None], strict=True):
            with self.logs.follow(life.most), self.start(life.most) as driver:
                self._wait(driver)
                for op in life.ops:
                    self._feed(driver, generator.build_steps(op))
                if after is None and self.plan.present:
                    self._feed(driver, generator.build_present(int(time.time() * 1000)))
                jvm = driver.find_jvm()
                if after is not None:
                    self._send_and_end(driver, generator.build_backlog(after.backlog), life.killed_after)
                else:
                    assert driver.stop() == ExitCode.DONE, driver.read_output()
                wait_for_death(jvm)

    def _feed(self, driver: Driver, steps: list[Step]) -> None:
        for step in steps:
            self.sender.send(step)
            self._wait(driver)

    def _wait(self, driver: Driver) -> None:
        self.progress.append(driver.wait_for_rows(self.sender.count).progress)

    def _send_and_end(self, driver: Driver, backlog: Step, killed_after: float | None) -> None:
        """The driver may read a part of it, whose batch is torn; the rest comes when it is gone."""
        middle = len(backlog) // 2
        self.sender.send(backlog[:middle])
        if killed_after is None:
            assert driver.stop() == ExitCode.DONE, driver.read_output()
        else:
            time.sleep(killed_after)
            driver.kill()
        self.sender.send(backlog[middle:])


def wait_for_death(process: int) -> None:
    """The JVM lives on for a moment when its Python is killed, and may still commit."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
        time.sleep(0.02)
    raise AssertionError(f"the JVM {process} did not end")


def read_topic(broker: Broker, topic: str) -> list[Record]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": topic, "enable.partition.eof": True})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found = []
        for message in read_messages(consumer, partitions):
            headers, partition, offset = message.headers() or [], message.partition(), message.offset()
            assert isinstance(headers, list) and partition is not None and offset is not None
            found.append(Record(partition, offset, message.timestamp()[1], message.key(), message.value(), tuple(headers)))
        return found
    finally:
        consumer.close()


def build_rules(plan: Plan) -> Rules:
    return Rules(("id",), "at", plan.form, plan.delay, SKEW)


def build_job(plan: Plan, most: int, bootstrap: str, source: str, sink: str, dead: str) -> JobConfig:
    return build_config(
        bootstrap,
        source,
        sink,
        source={"bootstrapServers": bootstrap, "topic": source, "maxOffsetsPerTrigger": most},
        eventTime={"field": "at", "format": plan.form},
        watermark=f"{plan.delay // 1000}s",
        onLate="DeadLetter",
        onInvalid="DeadLetter",
        deadLetter={"topic": dead},
    )


def check(plan: Plan, broker: Broker, jars: Path) -> None:
    with use_topics(broker, PARTITIONS, 2, 1) as (source, sink, dead), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for topic in (source, sink, dead):
            broker.configure(topic, {"retention.ms": "-1", "message.timestamp.after.max.ms": str((1 << 63) - 1)})
        logs = Logs(Path(folder, "checkpoint", "generation-1", "spark"), source)

        def start(most: int) -> Driver:
            return Driver(Path(folder), build_job(plan, most, broker.bootstrap, source, sink, dead), jars)

        run = Run(plan, start, Sender(broker, source), logs)
        run.run()
        given, output, letters = (read_topic(broker, topic) for topic in (source, sink, dead))
    observed = Observed(source, given, output, letters, logs.build_batches(), logs.watermarks, run.progress)
    wrong = compare(observed, build_rules(plan))
    assert not wrong, "\n".join([f"{len(wrong)} disagreements of driver and model, the first of them:", *wrong[:25]])


PATIENT = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink a plan takes half a minute a try
)


@pytest.mark.timeout(1800)
@settings(PATIENT, max_examples=2)
@given(plan=plans(lives=2, more=0, backlog=40))
def test_the_driver_does_what_the_model_says(broker: Broker, connector_jars: Path, plan: Plan) -> None:
    check(plan, broker, connector_jars)


@pytest.mark.full
@pytest.mark.timeout(7200)
@settings(PATIENT, max_examples=40)
@given(plan=st.integers(1, 4).flatmap(lambda lives: plans(lives=lives, more=6, backlog=1)))
def test_the_driver_does_what_the_model_says_for_long(broker: Broker, connector_jars: Path, plan: Plan) -> None:
    check(plan, broker, connector_jars)
