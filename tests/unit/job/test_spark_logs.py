"""What the driver reads from Spark's logs."""

from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.spark_logs import CommitLog, SourceStart
from dedup_job.errors import JobError
from unit.job.spark_files import Volume, write_batch


def test_a_new_checkpoint_has_no_commit(tmp_path: Path) -> None:
    assert CommitLog(CheckpointLayout(tmp_path, 1)).read_newest() is None


def test_the_newest_commit_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    layout = CheckpointLayout(tmp_path, 1)
    for batch in (8, 9, 10):
        write_batch(layout, batch, f'{{"orders":{{"1":{batch},"0":5}}}}', f'{{"nextBatchWatermarkMs":{batch}000}}')
    log = CommitLog(layout)
    assert log.read_newest() == 10
    assert log.is_committed(9) and not log.is_committed(11)
    commit = log.read(10, "orders")
    assert (commit.batch, commit.next_watermark_ms, commit.end_offsets) == (10, 10_000, {0: 5, 1: 10})


@pytest.mark.parametrize("content", [b"", b"\0", b"\0v1\n", b"\0v1\n{", b"\0v9\n{}", b"\xff\xff"])
def test_an_unreadable_source_start_is_named(tmp_path: Path, content: bytes) -> None:
    volume = Volume(tmp_path, 1)
    volume.start({0: 3})
    volume.source_start_file.write_bytes(content)
    with pytest.raises(JobError, match="generation-1/spark/sources/0/0") as caught:
        SourceStart(volume).read("orders")
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED
