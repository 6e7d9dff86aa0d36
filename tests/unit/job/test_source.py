"""What is checked around each batch, and the move to a topic that was made again."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.log_format import build_empty_batch_entry
from dedup_job.checkpoint.lost_records import LostRecordsFile
from dedup_job.checkpoint.recreated_topic import OffsetReset, RecreatedTopic
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog, SourceStart
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import OffsetEnd, TopicInfo
from dedup_job.kafka.retries import retry_while_unavailable
from dedup_job.kafka.source_topic_guard import SourceTopicGuard
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State
from dedup_job.sink.marker import Marker
from dedup_job.stream.source import build_source_options
from unit.job.test_checkpoint import write_batch
from unit.job.test_session import DOCUMENT

AWAY = JobError(ExitCode.UNAVAILABLE, "no broker answers")
OLD, NEW = "old-id", "new-id"


def build_config(on_data_loss: str) -> JobConfig:
    return JobConfig.model_validate({**DOCUMENT, "source": {**DOCUMENT["source"], "onDataLoss": on_data_loss}})


def build_entry(ends: dict[int, int], watermark: int = 1000, clock: int = 2000) -> str:
    metadata = {"batchWatermarkMs": watermark, "batchTimestampMs": clock, "conf": {"spark.sql.shuffle.partitions": "3"}}
    return f"v1\n{json.dumps(metadata)}\n{json.dumps({'orders': {str(partition): end for partition, end in ends.items()}})}"


class Volume(CheckpointLayout):
    """A checkpoint as Spark leaves it: batch after batch, the last of them perhaps only planned."""

    def begin(self, starts: dict[int, int]) -> None:
        file = self.spark / "sources" / "0" / "0"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"\0v1\n" + json.dumps({"orders": starts}).encode())
        file.with_name(".0.crc").write_text("checksum")

    def add(self, batch: int, ends: dict[int, int], committed: bool = True, watermark: int = 5000) -> None:
        write_batch(self, batch, "", f'{{"nextBatchWatermarkMs":{watermark}}}')
        (self.spark / "offsets" / str(batch)).write_text(build_entry(ends))
        if not committed:
            (self.spark / "commits" / str(batch)).unlink()


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """Batch 0 has read offsets 3 to 9 of partition 0 and 0 to 4 of partition 1."""
    checkpoint = Volume(tmp_path, 1)
    checkpoint.begin({0: 3, 1: 0})
    checkpoint.add(0, {0: 10, 1: 5})
    return checkpoint


class Topic:
    """The source as the brokers describe it."""

    def __init__(self) -> None:
        self.id, self.earliest = OLD, {0: 0, 1: 0}
        self.answers = 100
        self.exists = True

    def fetch_topic(self, topic: str) -> TopicInfo | None:
        self.answers -= 1
        if self.answers < 0:
            raise AWAY
        return TopicInfo(self.id, sorted(self.earliest)) if self.exists else None

    def fetch_offsets(self, topic: str, partitions: list[int], end: OffsetEnd) -> dict[int, int]:
        assert end is OffsetEnd.EARLIEST and partitions == sorted(self.earliest)
        return self.earliest


class Bed:
    """A guard with all that it touches."""

    def __init__(self, volume: Volume, on_data_loss: str = "Fail", topic_id: str = OLD) -> None:
        self.topic, self.state, self.metrics, self.volume = Topic(), State(), Metrics(), volume
        self.waited: list[float] = []
        self.guard = SourceTopicGuard(
            brokers=self.topic,
            config=build_config(on_data_loss),
            layout=volume,
            topic_id=topic_id,
            state=self.state,
            metrics=self.metrics,
            wait=self.wait,
            clock=lambda: sum(self.waited),
        )

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)

    @property
    def lost(self) -> int:
        counted = self.metrics.registry.get_sample_value("dedup_lost_records_total")
        assert LostRecordsFile(self.volume).read().total == self.state.read().lost
        return int(counted or 0)


def catch(call: Callable[[], object]) -> JobError:
    with pytest.raises(JobError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("on_data_loss", ["Fail", "Continue"])
def test_a_whole_topic_passes(volume: Volume, on_data_loss: str) -> None:
    bed = Bed(volume, on_data_loss)
    bed.guard.check_start()
    assert bed.guard.reset_offsets_if_recreated(None) == OLD
    volume.add(1, {0: 20, 1: 5, 2: 7}, committed=False)  # partition 2 was added to the topic
    bed.topic.earliest = {0: 10, 1: 5, 2: 0}
    bed.guard.check_before(1)
    bed.guard.check_after(1)
    assert bed.lost == 0 and not volume.lost_records_file.exists()


def test_lost_records_stop_a_batch_before_it_begins(volume: Volume) -> None:
    bed = Bed(volume)
    volume.add(1, {0: 20, 1: 5}, committed=False)
    bed.topic.earliest = {0: 12, 1: 99}
    error = catch(lambda: bed.guard.check_before(1))
    assert (error.code, error.reason) == (ExitCode.SOURCE_DATA_LOST, Reason.SOURCE_DATA_LOST)
    assert "orders no longer holds offsets 10 to 11 of partition 0: up to 2 records" in error.message
    assert bed.lost == 0


def test_the_start_names_all_that_is_gone(volume: Volume) -> None:
    bed = Bed(volume)
    bed.topic.earliest = {0: 1000, 1: 5}
    assert "offsets 10 to 999 of partition 0: up to 990" in catch(bed.guard.check_start).message


def test_batch_0_begins_where_spark_began(volume: Volume) -> None:
    bed = Bed(volume)
    bed.topic.earliest = {0: 3, 1: 0}
    bed.guard.check_before(0)
    bed.topic.earliest = {0: 4, 1: 0}
    assert "offsets 3 to 3 of partition 0" in catch(lambda: bed.guard.check_before(0)).message


def test_a_new_checkpoint_can_lose_nothing(tmp_path: Path) -> None:
    bed = Bed(Volume(tmp_path, 1))
    bed.topic.earliest = {0: 500}
    bed.guard.check_start()


def test_with_fail_what_was_read_in_time_is_no_loss(volume: Volume) -> None:
    bed = Bed(volume)
    volume.add(1, {0: 20, 1: 5}, committed=False)
    bed.guard.check_before(1)
    bed.topic.earliest = {0: 15, 1: 5}
    bed.guard.check_after(1)


def test_with_continue_ranges_are_counted_once(volume: Volume, caplog: pytest.LogCaptureFixture) -> None:
    bed = Bed(volume, "Continue")
    volume.add(1, {0: 20, 1: 5}, committed=False)
    bed.topic.earliest = {0: 12, 1: 5}
    bed.guard.check_start()
    with caplog.at_level(logging.WARNING):
        bed.guard.check_before(1)
    assert bed.lost == 2
    assert "offsets 10 to 11 of partition 0" in caplog.text
    bed.topic.earliest = {0: 14, 1: 5}  # retention goes on while the batch runs
    bed.guard.check_after(1)
    assert bed.lost == 4
    again = Bed(volume, "Continue")  # the driver died before the commit
    assert again.state.read().lost == 4
    again.topic.earliest = {0: 15, 1: 5}
    again.guard.check_before(1)
    again.guard.check_after(1)
    assert (again.lost, again.state.read().lost) == (1, 5), "the counter begins with the process, the total with the checkpoint"


@pytest.mark.parametrize(("on_data_loss", "reason"), [("Fail", Reason.SOURCE_TOPIC_REPLACED), ("Continue", Reason.SOURCE_TOPIC_MISSING)])
def test_a_topic_made_again_ends_a_running_driver(volume: Volume, on_data_loss: str, reason: Reason) -> None:
    """With Continue the exit is one that the operator starts again after."""
    bed = Bed(volume, on_data_loss)
    volume.add(1, {0: 20, 1: 5}, committed=False)
    bed.topic.id = NEW
    for check in (bed.guard.check_before, bed.guard.check_after):
        error = catch(lambda check=check: check(1))  # type: ignore[misc]
        assert (error.code, error.reason) == (ExitCode.TOPIC_MISSING, reason)
        assert "recreated" in error.message
    assert bed.lost == 0


def test_a_topic_made_again_stops_the_start_with_fail(volume: Volume) -> None:
    volume.add(1, {0: 20, 1: 5}, committed=False)
    bed = Bed(volume)
    bed.topic.id = NEW
    bed.guard.commit_delivered_batch(build_marker(1))
    assert catch(bed.guard.check_start).reason is Reason.SOURCE_TOPIC_REPLACED
    assert catch(lambda: bed.guard.reset_offsets_if_recreated(None)).reason is Reason.SOURCE_TOPIC_REPLACED
    assert (CommitLog(volume).read_newest(), OffsetLog(volume).read_newest()) == (0, 1), "the old topic may be brought back"


def test_the_start_follows_a_topic_made_again_with_continue(volume: Volume) -> None:
    volume.add(1, {0: 20, 1: 5}, committed=False)
    bed = Bed(volume, "Continue")
    bed.topic.id, bed.topic.earliest = NEW, {0: 0}
    bed.guard.check_start()
    bed.guard.commit_delivered_batch(None)
    assert bed.guard.reset_offsets_if_recreated(None) == NEW
    assert bed.lost == 10
    assert OffsetLog(volume).read_end_offsets(1, "orders") == {}
    bed.guard.check_before(1)
    bed.guard.check_after(1)
    assert bed.lost == 10, "the empty batch has lost nothing"


def test_the_start_keeps_a_batch_that_is_in_the_output(volume: Volume) -> None:
    volume.add(1, {0: 20, 1: 5}, committed=False)
    bed = Bed(volume, "Continue")
    bed.guard.commit_delivered_batch(build_marker(1))
    assert CommitLog(volume).read_newest() == 0, "the topic is still what it was: Spark reads the batch again"
    bed.topic.id = NEW
    bed.guard.commit_delivered_batch(build_marker(1))
    assert bed.guard.reset_offsets_if_recreated(build_marker(1)) == NEW
    assert (CommitLog(volume).read_newest(), OffsetLog(volume).read_newest(), bed.lost) == (1, 2, 0)


@pytest.mark.parametrize(("recorded", "found", "after"), [("", NEW, NEW), (OLD, "", OLD), ("", "", "")])
def test_unknown_ids_say_nothing(volume: Volume, recorded: str, found: str, after: str) -> None:
    bed = Bed(volume, topic_id=recorded)
    bed.topic.id = found
    bed.guard.check_start()
    assert bed.guard.reset_offsets_if_recreated(None) == after
    assert OffsetLog(volume).read_newest() == 0


def test_a_missing_topic_is_said_at_once(volume: Volume) -> None:
    bed = Bed(volume)
    bed.topic.exists = False
    assert catch(lambda: bed.guard.check_before(0)).reason is Reason.SOURCE_TOPIC_MISSING
    assert bed.waited == []


def test_brokers_that_are_away_for_a_moment_are_waited_for() -> None:
    failures, waited = [AWAY, AWAY], list[float]()

    def ask() -> str:
        if failures:
            raise failures.pop()
        return "here"

    assert retry_while_unavailable(ask, waited.append) == "here"
    assert waited == [0.5, 1.0]


def test_brokers_that_stay_away_end_the_driver(volume: Volume) -> None:
    bed = Bed(volume)
    bed.topic.answers = 0
    assert catch(lambda: bed.guard.check_before(0)).code is ExitCode.UNAVAILABLE
    assert 60 <= sum(bed.waited) <= 80


# The move to a new topic


def build_marker(batch: int) -> Marker:
    return Marker(batch=batch, entry="", attempt=1, rows=1)


def test_the_forced_batch_ends_nowhere_and_turns_nothing_back(volume: Volume) -> None:
    (volume.spark / "offsets" / ".1.crc").write_text("of a planned batch that was dropped")
    assert RecreatedTopic(volume, "orders", build_marker(0)).reset_offsets() == OffsetReset(1, None, [])
    version, metadata, offsets = OffsetLog(volume).read_entry(1).split("\n")
    document = json.loads(metadata)
    assert (version, offsets) == ("v1", "{}")
    assert document["batchWatermarkMs"] == 5000, "that of the last commit"
    assert document["batchTimestampMs"] > 1_700_000_000_000
    assert document["conf"] == {"spark.sql.shuffle.partitions": "3"}
    assert not (volume.spark / "offsets" / ".1.crc").exists(), "a checksum of other bytes would make the entry unreadable"


def test_what_the_forced_batch_begins_from_is_on_the_disk_before_it(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could tear the state, and the batch before would be run again: old offsets, read from the new topic."""
    changelog = volume.spark / "state" / "0" / "0" / "1.changelog"
    changelog.parent.mkdir(parents=True)
    changelog.write_text("keys")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    RecreatedTopic(volume, "orders", build_marker(0)).reset_offsets()
    assert synced.index("1.changelog") < synced.index(".1.tmp")


