"""Writes and removes files in such a way that a power cut leaves either the old file or the new one.

Spark itself never calls fsync; see `guards.DurabilityGuard` for the files that Spark writes.
"""

from __future__ import annotations

import os
from pathlib import Path

from dedup_job.checkpoint.file_formats import build_sidecar_path


def write_durably(path: Path, content: bytes) -> None:
    """Writes a new file, puts it on the disk, renames it to `path`, and puts the name on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_path(path.parent)


def replace_spark_file(path: Path, content: bytes) -> None:
    """Writes the file and removes its checksums.

    Hadoop refuses a file that does not match its checksums, and reads a file that has none.
    """
    remove_spark_file(path)
    write_durably(path, content)


def remove_spark_file(path: Path) -> bool:
    """Removes the file and its checksums, and puts that on the disk. Returns whether the file existed.

    The file goes first. A damaged file that a crash left without its checksums could pass for a whole one.
    """
    existed = path.exists()
    if existed:
        path.unlink()
    build_sidecar_path(path).unlink(missing_ok=True)
    if existed:
        sync_path(path.parent)
    return existed


def sync_path(path: Path) -> None:
    """Puts a file's content on the disk, or the names in a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
