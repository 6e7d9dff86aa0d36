"""Whether a checkpoint fits the settings and the Spark version of a driver."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.identity_file import Identity, IdentityFile, read_spark_version
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.errors import JobError

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


def make_checkpoint(root: Path) -> CheckpointLayout:
    checkpoint = CheckpointLayout(root, 1)
    checkpoint.folder.mkdir()
    return checkpoint


def build_identity(spark_version: str = "4.2.0") -> Identity:
    return Identity(config=CONFIG, topic_id="Ab-c", spark_version=spark_version)


def test_a_new_checkpoint_fits_any_settings(tmp_path: Path) -> None:
    assert IdentityFile(make_checkpoint(tmp_path)).check(CONFIG, "4.2.0") is None


def test_a_used_checkpoint_fits_settings_that_do_not_change_its_keys(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    IdentityFile(checkpoint).write(build_identity())
    assert IdentityFile(checkpoint).check(CONFIG, "4.2.0") == build_identity()
    assert IdentityFile(checkpoint).check(CONFIG.model_copy(update={"watermark": "1h", "cpus": 8}), "4.2.0") == build_identity()


def test_the_topic_id_is_optional(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    identity = build_identity().model_copy(update={"topic_id": None})
    IdentityFile(checkpoint).write(identity)
    assert IdentityFile(checkpoint).check(CONFIG, "4.2.0") == identity


def test_settings_that_change_the_keys_are_refused_by_name(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    IdentityFile(checkpoint).write(build_identity())
    other = CONFIG.model_copy(update={"source": CONFIG.source.model_copy(update={"topic": "other"})})
    with pytest.raises(JobError, match=r"spec\.source\.topic") as caught:
        IdentityFile(checkpoint).check(other, "4.2.0")
    assert caught.value.code is ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("made_by", "driver", "fits"),
    [("4.2.0", "4.2.1", True), ("4.2.9", "4.2.0", True), ("4.2.0", "4.10.0", True), ("4.10.0", "4.2.0", False), ("5.0.0", "4.2.0", False)],
)
def test_a_checkpoint_of_a_newer_spark_is_refused(tmp_path: Path, made_by: str, driver: str, fits: bool) -> None:
    checkpoint = make_checkpoint(tmp_path)
    IdentityFile(checkpoint).write(build_identity(made_by))
    if fits:
        assert IdentityFile(checkpoint).check(CONFIG, driver) is not None
        return
    with pytest.raises(JobError, match=f"Spark {made_by}.*newer job image") as caught:
        IdentityFile(checkpoint).check(CONFIG, driver)
    assert caught.value.code is ExitCode.CONFIGURATION


def test_the_spark_version_of_this_driver_is_known() -> None:
    assert read_spark_version().startswith("4.")


def test_batches_without_an_identity_are_damage(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    (checkpoint.spark / "offsets").mkdir(parents=True)
    assert IdentityFile(checkpoint).check(CONFIG, "4.2.0") is None
    (checkpoint.spark / "offsets" / "0").write_text("v1")
    with pytest.raises(JobError, match=r"generation-1/job\.json.*Restore it") as caught:
        IdentityFile(checkpoint).check(CONFIG, "4.2.0")
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


@pytest.mark.parametrize("content", [b"", b"{}", b'{"config":'])
def test_an_unreadable_identity_is_damage(tmp_path: Path, content: bytes) -> None:
    checkpoint = make_checkpoint(tmp_path)
    checkpoint.identity_file.write_bytes(content)
    with pytest.raises(JobError, match=r"generation-1/job\.json cannot be understood") as caught:
        IdentityFile(checkpoint).check(CONFIG, "4.2.0")
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_a_volume_that_fails_stops_the_driver(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    checkpoint.identity_file.mkdir()
    uses: list[Callable[[], object]] = [
        lambda: IdentityFile(checkpoint).check(CONFIG, "4.2.0"),
        lambda: IdentityFile(checkpoint).write(build_identity()),
    ]
    for use in uses:
        with pytest.raises(JobError, match="EISDIR") as caught:
            use()
        assert caught.value.code is ExitCode.CHECKPOINT_NOT_WRITABLE
