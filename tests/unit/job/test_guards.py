"""The checks at the start of each batch: no newer driver runs, and the files that the batch reads are on the disk."""

import os
from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.attempt_file import AttemptFile
from dedup_job.checkpoint.guards import AttemptGuard, DurabilityGuard
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.errors import JobError


@pytest.fixture
def checkpoint(tmp_path: Path) -> CheckpointLayout:
    return CheckpointLayout(tmp_path, 1)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The files and folders that fsync was called for, in this order, relative to Spark's folder."""
    names: list[str] = []
    real = os.fsync

    def record(fd: int) -> None:
        names.append(os.path.relpath(Path(f"/proc/self/fd/{fd}").readlink(), tmp_path / "generation-1/spark"))
        real(fd)

    monkeypatch.setattr(os, "fsync", record)
    return names


def write(checkpoint: CheckpointLayout, *names: str) -> None:
    for name in names:
        path = checkpoint.spark / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_a_newer_attempt_ends_the_driver(checkpoint: CheckpointLayout) -> None:
    guard = AttemptGuard(checkpoint, AttemptFile(checkpoint).increment())
    guard.check(0)
    AttemptFile(checkpoint).increment()
    with pytest.raises(JobError, match="attempt 2 has taken over") as caught:
        guard.check(0)
    assert caught.value.code is ExitCode.FENCED


def test_an_attempt_file_with_a_lower_number_is_damage(checkpoint: CheckpointLayout) -> None:
    guard = AttemptGuard(checkpoint, AttemptFile(checkpoint).increment() + 1)
    with pytest.raises(JobError, match="changed from 2 to 1") as caught:
        guard.check(0)
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_the_first_batch_syncs_all_files_and_the_folders_above(checkpoint: CheckpointLayout, synced: list[str]) -> None:
    write(checkpoint, "metadata", "offsets/0", "offsets/.0.crc", "state/0/0/_metadata/schema", "state/0/0/.1.changelog.x.TID1.tmp")
    DurabilityGuard(checkpoint).sync_batch(0)
    files = {"metadata", "offsets/0", "offsets/.0.crc", "state/0/0/_metadata/schema"}
    assert set(synced) == files | {".", "..", "../..", "offsets", "state", "state/0", "state/0/0", "state/0/0/_metadata"}
    for file in files:
        assert synced.index(file) < synced.index(str(Path(file).parent)), "a file must be on the disk before its folder"


def test_later_batches_sync_new_files_only(checkpoint: CheckpointLayout, synced: list[str]) -> None:
    write(checkpoint, "metadata", "offsets/0", "state/0/0/1.changelog")
    guard = DurabilityGuard(checkpoint)
    guard.sync_batch(0)
    synced.clear()
    write(checkpoint, "offsets/1", "commits/0", "state/0/0/2.changelog")
    guard.sync_batch(1)
    assert set(synced) == {"offsets/1", "offsets", "commits/0", "commits", ".", "state/0/0/2.changelog", "state/0/0"}
    synced.clear()
    guard.sync_batch(1)
    assert synced == []


def test_a_file_that_grew_or_was_replaced_is_synced_again(checkpoint: CheckpointLayout, synced: list[str]) -> None:
    write(checkpoint, "offsets/0", "state/0/0/SSTs/1.sst", "state/0/0/1.changelog")
    guard = DurabilityGuard(checkpoint)
    guard.sync_batch(0)
    synced.clear()
    with (checkpoint.spark / "state/0/0/SSTs/1.sst").open("a") as file:
        file.write("more")
    write(checkpoint, "state/0/0/new")
    (checkpoint.spark / "state/0/0/new").rename(checkpoint.spark / "state/0/0/1.changelog")
    guard.sync_batch(0)
    assert {"state/0/0/SSTs/1.sst", "state/0/0/1.changelog", "state/0/0"} <= set(synced)


def test_the_archive_of_a_snapshot_is_listed_before_its_sst_files(checkpoint: CheckpointLayout, synced: list[str]) -> None:
    write(checkpoint, "offsets/0", "state/0/0/SSTs/1.sst", "state/0/0/10.zip")
    DurabilityGuard(checkpoint).sync_batch(0)
    assert synced.index("state/0/0/10.zip") < synced.index("state/0/0/SSTs/1.sst") < synced.index("state/0/0")


def test_a_batch_without_an_entry_stops_the_driver(checkpoint: CheckpointLayout) -> None:
    write(checkpoint, "offsets/0")
    with pytest.raises(JobError, match="generation-1/spark/offsets/1 is missing") as caught:
        DurabilityGuard(checkpoint).sync_batch(1)
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


def test_a_full_volume_is_named(checkpoint: CheckpointLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    write(checkpoint, "offsets/0")

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(JobError, match=r"ENOSPC.* MiB of .* MiB") as caught:
        DurabilityGuard(checkpoint).sync_batch(0)
    assert caught.value.code is ExitCode.CHECKPOINT_NOT_WRITABLE
