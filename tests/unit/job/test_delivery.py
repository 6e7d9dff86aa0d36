"""The protocol between checkpoint, marker and output, with a Kafka in memory: drivers die at any step, and delivery changes between them.

`tests/kafka` and `make soak` do the same to real ones; here each order of events costs microseconds.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.spec import Delivery, Ordering
from dedup_job.checkpoint.last_delivered import NOTHING_DELIVERED
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.output_file import Output, OutputFile
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import OffsetEnd, TopicInfo
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.sink_topic_guard import SinkTopicGuard
from dedup_job.report.metrics import Metrics
from dedup_job.sink import at_least_once, exactly_once, kafka_opening
from dedup_job.sink.exactly_once import ExactlyOnceSink
from dedup_job.sink.kafka_opening import KafkaOpening
from dedup_job.sink.marker import Marker, Step, decide_step
from dedup_job.sink.sink import SinkContext
from unit.job.test_session import DOCUMENT

EXACTLY, AT_LEAST = Delivery.EXACTLY_ONCE, Delivery.AT_LEAST_ONCE


def build_config(delivery: Delivery) -> JobConfig:
    kafka = {"topic": "out", "delivery": delivery, "ordering": "None"}
    return JobConfig.model_validate({**DOCUMENT, "sink": {"kafka": kafka}})


class Killed(Exception):
    pass


@dataclass
class Kafka:
    """What outlives a driver."""

    output: list[int] = field(default_factory=list)
    at_least: set[int] = field(default_factory=set)
    """Batches that Spark's writer has touched."""
    markers: dict[str, Marker] | None = None
    """None: there is no progress topic."""
    owner: object = None
    steps: int | None = None
    """Steps until the driver dies; None for a driver that lives."""

    def step(self) -> None:
        if self.steps is not None:
            self.steps -= 1
            if self.steps < 0:
                raise Killed

    def fetch_topic(self, topic: str) -> TopicInfo | None:
        return None if self.markers is None and topic.endswith("-progress") else TopicInfo(f"id of {topic}", [0])

    def fetch_offsets(self, topic: str, partitions: list[int], end: OffsetEnd) -> dict[int, int]:
        raise NotImplementedError

    def ensure_progress_topic(self, settings: ClientSettings, topic: str) -> None:
        self.step()
        self.markers = self.markers or {}
        self.step()


class Transactions:
    def __init__(self, kafka: Kafka, name: str) -> None:
        self.kafka, self.name = kafka, name
        self.sent: list[int] = []

    def open(self) -> None:
        self.kafka.step()
        self.kafka.owner = self

    def read_marker(self) -> Marker | None:
        return (self.kafka.markers or {}).get(self.name)

    def reopen_after_pause(self) -> bool:
        return False

    def begin(self) -> None:
        self.sent = []

    def write(self, rows: Rows) -> int:
        self.sent.append(rows.batch)
        self.kafka.step()
        return 1

    def drain(self, rows: Rows) -> None:
        self.kafka.step()

    def commit(self, marker: Marker) -> None:
        self.kafka.step()
        assert self.kafka.owner is self, "a newer producer has opened"
        assert self.kafka.markers is not None
        self.kafka.output += self.sent
        self.kafka.markers[self.name] = marker
        self.kafka.step()

    def abort(self) -> None:
        self.sent = []

    def close(self) -> None:
        pass


@dataclass
class Rows:
    """A frame as far as the sinks use one."""

    batch: int
    kafka: Kafka

    def select(self, *columns: Any) -> Rows:
        return self

    @property
    def write(self) -> Rows:
        return self

    def format(self, name: str) -> Rows:
        return self

    def options(self, **options: str) -> Rows:
        return self

    def save(self) -> None:
        self.kafka.at_least.add(self.batch)
        self.kafka.output.append(self.batch)
        self.kafka.step()


class Column:
    def alias(self, name: str) -> Column:
        return self


def write_log(checkpoint: CheckpointLayout, log: str, batch: int, content: str) -> None:
    folder = checkpoint.spark / log
    folder.mkdir(parents=True, exist_ok=True)
    (folder / str(batch)).write_text(content)


