"""Files that a power cut leaves either old or new."""

from pathlib import Path

from dedup_job.checkpoint.durable_files import remove_spark_file, replace_spark_file, write_durably


def test_a_durable_write_replaces_the_file(tmp_path: Path) -> None:
    write_durably(tmp_path / "file", b"long content")
    write_durably(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"
    assert len(list(tmp_path.iterdir())) == 1


def test_old_checksums_do_not_stay_beside_a_replaced_or_removed_file(tmp_path: Path) -> None:
    path = tmp_path / "5"
    for change in (lambda: replace_spark_file(path, b"new"), lambda: remove_spark_file(path)):
        path.write_text("old")
        (tmp_path / ".5.crc").write_text("checksum")
        change()
        assert not (tmp_path / ".5.crc").exists()
    assert not path.exists()


def test_removing_a_missing_file_removes_its_checksums(tmp_path: Path) -> None:
    (tmp_path / ".5.crc").write_text("checksum")
    assert not remove_spark_file(tmp_path / "5")
    assert not list(tmp_path.iterdir())