@given(st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**13))
def test_neither_watermark_nor_clock_goes_back(before: int, clock: int, watermark: int, now: int) -> None:
    document = json.loads(build_empty_batch_entry(build_entry({0: 1}, before, clock), watermark, now).split("\n")[1])
    assert (document["batchWatermarkMs"], document["batchTimestampMs"]) == (max(before, watermark), max(clock, now))


@pytest.mark.parametrize("entry", ["", "v1\n{}", "v2\n{}\n{}", 'v1\n{}\n{"a":{}}\n{"b":{}}'])
def test_an_entry_of_another_form_is_not_guessed_at(entry: str) -> None:
    assert catch(lambda: build_empty_batch_entry(entry, 0, 0)).code is ExitCode.INTERNAL


@pytest.mark.parametrize("marker", [build_marker(0), None])
def test_a_planned_batch_that_is_not_in_the_output_is_dropped_and_counted(volume: Volume, marker: Marker | None) -> None:
    volume.add(1, {0: 13, 1: 9}, committed=False)
    move = RecreatedTopic(volume, "orders", marker).reset_offsets()
    assert (move.empty_batch, move.dropped_batch) == (1, 1)
    assert [(item.batch, item.partition, item.start, item.end) for item in move.lost] == [(1, 0, 10, 13), (1, 1, 5, 9)]
    assert OffsetLog(volume).read_end_offsets(1, "orders") == {}
    assert LostRecordsFile(volume).read().total == 7


