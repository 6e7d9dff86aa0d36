"""The checks at the start of each batch that concern the checkpoint, before anything of the batch leaves the driver.

Spark never calls fsync, so a power cut can leave any file that Spark wrote recently empty or without its name. Kafka
keeps what it has acknowledged. The two fit together again after a power cut only if, when the transaction of batch N
commits, every file that batch N reads is on the disk: then only files that batch N itself writes can be torn, and
`recovery` can derive those again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.attempt_file import AttemptFile
from dedup_job.checkpoint.durable_files import sync_path
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.spark_logs import OffsetLog
from dedup_job.checkpoint.volume import translate_volume_errors
from dedup_job.errors import JobError


@dataclass(frozen=True)
class AttemptGuard:
    """Ends a driver that a newer driver has replaced: its process was frozen for a while, or its lock was lost."""

    layout: CheckpointLayout
    attempt: int
    """The number of this driver's start."""

    def check(self, batch: int) -> None:
        """JobError with FENCED when a newer driver has started."""
        newest = AttemptFile(self.layout).read()
        if newest > self.attempt:
            raise JobError(ExitCode.FENCED, f"this is attempt {self.attempt}, and attempt {newest} has taken over the checkpoint")
        if newest < self.attempt:
            message = (
                f"the file attempt changed from {self.attempt} to {newest}, because somebody restored the volume while the driver ran: "
                "suspend the job before you restore its volume"
            )
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message)


class DurabilityGuard:
    """Puts on the disk what Spark wrote since the last batch.

    A driver needs one guard for all batches, because the guard remembers which files are on the disk already.
    """

    def __init__(self, layout: CheckpointLayout) -> None:
        self._layout = layout
        self._known: set[_FileKey] = set()

    def sync_batch(self, batch: int) -> None:
        """Call it when Spark has planned `batch`. On return every file that the batch reads is on the disk.

        The first call syncs all files. Later calls sync the new ones: the entry of this batch, the commit of the batch
        before, a changelog per state partition, sometimes a snapshot.
        """
        entry = OffsetLog(self._layout).get_path(batch)
        if not entry.exists():
            message = f"{self._layout.describe(entry)} is missing, so the driver does not write batch {batch}"
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message)
        found: set[_FileKey] = set()
        with translate_volume_errors(self._layout.root):
            self._sync_folder(self._layout.spark, found)
            if not self._known:
                for folder in (self._layout.folder, self._layout.root):
                    sync_path(folder)
        self._known = found

    def _sync_folder(self, folder: Path, found: set[_FileKey]) -> None:
        """Syncs the files, then the folders below, then the folder itself if a name in it is new.

        Spark writes the SST files of a snapshot before the archive that names them, and the archive lies in the folder
        above. Listing the archive first makes sure that the SST files that it names exist when their folder is
        listed.
        """
        folders: list[Path] = []
        changed = False
        for path, key in _list_entries(folder):
            found.add(key)
            if key.is_folder:
                folders.append(path)
            elif key not in self._known:
                _sync_if_exists(path)
            changed = changed or key not in self._known
        for path in folders:
            self._sync_folder(path, found)
        if changed:
            sync_path(folder)


@dataclass(frozen=True)
class _FileKey:
    """Differs for a file that was replaced under the same name, and for one that has grown since the last batch."""

    name: str
    inode: int
    size: int
    changed_ns: int
    is_folder: bool


def _list_entries(folder: Path) -> Iterator[tuple[Path, _FileKey]]:
    """Leaves out files that Spark is still writing under a temporary name, and files that Spark has just removed."""
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
            yield Path(entry.path), _FileKey(name=entry.path, inode=found.st_ino, size=size, changed_ns=changed, is_folder=is_folder)


def _sync_if_exists(path: Path) -> None:
    """Spark may remove an old version at any time."""
    try:
        sync_path(path)
    except FileNotFoundError:
        return
