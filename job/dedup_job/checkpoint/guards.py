"""What is looked after at the beginning of every batch, before anything of it leaves the driver.

Spark never asks the disk to keep what it writes, so a power cut can leave any of its recent files empty or without its
name. What is in Kafka stays. The two fit together again after a power cut only if, when the transaction of batch N
commits, everything that batch N begins from is on the disk: then only files that batch N itself writes can be torn, and
those can be derived anew (`settle`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.layout import Checkpoint, read_attempt
from dedup_job.checkpoint.volume import build_volume_error
from dedup_job.errors import JobError


@dataclass(frozen=True)
class AttemptGuard:
    """Ends a driver that was taken for dead and comes back beside its successor: one that was frozen, or whose lock was lost."""

    checkpoint: Checkpoint
    attempt: int
    """Of this driver."""

    def check(self, batch: int) -> None:
        """JobError with FENCED when a newer driver has started."""
        try:
            newest = read_attempt(self.checkpoint)
        except OSError as error:
            raise build_volume_error(self.checkpoint.root, error) from error
        if newest > self.attempt:
            raise JobError(ExitCode.FENCED, f"this is attempt {self.attempt}, and attempt {newest} has taken over the checkpoint")
        if newest < self.attempt:
            message = f"the file attempt went back from {self.attempt} to {newest}: the volume was restored under a running driver"
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message)


class DurabilityGuard:
    """Puts on the disk what Spark wrote since the last batch. One per driver: it remembers what is on the disk already."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._known: set[_FileKey] = set()

    def settle_batch(self, batch: int) -> None:
        """At the start of `batch`, which Spark has planned. On return everything that it begins from is on the disk.

        The first call takes everything there is, later ones what is new: the entry of this batch, the commit of the one
        before, a changelog per state partition, sometimes a snapshot.
        """
        entry = self._checkpoint.spark / "offsets" / str(batch)
        if not entry.exists():
            message = f"{entry.relative_to(self._checkpoint.root)} is missing, and batch {batch} is about to be written"
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message)
        try:
            found: set[_FileKey] = set()
            self._settle_folder(self._checkpoint.spark, found)
            if not self._known:
                for folder in (self._checkpoint.folder, self._checkpoint.root):
                    _sync(folder)
        except OSError as error:
            raise build_volume_error(self._checkpoint.root, error) from error
        self._known = found

    def _settle_folder(self, folder: Path, found: set[_FileKey]) -> None:
        """Files, then folders below, then the folder itself if it has got a new name.

        A snapshot's archive lies above the SST files that it names and is written after them: listed first, it cannot
        be settled without them.
        """
        folders: list[Path] = []
        changed = False
        for path, key in _list_entries(folder):
            found.add(key)
            if key.is_folder:
                folders.append(path)
            elif key not in self._known:
                _sync_if_there(path)
            changed = changed or key not in self._known
        for path in folders:
            self._settle_folder(path, found)
        if changed:
            _sync(folder)


@dataclass(frozen=True)
class _FileKey:
    """Changes with the content: a file under the same name that was written anew, or that was still growing at the last look."""

    name: str
    inode: int
    size: int
    changed_ns: int
    is_folder: bool


def _list_entries(folder: Path) -> Iterator[tuple[Path, _FileKey]]:
    """Without what Spark is still writing under a temporary name, and what it removed meanwhile."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".tmp", ".tmp.crc")):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            is_folder = stat.S_ISDIR(found.st_mode)
            size, changed = (0, 0) if is_folder else (found.st_size, found.st_mtime_ns)
            yield Path(entry.path), _FileKey(entry.path, found.st_ino, size, changed, is_folder)


def _sync_if_there(path: Path) -> None:
    """Spark removes old versions at any time."""
    try:
        _sync(path)
    except FileNotFoundError:
        return


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
