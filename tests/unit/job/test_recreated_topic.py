"""How the driver moves a checkpoint from a deleted topic to the topic that was recreated under its name."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.log_format import build_empty_batch_entry
from dedup_job.checkpoint.lost_records import LostRecordsFile
from dedup_job.checkpoint.recreated_topic import OffsetReset, RecreatedTopic
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog, SourceStart
from dedup_job.errors import JobError
from dedup_job.sink.marker import Marker
from unit.job.spark_files import Volume, build_entry


def build_marker(batch: int) -> Marker:
    return Marker(batch=batch, entry="", attempt=1, rows=1)


def open_topic(volume: Volume, marker: Marker | None) -> RecreatedTopic:
    return RecreatedTopic(volume, "orders", marker)


def test_the_empty_batch_ends_at_no_partition_and_keeps_watermark_and_clock(volume: Volume) -> None:
    (volume.offset_log / ".1.crc").write_text("of a planned batch that was removed")
    assert open_topic(volume, build_marker(0)).reset_offsets() == OffsetReset(1, None, [])
    version, metadata, offsets = OffsetLog(volume).read_entry(1).split("\n")
    document = json.loads(metadata)
    assert (version, offsets) == ("v1", "{}")
    assert document["batchWatermarkMs"] == 5000, "the watermark must be that of the last commit"
    assert document["batchTimestampMs"] > 1_700_000_000_000
    assert document["conf"] == {"spark.sql.shuffle.partitions": "3"}
    assert not (volume.offset_log / ".1.crc").exists(), "with checksums of another content Hadoop cannot read the entry"


def test_the_files_that_the_empty_batch_reads_are_on_the_disk_before_its_entry(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut could tear the state, and Spark would read old offsets of the batch before from the new
    topic."""
    changelog = volume.state / "0" / "0" / "1.changelog"
    changelog.parent.mkdir(parents=True)
    changelog.write_text("keys")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    open_topic(volume, build_marker(0)).reset_offsets()
    assert synced.index("1.changelog") < synced.index(".1.tmp")


@given(st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**13))
def test_neither_watermark_nor_clock_goes_back(before: int, clock: int, watermark: int, now: int) -> None:
    document = json.loads(build_empty_batch_entry(build_entry({0: 1}, before, clock), watermark, now).split("\n")[1])
    assert (document["batchWatermarkMs"], document["batchTimestampMs"]) == (max(before, watermark), max(clock, now))


@pytest.mark.parametrize("entry", ["", "v1\n{}", "v2\n{}\n{}", 'v1\n{}\n{"a":{}}\n{"b":{}}'])
def test_an_entry_in_an_unknown_format_stops_the_driver(entry: str) -> None:
    with pytest.raises(JobError) as caught:
        build_empty_batch_entry(entry, 0, 0)
    assert caught.value.code is ExitCode.INTERNAL


@pytest.mark.parametrize("marker", [build_marker(0), None])
def test_a_planned_batch_that_is_not_in_the_output_is_removed_and_counted(volume: Volume, marker: Marker | None) -> None:
    volume.add(1, {0: 13, 1: 9}, committed=False)
    reset = open_topic(volume, marker).reset_offsets()
    assert (reset.empty_batch, reset.dropped_batch) == (1, 1)
    assert [(item.batch, item.partition, item.start, item.end) for item in reset.lost] == [(1, 0, 10, 13), (1, 1, 5, 9)]
    assert OffsetLog(volume).read_end_offsets(1, "orders") == {}
    assert LostRecordsFile(volume).read().total == 7


def test_a_planned_batch_that_is_in_the_output_is_committed(volume: Volume) -> None:
    volume.add(1, {0: 13, 1: 9}, committed=False)
    (volume.commit_log / ".1.crc").write_text("x")
    topic = open_topic(volume, build_marker(1))
    assert topic.commit_delivered_batch() == 1
    assert (volume.commit_log / "1").read_text() == (volume.commit_log / "0").read_text()
    assert not (volume.commit_log / ".1.crc").exists()
    assert topic.commit_delivered_batch() is None
    assert topic.reset_offsets() == OffsetReset(2, None, [])
    assert OffsetLog(volume).read_end_offsets(1, "orders") == {0: 13, 1: 9}
    assert OffsetLog(volume).read_end_offsets(2, "orders") == {}


@pytest.mark.parametrize("marker", [build_marker(0), None])
def test_no_other_batch_is_committed(volume: Volume, marker: Marker | None) -> None:
    assert open_topic(volume, marker).commit_delivered_batch() is None
    volume.add(1, {0: 13, 1: 9}, committed=False)
    assert open_topic(volume, marker).commit_delivered_batch() is None
    assert CommitLog(volume).read_newest() == 0


def test_a_batch_in_the_output_is_never_removed(volume: Volume) -> None:
    """Recovery found its state damaged after the driver had committed it, and took the commit back."""
    volume.add(1, {0: 13, 1: 9}, committed=False)
    with pytest.raises(JobError) as caught:
        open_topic(volume, build_marker(1)).reset_offsets()
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


@pytest.mark.parametrize("marker", [build_marker(0), build_marker(1), None])
def test_a_reset_can_be_repeated(volume: Volume, marker: Marker | None) -> None:
    volume.add(1, {0: 13, 1: 9}, committed=False)
    topic = open_topic(volume, marker)
    topic.commit_delivered_batch()
    empty_batch = topic.reset_offsets().empty_batch
    topic.commit_delivered_batch()
    commits, total = CommitLog(volume).read_newest(), LostRecordsFile(volume).read().total
    assert topic.reset_offsets() == OffsetReset(empty_batch, None, [])
    assert (CommitLog(volume).read_newest(), LostRecordsFile(volume).read().total) == (commits, total)


def test_before_the_first_commit_the_job_reads_the_whole_new_topic(tmp_path: Path) -> None:
    volume = Volume(tmp_path, 1)
    volume.start({0: 3})
    volume.add(0, {0: 10}, committed=False)
    reset = open_topic(volume, build_marker(-1)).reset_offsets()
    assert (reset.empty_batch, reset.dropped_batch, [item.records for item in reset.lost]) == (None, 0, [7])
    assert OffsetLog(volume).read_newest() is None
    assert volume.source_start_file.read_bytes() == b"\0v1\n{}"
    assert not volume.source_start_file.with_name(".0.crc").exists()
    assert SourceStart(volume).read("orders") == {}
    assert not list(volume.offset_log.glob(".0*"))


def test_a_first_batch_that_is_in_the_output_is_committed(tmp_path: Path) -> None:
    volume = Volume(tmp_path, 1)
    volume.start({0: 3})
    volume.add(0, {0: 10}, committed=False)
    (volume.commit_log / ".0.crc").unlink()
    volume.commit_log.rmdir()
    topic = open_topic(volume, build_marker(0))
    assert topic.commit_delivered_batch() == 0
    assert topic.reset_offsets() == OffsetReset(1, None, [])
    assert json.loads((volume.commit_log / "0").read_text().removeprefix("v1\n")) == {"nextBatchWatermarkMs": 0}


def test_a_checkpoint_without_a_batch_does_not_change(tmp_path: Path) -> None:
    volume = Volume(tmp_path, 1)
    volume.spark.mkdir(parents=True)
    assert open_topic(volume, None).reset_offsets() == OffsetReset(None, None, [])
    assert not list(volume.spark.iterdir())
