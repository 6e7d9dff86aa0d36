"""Looks through the checkpoint before Spark does: names what is damaged, and repairs what can be derived from the rest.

Everything below rests on four facts. Batch N reads state version N and writes version N+1, so with the entry of the batch
and the version before it, it can always be run again. What an uncommitted batch left behind is written anew by its next
run. A batch may run again while the marker is not past it: its rows are then in the output, and skipped, or they are not.
And the marker holds the entry of the batch that it stands for. See `checkpoint_guards` for what a power cut can tear.

Only what the next start reads is looked at: the newest two entries, the newest commit, the newest state version and what
it is built from. Every repair can be interrupted and begun again.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.file_formats import (
    build_sidecar_path,
    find_commit_fault,
    find_entry_fault,
    find_object_fault,
    find_start_fault,
    inspect_file,
)
from dedup_job.checkpoint.layout import Checkpoint, fetch_last_commit, fetch_last_planned, sync_folder, write_durably
from dedup_job.checkpoint.markers import Marker
from dedup_job.checkpoint.state_files import StateFault, find_state_fault, list_later_versions
from dedup_job.checkpoint.volume import build_volume_error
from dedup_job.errors import JobError


def settle_checkpoint(checkpoint: Checkpoint, marker: Marker | None) -> list[str]:
    """What was repaired, a sentence each; JobError with CHECKPOINT_DAMAGED, naming the file, where nothing safe can be done.

    To be called while no query runs. `marker`: None where the output has none (AtLeastOnce, console).
    """
    try:
        return _Settlement(checkpoint, marker).run()
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error


class _Settlement:
    def __init__(self, checkpoint: Checkpoint, marker: Marker | None) -> None:
        self._checkpoint, self._spark, self._marker = checkpoint, checkpoint.spark, marker
        self._done: list[str] = []

    def run(self) -> list[str]:
        if not self._spark.is_dir():
            return []
        self._remove_leftovers()
        due = self._settle_commits()
        self._check_logs_against_state(due)
        due = self._settle_state(due)
        self._settle_entries(due)
        self._settle_first_offsets(due)
        self._remove_uncommitted_state(due)
        self._settle_query_id()
        return self._done

    def _remove_leftovers(self) -> None:
        """Files that never got their name, and checksums of files that are gone: the next file of that name would not match them."""
        for folder, _, names in os.walk(self._spark):
            for name in names:
                orphan = name.startswith(".") and name.endswith(".crc") and name[1 : -len(".crc")] not in names
                if orphan or name.endswith((".tmp", ".tmp.crc")):
                    Path(folder, name).unlink(missing_ok=True)

    def _settle_commits(self) -> int:
        """The batch that is due: the one after the newest whole commit."""
        last = fetch_last_commit(self._checkpoint)
        due = 0 if last is None else last + 1
        if last is not None:
            fault = self._inspect(self._get_commit(last), find_commit_fault)
            if fault is not None:
                self._check_earlier_commit(last)
                due = last
                self._replay(due, self._get_commit(last), fault)
        planned = fetch_last_planned(self._checkpoint)
        if planned is not None and planned > due:
            self._check_earlier_entry(planned, due)
            self._replay(due, self._get_commit(due), "is missing")
        return due

    def _check_earlier_commit(self, batch: int) -> None:
        """The commit before the one that is to go: without it, more is lost than the newest."""
        if batch > 0:
            path = self._get_commit(batch - 1)
            fault = self._inspect(path, find_commit_fault)
            if fault is not None:
                raise self._build_damage(path, fault)

    def _check_earlier_entry(self, planned: int, due: int) -> None:
        if planned > due + 1:
            raise self._build_damage(self._get_commit(planned - 1), "is missing")

    def _check_logs_against_state(self, due: int) -> None:
        """State from long after the batch that is due: the logs were removed or come from another time."""
        later = list_later_versions(self._spark / "state", due + 2)
        if later:
            raise self._build_damage(self._get_commit(due + 1), f"is missing, and there is {self._name(later[0])}")

    def _settle_state(self, due: int) -> int:
        """Steps back by one batch where the newest state cannot be read and the one before can."""
        fault = self._find_state_fault(due)
        if fault is None:
            return due
        before = due - 1
        if self._find_state_fault(before) is not None or self._inspect(self._get_entry(before), find_entry_fault) is not None:
            raise self._build_damage(fault.path, fault.what)
        self._replay(before, fault.path, fault.what)
        return before

    def _find_state_fault(self, version: int) -> StateFault | None:
        found = find_state_fault(self._spark / "state", version)
        for path, what in found.useless:
            self._remove(path, f"{what}, and is not needed")
        for path in found.torn_sidecars:
            self._remove(path, "is cut off")
        return found.fault

    def _replay(self, batch: int, path: Path, fault: str) -> None:
        """Takes back that `batch` is committed and the next one planned; `path` is why."""
        if not self._can_run_again(batch):
            raise self._build_damage(path, f"{fault}, and batch {batch} cannot run again: the output is past it")
        self._remove(self._get_entry(batch + 1), "is taken back")
        self._remove(self._get_commit(batch), "is taken back")
        self._done.append(f"{self._name(path)} {fault}: batch {batch} is run again")

    def _settle_entries(self, due: int) -> None:
        """The entry of the batch that is due may be planned anew until the batch is in the output; those before it may not."""
        planned = self._get_entry(due)
        fault = self._inspect(planned, find_entry_fault)
        if fault is not None:
            if self._is_past(due - 1) and not self._restore_entry(due, fault):
                raise self._build_damage(planned, f"{fault}, and the batch or a later one is in the output")
            if not self._is_past(due - 1):
                self._remove(planned, f"{fault}, and is planned anew")
        needed = [due - 1] if planned.exists() else [due - 1, due - 2]
        for batch in needed:
            path = self._get_entry(batch)
            fault = None if batch < 0 else self._inspect(path, find_entry_fault)
            if fault is not None and not self._restore_entry(batch, fault):
                raise self._build_damage(path, fault)

    def _restore_entry(self, batch: int, fault: str) -> bool:
        marker = self._marker
        if marker is None or marker.batch != batch or not marker.entry:
            return False
        path = self._get_entry(batch)
        path.parent.mkdir(exist_ok=True)
        build_sidecar_path(path).unlink(missing_ok=True)
        write_durably(path, marker.entry.encode())
        self._done.append(f"{self._name(path)} {fault}: restored from the marker in the progress topic")
        return True

    def _settle_first_offsets(self, due: int) -> None:
        """Where the first batch begins. Of no use once it is committed."""
        if due > 0:
            return
        path = self._spark / "sources" / "0" / "0"
        fault = self._inspect(path, find_start_fault)
        if fault is None:
            return
        if self._is_past(-1):
            raise self._build_damage(path, f"{fault}, and the first batch is in the output")
        self._remove(path, f"{fault}, and is taken anew")
        self._remove(self._get_entry(0), "is taken back")

    def _remove_uncommitted_state(self, due: int) -> None:
        """The next run writes it anew; between a file of that run and its checksums a crash would leave those of the old one."""
        state = self._spark / "state"
        if due == 0 and state.is_dir():
            shutil.rmtree(state)
            sync_folder(self._spark)
        for path in list_later_versions(state, due):
            path.unlink(missing_ok=True)

    def _settle_query_id(self) -> None:
        """Spark refuses logs without it. A new one will do: it only names the query, and nothing of ours is tied to it."""
        path = self._spark / "metadata"
        fault = self._inspect(path, find_object_fault)
        if fault is None:
            return
        self._remove(path, f"{fault}, and is made anew")
        if fetch_last_planned(self._checkpoint) is not None:
            build_sidecar_path(path).unlink(missing_ok=True)
            write_durably(path, json.dumps({"id": str(uuid.uuid4())}).encode())

    def _can_run_again(self, batch: int) -> bool:
        """A first marker has no entry: its batch was written without transactions, and could not be told from another."""
        marker = self._marker
        return marker is None or marker.batch < batch or (marker.batch == batch and bool(marker.entry))

    def _is_past(self, batch: int) -> bool:
        """The output holds a batch after this one."""
        return self._marker is not None and self._marker.batch > batch

    def _inspect(self, path: Path, find_fault: Callable[[BinaryIO], str | None]) -> str | None:
        found = inspect_file(path, find_fault)
        if found.torn_sidecar:
            self._remove(build_sidecar_path(path), "is cut off")
        return found.fault

    def _remove(self, path: Path, why: str) -> None:
        """With its checksums, and on the disk before the next step."""
        existed = path.exists()
        if existed:
            path.unlink()
            self._done.append(f"{self._name(path)} {why}: removed")
        build_sidecar_path(path).unlink(missing_ok=True)
        if existed:
            sync_folder(path.parent)

    def _get_entry(self, batch: int) -> Path:
        return self._spark / "offsets" / str(batch)

    def _get_commit(self, batch: int) -> Path:
        return self._spark / "commits" / str(batch)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._checkpoint.root))

    def _build_damage(self, path: Path, what: str) -> JobError:
        return JobError(ExitCode.CHECKPOINT_DAMAGED, f"{self._name(path)} {what}")
