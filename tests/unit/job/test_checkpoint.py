"""The files on the checkpoint volume."""

from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.attempt_file import AttemptFile
from dedup_job.checkpoint.durable_files import write_durably
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.spark_logs import CommitLog
from dedup_job.errors import JobError

METADATA = '{"batchWatermarkMs":1,"batchTimestampMs":2,"conf":{}}'


def write_batch(checkpoint: CheckpointLayout, batch: int, offsets: str, commit: str) -> None:
    for log, content in (("offsets", f"v1\n{METADATA}\n{offsets}"), ("commits", f"v1\n{commit}")):
        (checkpoint.spark / log).mkdir(parents=True, exist_ok=True)
        (checkpoint.spark / log / str(batch)).write_text(content)
        (checkpoint.spark / log / f".{batch}.crc").write_text("")


def test_each_start_raises_the_attempt(tmp_path: Path) -> None:
    checkpoint = CheckpointLayout(tmp_path, 1)
    assert [AttemptFile(checkpoint).increment() for _ in range(3)] == [1, 2, 3]
    assert checkpoint.spark == tmp_path / "generation-1" / "spark"
    assert checkpoint.spark.is_dir()


@pytest.mark.parametrize("content", ["", "\n", "x", "-1", "1.5"])
def test_a_damaged_attempt_is_not_guessed(tmp_path: Path, content: str) -> None:
    (tmp_path / "attempt").write_text(content)
    with pytest.raises(JobError, match="holds no number") as caught:
        AttemptFile(CheckpointLayout(tmp_path, 1)).increment()
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_a_missing_attempt_is_not_guessed_once_a_job_has_begun(tmp_path: Path) -> None:
    (tmp_path / "generation-2").mkdir()
    assert AttemptFile(CheckpointLayout(tmp_path, 1)).increment() == 1
    (tmp_path / "generation-2/job.json").write_text("{}")
    (tmp_path / "attempt").unlink()
    with pytest.raises(JobError, match="attempt is missing") as caught:
        AttemptFile(CheckpointLayout(tmp_path, 1)).increment()
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_a_volume_that_takes_no_writes(tmp_path: Path) -> None:
    (tmp_path / "generation-1").write_text("")
    with pytest.raises(JobError) as caught:
        AttemptFile(CheckpointLayout(tmp_path, 1)).increment()
    assert caught.value.code is ExitCode.CHECKPOINT_NOT_WRITABLE


def test_a_new_checkpoint_has_no_commit(tmp_path: Path) -> None:
    assert CommitLog(CheckpointLayout(tmp_path, 1)).read_newest() is None


def test_the_last_commit(tmp_path: Path) -> None:
    checkpoint = CheckpointLayout(tmp_path, 1)
    for batch in (8, 9, 10):
        write_batch(checkpoint, batch, f'{{"orders":{{"1":{batch},"0":5}}}}', f'{{"nextBatchWatermarkMs":{batch}000}}')
    assert CommitLog(checkpoint).read_newest() == 10
    log = CommitLog(checkpoint)
    assert log.is_committed(9) and not log.is_committed(11)
    commit = log.read(10, "orders")
    assert (commit.batch, commit.next_watermark_ms, commit.end_offsets) == (10, 10_000, {0: 5, 1: 10})


def test_a_durable_write_replaces(tmp_path: Path) -> None:
    write_durably(tmp_path / "file", b"long content")
    write_durably(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"
    assert len(list(tmp_path.iterdir())) == 1
