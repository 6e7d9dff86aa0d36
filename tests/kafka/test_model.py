"""Runs generated streams through a real driver, and compares the outcome of each record with the model."""

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
from kafka.broker import READER, Broker, read_messages, use_topics
from kafka.comparison import NUMBER, Observed, compare
from kafka.driver import Driver, build_config
from kafka.model import Batch, Record, Rules
from kafka.shared_jvm import DriverHost, SharedJvmDriver
from kafka.streams import FRAME, PARTITIONS, SHAPES, SKEW, Generator, Plan, Step, plans

ANY_TIME = {"retention.ms": "-1", "message.timestamp.after.max.ms": str((1 << 63) - 1)}
"""The streams hold records of 2024 and of 2099."""


class Sender:
    """Sends drafts to the source topic and numbers them."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 100})
        self._topic, self.count = topic, 0

    def send(self, drafts: Step) -> None:
        failed: list[object] = []
        for draft in drafts:
            headers: list[tuple[str, str | bytes | None]] = [(NUMBER, str(self.count).encode()), *draft.headers]
            if self.count % 3 == 0:
                headers += [("dedup-reason", b"foreign"), ("dedup-other", b"foreign")]
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
    """Reads Spark's offset log and commit log while a driver runs, because Spark deletes old entries."""

    def __init__(self, spark: Path, topic: str) -> None:
        self._spark, self._topic = spark, topic
        self.entries: dict[int, tuple[int, int, dict[int, int]]] = {}
        """By batch: time, watermark and end offsets when it was planned."""
        self.watermarks: dict[int, int] = {}
        """By batch: the watermark that it was committed with."""
        self.processes: dict[int, int] = {}
        """By the first batch of each process: how many records a batch may take."""

    @contextmanager
    def follow(self, most: int) -> Iterator[None]:
        """Reads the logs from the start of a process to its end."""
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
    """Runs a plan through drivers on one checkpoint."""

    plan: Plan
    start: Callable[[int, bool], Driver]
    """Takes how many records a batch may take, and whether the driver will be killed."""
    sender: Sender
    logs: Logs
    progress: list[Progress] = field(default_factory=list)

    def run(self) -> None:
        generator = Generator(self.plan)
        self.sender.send(generator.build_backlog(self.plan.lives[0].backlog))
        for life, after in zip(self.plan.lives, [*self.plan.lives[1:], None], strict=True):
            killed_after = None if after is None else life.killed_after
            with self.logs.follow(life.most), self.start(life.most, killed_after is not None) as driver:
                self._wait(driver)
                for op in life.ops:
                    self._feed(driver, generator.build_steps(op))
                if after is None and self.plan.present:
                    self._feed(driver, generator.build_present(int(time.time() * 1000)))
                backlog = [] if after is None else generator.build_backlog(after.backlog)
                if killed_after is None:
                    self._stop(driver, backlog)
                else:
                    self._kill(driver, backlog, killed_after)

    def _feed(self, driver: Driver, steps: list[Step]) -> None:
        for step in steps:
            self.sender.send(step)
            self._wait(driver)

    def _wait(self, driver: Driver) -> None:
        self.progress.append(driver.wait_for_rows(self.sender.count).progress)

    def _stop(self, driver: Driver, backlog: Step) -> None:
        """The driver may read the first half of the backlog before it stops."""
        middle = len(backlog) // 2
        self.sender.send(backlog[:middle])
        assert driver.stop() == ExitCode.DONE, driver.read_output()
        self.sender.send(backlog[middle:])

    def _kill(self, driver: Driver, backlog: Step, seconds: float) -> None:
        """The kill may interrupt a batch of the first half of the backlog."""
        jvm, middle = driver.find_jvm(), len(backlog) // 2
        self.sender.send(backlog[:middle])
        time.sleep(seconds)
        driver.kill()
        self.sender.send(backlog[middle:])
        wait_until_gone(jvm)


def wait_until_gone(process: int) -> None:
    """A JVM whose Python process was killed runs for a moment longer, and may still commit."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
        time.sleep(0.02)
    raise AssertionError(f"the JVM {process} still runs 60 s after its Python process was killed")


def read_topic(broker: Broker, topic: str) -> list[Record]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": topic, **READER})
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
    shape = SHAPES[plan.shape]
    return Rules(
        (shape.key_path,),
        shape.time_path,
        plan.form,
        plan.delay,
        SKEW,
        plan.tombstones_pass,
        framed=shape.before == FRAME,
        in_headers=shape.in_headers,
    )


def build_job(plan: Plan, most: int, bootstrap: str, source: str, sink: str, dead: str) -> JobConfig:
    shape = SHAPES[plan.shape]
    more = {**({"framing": "SchemaRegistry"} if shape.before == FRAME else {}), **({"onTombstone": "Pass"} if plan.tombstones_pass else {})}
    return build_config(
        bootstrap,
        source,
        sink,
        **more,
        key={"from": "Header", "headers": ["id"]} if shape.in_headers else {"fields": [shape.key_path]},
        source={"bootstrapServers": bootstrap, "topic": source, "maxOffsetsPerTrigger": most},
        eventTime={**({"from": "Header", "header": "at"} if shape.in_headers else {"field": shape.time_path}), "format": plan.form},
        watermark=f"{plan.delay // 1000}s",
        onLate="DeadLetter",
        onInvalid="DeadLetter",
        deadLetter={"topic": dead},
    )


def check(plan: Plan, broker: Broker, jars: Path, host: DriverHost) -> None:
    """A driver that will be killed has a JVM of its own. The others share one."""
    with (
        use_topics(broker, PARTITIONS, 2, 1, config=ANY_TIME) as (source, sink, dead),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        logs = Logs(Path(folder, "checkpoint", "generation-1", "spark"), source)

        def start(most: int, will_be_killed: bool) -> Driver:
            config = build_job(plan, most, broker.bootstrap, source, sink, dead)
            if will_be_killed:
                return Driver(Path(folder), config, jars)
            return SharedJvmDriver(Path(folder), config, jars, host)

        run = Run(plan, start, Sender(broker, source), logs)
        run.run()
        given, output, dead_letters = (read_topic(broker, topic) for topic in (source, sink, dead))
    observed = Observed(source, given, output, dead_letters, logs.build_batches(), logs.watermarks, run.progress)
    wrong = compare(observed, build_rules(plan))
    assert not wrong, "\n".join([f"driver and model disagree {len(wrong)} times, first:", *wrong[:25]])


PATIENT = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # no shrinking: each try takes half a minute
)


@pytest.mark.timeout(1800)
@settings(PATIENT, max_examples=2)
@given(plan=plans(lives=2, more=0, backlog=40))
def test_the_driver_does_what_the_model_says(broker: Broker, connector_jars: Path, driver_host: DriverHost, plan: Plan) -> None:
    check(plan, broker, connector_jars, driver_host)


@pytest.mark.full
@pytest.mark.timeout(7200)
@settings(PATIENT, max_examples=40)
@given(plan=st.integers(1, 4).flatmap(lambda lives: plans(lives=lives, more=6, backlog=1)))
def test_the_driver_does_what_the_model_says_in_many_streams(
    broker: Broker, connector_jars: Path, driver_host: DriverHost, plan: Plan
) -> None:
    check(plan, broker, connector_jars, driver_host)