def run_driver(kafka: Kafka, checkpoint: CheckpointLayout, delivery: Delivery, batches: int) -> None:
    """Until it has committed so many batches, or is killed."""
    checkpoint.spark.mkdir(parents=True, exist_ok=True)
    has_state = OffsetLog(checkpoint).read_newest() is not None or checkpoint.output_file.exists()

    def make_transactions(spark: Any, config: JobConfig, name: str) -> Any:
        return Transactions(kafka, name)

    context = SinkContext(
        spark=None,  # type: ignore[arg-type]
        config=build_config(delivery),
        layout=checkpoint,
        attempt=1,
        has_state=has_state,
        brokers=kafka,
        metrics=Metrics(),
    )
    with pytest.MonkeyPatch.context() as patch:
        write = OutputFile.write

        def write_output(file: OutputFile, output: Output) -> None:
            kafka.step()
            write(file, output)
            kafka.step()

        patch.setattr(OutputFile, "write", write_output)
        patch.setattr(kafka_opening, "ensure_progress_topic", kafka.ensure_progress_topic)
        patch.setattr(kafka_opening, "check_progress_topic", lambda settings, topic: None)
        patch.setattr(kafka_opening, "fetch_batch_bytes", lambda settings, topics: 1000)
        patch.setattr(exactly_once, "build_timestamp", Column)
        patch.setattr(at_least_once, "build_topic", lambda default: Column())
        opening = KafkaOpening(context, make_transactions)
        opening.open()
        output = opening.build()
        for _ in range(batches):
            last = CommitLog(checkpoint).read_newest()
            batch = 0 if last is None else last + 1
            if OffsetLog(checkpoint).read_newest() != batch:
                kafka.step()
                write_log(checkpoint, "offsets", batch, f"v1\n{{}}\n{json.dumps({'orders': {'0': batch}})}")
            kafka.step()
            output.begin(batch, OffsetLog(checkpoint).read_entry(batch))
            output.write(Rows(batch, kafka), batch)  # type: ignore[arg-type]
            output.confirm(1)
            kafka.step()
            write_log(checkpoint, "commits", batch, 'v1\n{"nextBatchWatermarkMs":0}')


Run = tuple[Delivery, int, int | None]
"""Delivery, batches, steps until it is killed."""


def run_drivers(kafka: Kafka, checkpoint: CheckpointLayout, runs: list[Run]) -> None:
    """One after the other, each until it has done its batches or is killed."""
    for delivery, batches, kafka.steps in runs:
        with contextlib.suppress(Killed):
            run_driver(kafka, checkpoint, delivery, batches)


RUNS = st.lists(st.tuples(st.sampled_from(Delivery), st.integers(1, 3), st.none() | st.integers(0, 20)), max_size=7)


@given(runs=RUNS)
def test_every_batch_is_in_the_output_once_whatever_dies(runs: list[Run]) -> None:
    """Only a batch that at-least-once has begun may come twice."""
    kafka = Kafka()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = CheckpointLayout(Path(folder), 1)
        run_drivers(kafka, checkpoint, [*runs, (EXACTLY, 2, None)])
        last = CommitLog(checkpoint).read_newest()
    assert last is not None
    counts = Counter(kafka.output)
    assert sorted(counts) == list(range(last + 1))
    assert {batch for batch, count in counts.items() if count > 1} <= kafka.at_least


@given(runs=RUNS.filter(len))
def test_a_lost_marker_stops_every_batch_until_delivery_is_changed(runs: list[Run]) -> None:
    kafka = Kafka()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = CheckpointLayout(Path(folder), 1)
        run_drivers(kafka, checkpoint, [*runs, (EXACTLY, 1, None)])
        before, kafka.markers = list(kafka.output), None
        for _ in range(2):
            with pytest.raises(JobError, match="holds no marker") as raised:
                run_driver(kafka, checkpoint, EXACTLY, 1)
            assert raised.value.code is ExitCode.SINK_PROGRESS_LOST and kafka.output == before
        run_driver(kafka, checkpoint, AT_LEAST, 1)
        run_driver(kafka, checkpoint, EXACTLY, 2)
        last = CommitLog(checkpoint).read_newest()
    assert last is not None
    assert sorted(set(kafka.output)) == list(range(last + 1))


