"""A driver looks itself whether a checkpoint fits its settings."""

from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint import Checkpoint
from dedup_job.errors import JobError
from dedup_job.identity import check_identity, write_identity

CONFIG = JobConfig.model_validate(
    {
        "namespace": "shop",
        "name": "orders",
        "source": {"bootstrapServers": "k:9092", "topic": "orders"},
        "format": "Json",
        "key": {"fields": ["id"]},
        "eventTime": {"field": "at"},
        "watermark": "10m",
        "processingTime": "5s",
        "sink": {"kafka": {"topic": "unique"}},
        "parallelism": 2,
        "cpus": 2,
        "memoryBytes": 2**31,
    }
)


def make_checkpoint(root: Path) -> Checkpoint:
    checkpoint = Checkpoint(root, 1)
    checkpoint.folder.mkdir()
    return checkpoint


def test_a_new_checkpoint_fits_everything(tmp_path: Path) -> None:
    assert check_identity(make_checkpoint(tmp_path), CONFIG) is False


def test_a_begun_checkpoint_fits_what_does_not_touch_its_keys(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    write_identity(checkpoint, CONFIG)
    assert check_identity(checkpoint, CONFIG) is True
    assert check_identity(checkpoint, CONFIG.model_copy(update={"watermark": "1h", "cpus": 8})) is True


def test_other_keys_are_refused_by_name(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    write_identity(checkpoint, CONFIG)
    other = CONFIG.model_copy(update={"source": CONFIG.source.model_copy(update={"topic": "other"})})
    with pytest.raises(JobError, match=r"spec\.source\.topic") as caught:
        check_identity(checkpoint, other)
    assert caught.value.code is ExitCode.CONFIGURATION


def test_batches_without_a_record_are_not_taken_for_a_new_checkpoint(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    (checkpoint.spark / "offsets").mkdir(parents=True)
    assert check_identity(checkpoint, CONFIG) is False
    (checkpoint.spark / "offsets" / "0").write_text("v1")
    with pytest.raises(JobError, match="restore it"):
        check_identity(checkpoint, CONFIG)


def test_a_damaged_record_is_not_taken_for_a_new_checkpoint(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    checkpoint.identity_file.write_bytes(b"")
    with pytest.raises(JobError, match="cannot be read"):
        check_identity(checkpoint, CONFIG)