def test_a_planned_batch_that_is_in_the_output_is_committed(volume: Volume) -> None:
    volume.add(1, {0: 13, 1: 9}, committed=False)
    (volume.spark / "commits" / ".1.crc").write_text("x")
    assert RecreatedTopic(volume, "orders", build_marker(1)).commit_delivered_batch() == 1
    assert (volume.spark / "commits" / "1").read_text() == (volume.spark / "commits" / "0").read_text()
    assert not (volume.spark / "commits" / ".1.crc").exists()
    assert RecreatedTopic(volume, "orders", build_marker(1)).commit_delivered_batch() is None
    assert RecreatedTopic(volume, "orders", build_marker(1)).reset_offsets() == OffsetReset(2, None, [])
    assert OffsetLog(volume).read_end_offsets(1, "orders") == {0: 13, 1: 9}
    assert OffsetLog(volume).read_end_offsets(2, "orders") == {}


@pytest.mark.parametrize("marker", [build_marker(0), None])
def test_no_other_batch_is_committed(volume: Volume, marker: Marker | None) -> None:
    assert RecreatedTopic(volume, "orders", marker).commit_delivered_batch() is None
    volume.add(1, {0: 13, 1: 9}, committed=False)
    assert RecreatedTopic(volume, "orders", marker).commit_delivered_batch() is None
    assert CommitLog(volume).read_newest() == 0


def test_a_batch_in_the_output_is_never_dropped(volume: Volume) -> None:
    """Its state was found damaged after it had been adopted, and its commit taken back."""
    volume.add(1, {0: 13, 1: 9}, committed=False)
    assert catch(lambda: RecreatedTopic(volume, "orders", build_marker(1)).reset_offsets()).code is ExitCode.CHECKPOINT_DAMAGED


@pytest.mark.parametrize("marker", [build_marker(0), build_marker(1), None])
def test_a_move_can_be_repeated(volume: Volume, marker: Marker | None) -> None:
    volume.add(1, {0: 13, 1: 9}, committed=False)
    RecreatedTopic(volume, "orders", marker).commit_delivered_batch()
    forced = RecreatedTopic(volume, "orders", marker).reset_offsets().empty_batch
    RecreatedTopic(volume, "orders", marker).commit_delivered_batch()
    commits, total = CommitLog(volume).read_newest(), LostRecordsFile(volume).read().total
    assert RecreatedTopic(volume, "orders", marker).reset_offsets() == OffsetReset(forced, None, [])
    assert (CommitLog(volume).read_newest(), LostRecordsFile(volume).read().total) == (commits, total)


def test_before_the_first_commit_the_job_begins_anew(tmp_path: Path) -> None:
    volume = Volume(tmp_path, 1)
    volume.begin({0: 3})
    volume.add(0, {0: 10}, committed=False)
    move = RecreatedTopic(volume, "orders", build_marker(-1)).reset_offsets()
    assert (move.empty_batch, move.dropped_batch, [item.records for item in move.lost]) == (None, 0, [7])
    assert OffsetLog(volume).read_newest() is None
    assert (volume.spark / "sources" / "0" / "0").read_bytes() == b"\0v1\n{}"
    assert not (volume.spark / "sources" / "0" / ".0.crc").exists()
    assert SourceStart(volume).read("orders") == {}
    assert not list((volume.spark / "offsets").glob(".0*"))