def start(folder: Path, batches: int) -> tuple[Kafka, CheckpointLayout]:
    kafka, checkpoint = Kafka(), CheckpointLayout(folder, 1)
    run_driver(kafka, checkpoint, EXACTLY, batches)
    return kafka, checkpoint


def test_a_foreign_marker_stops_the_job_and_at_least_once_is_the_way_out(tmp_path: Path) -> None:
    kafka, checkpoint = start(tmp_path, 2)
    kafka.steps = 2  # dies with batch 2 planned
    with pytest.raises(Killed):
        run_driver(kafka, checkpoint, EXACTLY, 1)
    kafka.steps = None
    assert kafka.markers is not None
    (name,) = kafka.markers
    kafka.markers[name] = Marker(batch=9, entry="another", attempt=7, rows=1)
    with pytest.raises(JobError, match="marker in the progress topic is that of batch 9") as raised:
        run_driver(kafka, checkpoint, EXACTLY, 1)
    assert raised.value.code is ExitCode.SINK_PROGRESS_LOST
    run_driver(kafka, checkpoint, AT_LEAST, 1)
    run_driver(kafka, checkpoint, EXACTLY, 1)
    assert kafka.output == [0, 1, 2, 3]
    output = OutputFile(checkpoint).read()
    assert output is not None and output.name != name


@pytest.mark.parametrize("batches", [2, 5])
def test_a_restored_checkpoint_stops_the_job_and_at_least_once_is_the_way_out(tmp_path: Path, batches: int) -> None:
    """A copy from a planned stop, `batches` behind the output."""
    kafka, checkpoint = start(tmp_path / "volume", 2)
    shutil.copytree(tmp_path / "volume", tmp_path / "copy")
    run_driver(kafka, checkpoint, EXACTLY, batches)
    shutil.rmtree(tmp_path / "volume")
    (tmp_path / "copy").rename(tmp_path / "volume")
    before = list(kafka.output)
    with pytest.raises(JobError, match="the checkpoint is an older copy") as raised:
        run_driver(kafka, checkpoint, EXACTLY, 1)
    assert raised.value.code is ExitCode.SINK_PROGRESS_LOST and kafka.output == before
    run_driver(kafka, checkpoint, AT_LEAST, 1)
    run_driver(kafka, checkpoint, EXACTLY, batches)
    assert kafka.output == [*before, *range(2, batches + 3)]


def test_a_batch_that_is_due_ends_in_its_transaction_before_delivery_changes(tmp_path: Path) -> None:
    """It is in the output, which only the marker knows: at-least-once alone would write it again."""
    kafka, checkpoint = start(tmp_path, 1)
    kafka.steps = 6  # opened, planned, begun, sent, committed to Kafka; dies before Spark's commit
    with pytest.raises(Killed):
        run_driver(kafka, checkpoint, EXACTLY, 1)
    assert (kafka.output, CommitLog(checkpoint).read_newest()) == ([0, 1], 0)
    kafka.steps = None
    run_driver(kafka, checkpoint, AT_LEAST, 2)
    assert (kafka.output, kafka.at_least) == ([0, 1, 2], {2})


def test_a_checkpoint_without_the_file_that_says_how_it_was_written_is_damaged(tmp_path: Path) -> None:
    kafka, checkpoint = start(tmp_path, 1)
    checkpoint.output_file.unlink()
    with pytest.raises(JobError, match=r"sink\.json, which says how they were written, is missing") as raised:
        run_driver(kafka, checkpoint, EXACTLY, 1)
    assert raised.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_another_count_of_rows_is_never_committed(tmp_path: Path) -> None:
    kafka = Kafka(markers={})
    marker = Marker(batch=NOTHING_DELIVERED, entry="", attempt=1, rows=0)
    transactions: Any = Transactions(kafka, "x")
    transactions.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exactly_once, "build_timestamp", Column)
        once = ExactlyOnceSink(transactions, marker, attempt=1, ordering=Ordering.NONE, partitions=1)
        once.begin(0, "entry")
        once.write(Rows(0, kafka), 0)  # type: ignore[arg-type]
        with pytest.raises(JobError, match="has 2 records to write, and 1 were sent"):
            once.confirm(2)
    assert kafka.output == [] and kafka.markers == {}


