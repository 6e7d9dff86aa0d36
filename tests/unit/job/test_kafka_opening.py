"""The protocol between checkpoint, marker and output, with a Kafka in memory.

Drivers die at any step, and the delivery changes between them. `tests/kafka` and `make soak` do the same with a real
Kafka. Here each order of events costs microseconds.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.spec import Delivery, Ordering
from dedup_job.checkpoint.last_delivered import NOTHING_DELIVERED
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.output_file import Output, OutputFile
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import OffsetEnd, TopicInfo
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.report.metrics import Metrics
from dedup_job.sink import at_least_once, exactly_once, kafka_opening
from dedup_job.sink.exactly_once import ExactlyOnceSink
from dedup_job.sink.kafka_opening import KafkaOpening
from dedup_job.sink.marker import Marker
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
    """The brokers, which outlive a driver."""

    output: list[int] = field(default_factory=list)
    at_least: set[int] = field(default_factory=set)
    """Batches that Spark's own writer has written, at least in part."""
    markers: dict[str, Marker] | None = None
    """By output. None while the progress topic does not exist."""
    owner: object = None
    """The newest producer: older ones are fenced."""
    steps: int | None = None
    """Steps until the driver dies; None for a driver that does not die."""

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
        assert self.kafka.owner is self, "a fenced producer must not commit"
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
    """The part of a DataFrame that the sinks use."""

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
    """Until it has committed that many batches, or is killed."""
    checkpoint.spark.mkdir(parents=True, exist_ok=True)
    has_state = OffsetLog(checkpoint).read_newest() is not None or checkpoint.output_file.exists()

    def build_transactions(spark: Any, config: JobConfig, name: str) -> Any:
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
        opening = KafkaOpening(context, build_transactions)
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
"""Delivery, number of batches, steps until the driver is killed."""


def run_drivers(kafka: Kafka, checkpoint: CheckpointLayout, runs: list[Run]) -> None:
    """One after the other, each until it has committed its batches or is killed."""
    for delivery, batches, kafka.steps in runs:
        with contextlib.suppress(Killed):
            run_driver(kafka, checkpoint, delivery, batches)


RUNS = st.lists(st.tuples(st.sampled_from(Delivery), st.integers(1, 3), st.none() | st.integers(0, 20)), max_size=7)


@given(runs=RUNS)
def test_every_batch_is_in_the_output_once_wherever_a_driver_dies(runs: list[Run]) -> None:
    """Only a batch that was written with AtLeastOnce may be in the output twice."""
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
def test_a_lost_marker_stops_every_batch_until_the_delivery_changes(runs: list[Run]) -> None:
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


def run_first_driver(folder: Path, batches: int) -> tuple[Kafka, CheckpointLayout]:
    kafka, checkpoint = Kafka(), CheckpointLayout(folder, 1)
    run_driver(kafka, checkpoint, EXACTLY, batches)
    return kafka, checkpoint


def test_a_marker_of_another_batch_stops_the_job_until_the_delivery_changes(tmp_path: Path) -> None:
    kafka, checkpoint = run_first_driver(tmp_path, 2)
    kafka.steps = 2  # the driver dies when batch 2 is planned
    with pytest.raises(Killed):
        run_driver(kafka, checkpoint, EXACTLY, 1)
    kafka.steps = None
    assert kafka.markers is not None
    (name,) = kafka.markers
    kafka.markers[name] = Marker(batch=9, entry="another", attempt=7, rows=1)
    with pytest.raises(JobError, match="the progress topic says that batch 9 was written") as raised:
        run_driver(kafka, checkpoint, EXACTLY, 1)
    assert raised.value.code is ExitCode.SINK_PROGRESS_LOST
    run_driver(kafka, checkpoint, AT_LEAST, 1)
    run_driver(kafka, checkpoint, EXACTLY, 1)
    assert kafka.output == [0, 1, 2, 3]
    output = OutputFile(checkpoint).read()
    assert output is not None and output.name != name


@pytest.mark.parametrize("batches", [2, 5])
def test_a_restored_checkpoint_stops_the_job_until_the_delivery_changes(tmp_path: Path, batches: int) -> None:
    """The copy was made after a planned stop. It lacks the last `batches` batches of the output."""
    kafka, checkpoint = run_first_driver(tmp_path / "volume", 2)
    shutil.copytree(tmp_path / "volume", tmp_path / "copy")
    run_driver(kafka, checkpoint, EXACTLY, batches)
    shutil.rmtree(tmp_path / "volume")
    (tmp_path / "copy").rename(tmp_path / "volume")
    before = list(kafka.output)
    with pytest.raises(JobError, match="probably an older copy") as raised:
        run_driver(kafka, checkpoint, EXACTLY, 1)
    assert raised.value.code is ExitCode.SINK_PROGRESS_LOST and kafka.output == before
    run_driver(kafka, checkpoint, AT_LEAST, 1)
    run_driver(kafka, checkpoint, EXACTLY, batches)
    assert kafka.output == [*before, *range(2, batches + 3)]


def test_the_planned_batch_ends_in_its_transaction_before_the_delivery_changes(tmp_path: Path) -> None:
    """Only the marker shows that the batch is in the output: AtLeastOnce alone would write it again."""
    kafka, checkpoint = run_first_driver(tmp_path, 1)
    kafka.steps = 6  # the driver dies after the commit to Kafka and before Spark's commit
    with pytest.raises(Killed):
        run_driver(kafka, checkpoint, EXACTLY, 1)
    assert (kafka.output, CommitLog(checkpoint).read_newest()) == ([0, 1], 0)
    kafka.steps = None
    run_driver(kafka, checkpoint, AT_LEAST, 2)
    assert (kafka.output, kafka.at_least) == ([0, 1, 2], {2})


def test_a_checkpoint_with_batches_and_without_sink_json_is_damaged(tmp_path: Path) -> None:
    kafka, checkpoint = run_first_driver(tmp_path, 1)
    checkpoint.output_file.unlink()
    with pytest.raises(JobError, match=r"sink\.json is missing") as raised:
        run_driver(kafka, checkpoint, EXACTLY, 1)
    assert raised.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_a_batch_with_a_wrong_number_of_rows_is_not_committed(tmp_path: Path) -> None:
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