def test_a_first_batch_that_is_in_the_output_is_committed(tmp_path: Path) -> None:
    volume = Volume(tmp_path, 1)
    volume.begin({0: 3})
    volume.add(0, {0: 10}, committed=False)
    (volume.spark / "commits" / ".0.crc").unlink()
    (volume.spark / "commits").rmdir()
    assert RecreatedTopic(volume, "orders", build_marker(0)).commit_delivered_batch() == 0
    assert RecreatedTopic(volume, "orders", build_marker(0)).reset_offsets() == OffsetReset(1, None, [])
    assert json.loads((volume.spark / "commits" / "0").read_text().removeprefix("v1\n")) == {"nextBatchWatermarkMs": 0}


def test_a_checkpoint_without_a_batch_is_left_alone(tmp_path: Path) -> None:
    volume = Volume(tmp_path, 1)
    volume.spark.mkdir(parents=True)
    volume.folder.joinpath("x").touch()
    assert RecreatedTopic(volume, "orders", None).reset_offsets() == OffsetReset(None, None, [])
    assert not list(volume.spark.iterdir())


def test_initial_offsets_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    volume = Volume(tmp_path, 1)
    volume.begin({0: 3})
    for content in (b"", b"\0", b"\0v1\n", b"\0v1\n{", b"\0v9\n{}", b"\xff\xff"):
        (volume.spark / "sources" / "0" / "0").write_bytes(content)
        error = catch(lambda: SourceStart(volume).read("orders"))
        assert error.code is ExitCode.CHECKPOINT_DAMAGED and "generation-1/spark/sources/0/0" in error.message


@pytest.mark.parametrize(("on_data_loss", "option"), [("Fail", "true"), ("Continue", "false")])
def test_spark_is_told(on_data_loss: str, option: str) -> None:
    assert build_source_options(build_config(on_data_loss))["failOnDataLoss"] == option