@pytest.mark.parametrize(
    ("marker", "step"),
    [((6, "old"), Step.DELIVER), ((7, "due"), Step.SKIP), ((7, "other"), None), ((5, "due"), None), ((8, "due"), None), ((-1, ""), None)],
)
def test_what_the_marker_says_about_batch_7(marker: tuple[int, str], step: Step | None) -> None:
    found = Marker(batch=marker[0], entry=marker[1], attempt=1, rows=1)
    if step is not None:
        assert decide_step(found, 7, "due") is step
    else:
        with pytest.raises(JobError) as raised:
            decide_step(found, 7, "due")
        assert raised.value.code is ExitCode.SINK_PROGRESS_LOST


def build_guard(fetch_id: Callable[[str], str | None], writes_marker: Callable[[], bool] = lambda: True) -> SinkTopicGuard:
    topics = {"out": Reason.SINK_TOPIC_MISSING}
    wait: Callable[[float], None] = lambda seconds: None  # noqa: E731
    return SinkTopicGuard(fetch_id=fetch_id, wait=wait, topics=topics, progress_topic="progress", writes_marker=writes_marker)


@pytest.mark.parametrize(
    ("seen", "code", "reason"),
    [
        ({"out": ["a"], "progress": ["p"]}, None, None),
        ({"out": ["a", "b", "a"], "progress": ["p"]}, None, None),  # a broker that does not know yet
        ({"out": ["a", "b"], "progress": ["p"]}, ExitCode.TOPIC_MISSING, Reason.SINK_TOPIC_MISSING),
        ({"out": ["a", None], "progress": ["p"]}, ExitCode.TOPIC_MISSING, Reason.SINK_TOPIC_MISSING),
        ({"out": ["a"], "progress": ["p", "q"]}, ExitCode.SINK_PROGRESS_LOST, Reason.SINK_PROGRESS_LOST),
        ({"out": ["a"], "progress": ["p", None]}, ExitCode.SINK_PROGRESS_LOST, Reason.SINK_PROGRESS_LOST),
        ({"out": ["a"], "progress": [None, "p"]}, None, None),  # made a moment before, and known to one broker
    ],
)
def test_topics_that_the_sink_writes_to(seen: dict[str, list[str | None]], code: ExitCode | None, reason: Reason | None) -> None:
    def fetch_id(name: str) -> str | None:
        ids = seen[name]
        return ids.pop(0) if len(ids) > 1 else ids[0]

    guard = build_guard(fetch_id)
    if code is None:
        guard.check(1)
        guard.check(2)
    else:
        with pytest.raises(JobError) as raised:
            guard.check(1)
        assert (raised.value.code, raised.value.reason) == (code, reason)


def test_a_progress_topic_that_nobody_writes_to_may_be_missing() -> None:
    """AtLeastOnce is the way out where it was lost; a switch is over when the batch that was due has ended."""
    writes_marker = True
    ids = {"out": "a", "progress": "p"}
    guard = build_guard(ids.get, lambda: writes_marker)
    guard.check(1)
    del ids["progress"]
    with pytest.raises(JobError):
        guard.check(2)
    writes_marker = False
    guard.check(2)


def test_brokers_that_know_no_ids_of_topics_say_nothing_by_them() -> None:
    ids = {"out": "a", "progress": "p"}
    guard = build_guard(ids.get)
    ids["out"] = ""
    guard.check(1)
    ids["out"] = "b"
    with pytest.raises(JobError, match="deleted and recreated"):
        guard.check(2)
