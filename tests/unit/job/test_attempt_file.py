"""The count of starts, by which a driver notices that a newer one has replaced it."""

from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.attempt_file import AttemptFile
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.errors import JobError


@pytest.fixture
def file(tmp_path: Path) -> AttemptFile:
    return AttemptFile(CheckpointLayout(tmp_path, 1))


def test_each_start_increments_the_attempt(file: AttemptFile, tmp_path: Path) -> None:
    assert [file.increment() for _ in range(3)] == [1, 2, 3]
    assert file.layout.spark == tmp_path / "generation-1" / "spark"
    assert file.layout.spark.is_dir()


@pytest.mark.parametrize("content", ["", "\n", "x", "-1", "1.5"])
def test_a_file_without_a_number_stops_the_driver(file: AttemptFile, content: str) -> None:
    file.layout.attempt_file.write_text(content)
    with pytest.raises(JobError, match="holds no number") as caught:
        file.increment()
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_a_missing_file_stops_the_driver_once_a_job_uses_the_volume(file: AttemptFile, tmp_path: Path) -> None:
    (tmp_path / "generation-2").mkdir()
    assert file.increment() == 1
    (tmp_path / "generation-2/job.json").write_text("{}")
    file.layout.attempt_file.unlink()
    with pytest.raises(JobError, match="attempt is missing") as caught:
        file.increment()
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_a_volume_that_takes_no_writes_stops_the_driver(file: AttemptFile, tmp_path: Path) -> None:
    (tmp_path / "generation-1").write_text("")
    with pytest.raises(JobError) as caught:
        file.increment()
    assert caught.value.code is ExitCode.CHECKPOINT_NOT_WRITABLE
