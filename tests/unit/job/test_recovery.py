"""Which damage to a checkpoint the driver repairs, and which it only names.

`tests/kafka/test_checkpoint_faults.py` damages real checkpoints in the same way.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.file_formats import build_sidecar_path
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.recovery import recover_checkpoint
from dedup_job.errors import JobError
from dedup_job.sink.marker import Marker

PARTITIONS = 2
LAST = 12
"""The newest committed batch; the next one is planned."""
SNAPSHOT = 10
SST = "state/0/1/SSTs/1-a.sst"


def build_entry(batch: int) -> str:
    return 'v1\n{"batchWatermarkMs":0,"conf":{}}\n' + json.dumps({"orders": {"0": batch}})


def build_changelog(content: bytes) -> bytes:
    return b"".join(struct.pack("<8sBIII", b"LZ4Block", 0x25, len(part), len(part), 7) + part for part in (content, b""))


def build_snapshot(sst: str, size: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("metadata", "v1\n" + json.dumps({"sstFiles": [{"dfsSstFileName": sst, "sizeBytes": size}]}))
    return content.getvalue()


def write(path: Path, content: bytes | str) -> None:
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    sums = b"".join(zlib.crc32(data[at : at + 512]).to_bytes(4, "big") for at in range(0, len(data), 512))
    build_sidecar_path(path).write_bytes(b"crc\0" + struct.pack(">I", 512) + sums)


def write_state(state: Path, versions: range) -> None:
    write(state / "_metadata/metadata", "v1\n" + json.dumps({"stateStoreInfo": [{"numPartitions": PARTITIONS}]}))
    write(state / "0/_metadata/schema", b"\0\2v2" + struct.pack(">IH", 1, 3) + b"key" + struct.pack(">IH", 1, 5) + b"value")
    for partition in range(PARTITIONS):
        for version in versions:
            write(state / f"{partition}/{version}.changelog", build_changelog(b"x" * (version * 40)))
            if version == SNAPSHOT:
                write(state / f"{partition}/SSTs/1-a.sst", b"s" * 700)
                write(state / f"{partition}/{version}.zip", build_snapshot("1-a.sst", 700))


@pytest.fixture
def checkpoint(tmp_path: Path) -> CheckpointLayout:
    """Batch LAST is committed, the next batch is planned, and its state is written."""
    return make_checkpoint(tmp_path, LAST)


def make_checkpoint(root: Path, last: int) -> CheckpointLayout:
    checkpoint = CheckpointLayout(root, 1)
    write(checkpoint.spark / "metadata", '{"id":"x"}')
    write(checkpoint.spark / "sources/0/0", '\0v1\n{"orders":{"0":0}}')
    for batch in range(max(0, last - 9), last + 2):
        write(checkpoint.spark / f"offsets/{batch}", build_entry(batch))
        if batch <= last:
            write(checkpoint.spark / f"commits/{batch}", 'v1\n{"nextBatchWatermarkMs":0}')
    write_state(checkpoint.spark / "state/0", range(1, last + 3))
    return checkpoint


def build_marker(batch: int) -> Marker:
    return Marker(batch=batch, entry=build_entry(batch), attempt=1, rows=1)


def list_batches(checkpoint: CheckpointLayout, log: str) -> list[int]:
    return sorted(int(path.name) for path in (checkpoint.spark / log).iterdir() if path.name.isdigit())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Changes one byte, which only the checksums show for most files."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [cut, empty, flip, remove]
MARKERS = [None, build_marker(LAST), build_marker(LAST + 1)]


def expect_damage(checkpoint: CheckpointLayout, marker: Marker | None, name: str) -> None:
    with pytest.raises(JobError, match=f"^generation-1/spark/{name} ") as caught:
        recover_checkpoint(checkpoint, marker)
    assert caught.value.code is ExitCode.CHECKPOINT_DAMAGED


@pytest.mark.parametrize("marker", MARKERS)
def test_a_whole_checkpoint_does_not_change(checkpoint: CheckpointLayout, marker: Marker | None) -> None:
    assert recover_checkpoint(checkpoint, marker) == []
    assert list_batches(checkpoint, "offsets")[-1] == LAST + 1
    assert list_batches(checkpoint, "commits")[-1] == LAST


def test_a_new_volume_needs_no_repair(tmp_path: Path) -> None:
    assert recover_checkpoint(CheckpointLayout(tmp_path, 1), None) == []
    CheckpointLayout(tmp_path, 1).spark.mkdir(parents=True)
    assert recover_checkpoint(CheckpointLayout(tmp_path, 1), build_marker(-1)) == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("marker", [None, build_marker(LAST)])
def test_spark_plans_a_batch_again_when_its_entry_is_damaged(
    checkpoint: CheckpointLayout, marker: Marker | None, damage: Callable[[Path], None]
) -> None:
    damage(checkpoint.spark / f"offsets/{LAST + 1}")
    recover_checkpoint(checkpoint, marker)
    assert list_batches(checkpoint, "offsets")[-1] == LAST
    assert not build_sidecar_path(checkpoint.spark / f"offsets/{LAST + 1}").exists()
    assert recover_checkpoint(checkpoint, marker) == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("batch", [LAST, LAST + 1])
def test_the_entry_of_the_last_delivered_batch_is_restored(
    checkpoint: CheckpointLayout, batch: int, damage: Callable[[Path], None]
) -> None:
    path = checkpoint.spark / f"offsets/{batch}"
    damage(path)
    repairs = recover_checkpoint(checkpoint, build_marker(batch))
    assert path.read_text() == build_entry(batch)
    assert not build_sidecar_path(path).exists(), "the old checksums do not match the new file"
    assert len(repairs) == 1 and f"generation-1/spark/offsets/{batch}" in repairs[0] and "restored" in repairs[0]
    assert recover_checkpoint(checkpoint, build_marker(batch)) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_other_damaged_entries_are_only_named(checkpoint: CheckpointLayout, damage: Callable[[Path], None]) -> None:
    damage(checkpoint.spark / f"offsets/{LAST}")
    expect_damage(checkpoint, None, f"offsets/{LAST}")
    expect_damage(checkpoint, build_marker(LAST + 1), f"offsets/{LAST}")


def test_the_entry_before_the_last_is_needed_when_no_batch_is_planned(checkpoint: CheckpointLayout) -> None:
    empty(checkpoint.spark / f"offsets/{LAST - 1}")
    assert recover_checkpoint(checkpoint, None) == []
    (checkpoint.spark / f"offsets/{LAST + 1}").unlink()
    expect_damage(checkpoint, None, f"offsets/{LAST - 1}")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("marker", [None, build_marker(LAST)])
def test_a_batch_with_a_damaged_commit_runs_again(
    checkpoint: CheckpointLayout, marker: Marker | None, damage: Callable[[Path], None]
) -> None:
    """Recovery removes the next planned entry: Spark would run that batch and skip the batch without a commit."""
    damage(checkpoint.spark / f"commits/{LAST}")
    repairs = recover_checkpoint(checkpoint, marker)
    assert f"batch {LAST} runs again" in repairs[-1]
    assert list_batches(checkpoint, "commits")[-1] == LAST - 1
    assert list_batches(checkpoint, "offsets")[-1] == LAST
    assert not (checkpoint.spark / f"state/0/0/{LAST + 1}.changelog").exists()
    assert recover_checkpoint(checkpoint, marker) == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [f"commits/{LAST}", f"state/0/1/{LAST + 1}.changelog"])
def test_no_batch_before_the_last_delivered_one_runs_again(checkpoint: CheckpointLayout, name: str, damage: Callable[[Path], None]) -> None:
    damage(checkpoint.spark / name)
    expect_damage(checkpoint, build_marker(LAST + 1), name)
    expect_damage(checkpoint, Marker(batch=LAST, entry="", attempt=1, rows=0), name)


def test_two_lost_commits_cannot_be_repaired(checkpoint: CheckpointLayout) -> None:
    empty(checkpoint.spark / f"commits/{LAST}")
    empty(checkpoint.spark / f"commits/{LAST - 1}")
    expect_damage(checkpoint, None, f"commits/{LAST - 1}")
    for batch in (LAST, LAST - 1):
        (checkpoint.spark / f"commits/{batch}").unlink()
    expect_damage(checkpoint, None, f"commits/{LAST}")
    assert list_batches(checkpoint, "offsets")[-2:] == [LAST, LAST + 1], "a checkpoint that cannot be repaired must not change"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_a_batch_with_damaged_newest_state_runs_again(checkpoint: CheckpointLayout, partition: int, damage: Callable[[Path], None]) -> None:
    damage(checkpoint.spark / f"state/0/{partition}/{LAST + 1}.changelog")
    assert f"batch {LAST} runs again" in recover_checkpoint(checkpoint, build_marker(LAST))[-1]
    assert list_batches(checkpoint, "commits")[-1] == LAST - 1
    assert list_batches(checkpoint, "offsets")[-1] == LAST
    assert not list((checkpoint.spark / "state/0").glob(f"*/*{LAST + 1}.*"))
    assert recover_checkpoint(checkpoint, build_marker(LAST)) == []


def test_damaged_state_without_the_entry_of_its_batch_cannot_be_repaired(checkpoint: CheckpointLayout) -> None:
    empty(checkpoint.spark / f"state/0/0/{LAST + 1}.changelog")
    empty(checkpoint.spark / f"offsets/{LAST}")
    expect_damage(checkpoint, None, f"state/0/0/{LAST + 1}.changelog")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [f"0/{LAST}.changelog", f"1/{SNAPSHOT + 1}.changelog", "_metadata/metadata", "0/_metadata/schema"])
def test_damaged_older_state_is_only_named(checkpoint: CheckpointLayout, name: str, damage: Callable[[Path], None]) -> None:
    damage(checkpoint.spark / "state/0" / name)
    expect_damage(checkpoint, build_marker(LAST), f"state/0/{name}")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [f"{SNAPSHOT}.zip", "SSTs/1-a.sst"])
def test_a_damaged_snapshot_is_removed_when_changelogs_replace_it(
    checkpoint: CheckpointLayout, name: str, damage: Callable[[Path], None]
) -> None:
    damage(checkpoint.spark / "state/0/1" / name)
    recover_checkpoint(checkpoint, build_marker(LAST))
    assert not (checkpoint.spark / f"state/0/1/{SNAPSHOT}.zip").exists()
    assert (checkpoint.spark / f"state/0/0/{SNAPSHOT}.zip").exists()
    assert list_batches(checkpoint, "commits")[-1] == LAST


def test_a_damaged_snapshot_that_is_needed_is_named(checkpoint: CheckpointLayout) -> None:
    (checkpoint.spark / "state/0/1/3.changelog").unlink()
    assert recover_checkpoint(checkpoint, None) == []
    cut(checkpoint.spark / "state/0/1/SSTs/1-a.sst")
    with pytest.raises(JobError, match=r"state/0/1/10.zip needs SSTs/1-a.sst, which has 697 bytes instead of 700"):
        recover_checkpoint(checkpoint, None)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["offsets/0", "state/0/_metadata/metadata", "state/0/0/_metadata/schema", "sources/0/0", "metadata"])
def test_before_the_first_commit_spark_writes_damaged_files_again(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    checkpoint = make_checkpoint(tmp_path, -1)
    damage(checkpoint.spark / name)
    recover_checkpoint(checkpoint, build_marker(-1))
    assert not (checkpoint.spark / "state").exists()
    assert (checkpoint.spark / "offsets/0").exists() == (name not in ("offsets/0", "sources/0/0"))
    assert recover_checkpoint(checkpoint, build_marker(-1)) == []


def test_a_damaged_source_start_of_a_delivered_first_batch_is_only_named(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, -1)
    empty(checkpoint.spark / "sources/0/0")
    expect_damage(checkpoint, build_marker(0), "sources/0/0")


def test_the_first_batch_runs_again_without_its_state(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 0)
    empty(checkpoint.spark / "state/0/_metadata/metadata")
    assert "batch 0 runs again" in recover_checkpoint(checkpoint, build_marker(0))[-1]
    assert (list_batches(checkpoint, "offsets"), list_batches(checkpoint, "commits")) == ([0], [])
    assert not (checkpoint.spark / "state").exists()


def test_missing_logs_beside_state_are_damage(checkpoint: CheckpointLayout) -> None:
    for log in ("offsets", "commits"):
        for path in (checkpoint.spark / log).iterdir():
            path.unlink()
    expect_damage(checkpoint, None, "commits/1")
    assert (checkpoint.spark / f"state/0/0/{LAST}.changelog").exists()


@pytest.mark.parametrize("damage", [cut, empty, remove])
@pytest.mark.parametrize(
    "name", ["metadata", f"commits/{LAST}", f"offsets/{LAST + 1}", f"state/0/0/{LAST}.changelog", "state/0/1/10.zip", SST]
)
def test_damaged_checksums_of_a_whole_file_are_removed(checkpoint: CheckpointLayout, name: str, damage: Callable[[Path], None]) -> None:
    damage(build_sidecar_path(checkpoint.spark / name))
    recover_checkpoint(checkpoint, None)
    assert (checkpoint.spark / name).exists()
    assert not build_sidecar_path(checkpoint.spark / name).exists()
    assert list_batches(checkpoint, "commits")[-1] == LAST


@pytest.mark.parametrize("damage", [cut, empty, remove])
def test_a_lost_query_id_is_created_again(checkpoint: CheckpointLayout, damage: Callable[[Path], None]) -> None:
    damage(checkpoint.spark / "metadata")
    recover_checkpoint(checkpoint, None)
    assert len(json.loads((checkpoint.spark / "metadata").read_text())["id"]) == 36
    assert not build_sidecar_path(checkpoint.spark / "metadata").exists()


def test_temporary_files_and_checksums_without_a_file_are_removed_without_a_message(checkpoint: CheckpointLayout) -> None:
    junk = ["offsets/.13.0a.tmp", "offsets/..13.0a.tmp.crc", "offsets/.99.crc", "state/0/0/.14.changelog.0a.TID9.tmp"]
    for name in junk:
        (checkpoint.spark / name).write_bytes(b"")
    assert recover_checkpoint(checkpoint, None) == []
    assert not [name for name in junk if (checkpoint.spark / name).exists()]


@pytest.mark.parametrize("content", [b"", b'{"algorithm":"CRC32C","va', b'{"algorithm":"CRC32C","value":"0","creator":{}}'])
def test_checksum_files_of_spark_are_removed_without_a_message(checkpoint: CheckpointLayout, content: bytes) -> None:
    """The session has them switched off, but earlier settings may have left some: `8.changelog.crc` beside Hadoop's
    `.8.changelog.crc`."""
    partition = checkpoint.spark / "state/0/0"
    found = [*partition.glob("[0-9]*.changelog"), *partition.glob("[0-9]*.zip")]
    before = {path: path.read_bytes() for path in checkpoint.spark.rglob("*") if path.is_file()}
    for path in found:
        write(path.with_name(f"{path.name}.crc"), content)
    assert recover_checkpoint(checkpoint, None) == []
    names = [path.name for path in partition.iterdir()]
    assert not [name for name in names if name.endswith(".crc.crc") or (name.endswith(".crc") and not name.startswith("."))]
    assert all(path.read_bytes() == before[path] for path in checkpoint.spark.rglob("*") if path.is_file())


def test_state_of_an_uncommitted_batch_is_removed(checkpoint: CheckpointLayout) -> None:
    """The next run writes the file again. A crash before it writes the checksums would leave the old ones."""
    path = checkpoint.spark / f"state/0/0/{LAST + 2}.changelog"
    assert path.exists()
    recover_checkpoint(checkpoint, None)
    assert not path.exists() and not build_sidecar_path(path).exists()
    assert (checkpoint.spark / f"state/0/0/{LAST + 1}.changelog").exists()


def test_a_read_only_volume_is_named(checkpoint: CheckpointLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    empty(checkpoint.spark / f"offsets/{LAST + 1}")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(JobError, match=r"EROFS.*offsets/13.*mounted read-only") as caught:
        recover_checkpoint(checkpoint, None)
    assert caught.value.code is ExitCode.CHECKPOINT_NOT_WRITABLE
