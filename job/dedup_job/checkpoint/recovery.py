"""Checks the checkpoint before Spark reads it: names a damaged file, and repairs what the other files determine.

The repairs rest on four facts:

* Batch N reads state version N and writes version N+1. With the entry of the batch and state version N, the batch can
  always run again.
* The next run of an uncommitted batch replaces every file that the batch left behind.
* A batch may run again while the output holds no later batch: either its rows are in the output and the sink skips
  them, or they are not.
* The record of the last delivered batch can hold the offset log entry of that batch.

`guards` says which files a power cut can tear. Recovery reads only what the next start reads: the newest two entries,
the newest commit, the newest state version and the files from which it is built. Every repair can be interrupted and
repeated.
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
from dedup_job.checkpoint.durable_files import remove_spark_file, replace_spark_file, sync_path
from dedup_job.checkpoint.file_formats import (
    build_sidecar_path,
    find_commit_fault,
    find_entry_fault,
    find_object_fault,
    find_start_fault,
    inspect_file,
)
from dedup_job.checkpoint.last_delivered import LastDelivered
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.checkpoint.state_files import StateFault, find_state_fault, list_later_versions
from dedup_job.checkpoint.volume import translate_volume_errors
from dedup_job.errors import JobError


def recover_checkpoint(layout: CheckpointLayout, last_delivered: LastDelivered | None) -> list[str]:
    """Returns one sentence per repair.

    JobError with CHECKPOINT_DAMAGED, which names the file, where no safe repair exists. Call it while no query runs.
    `last_delivered` is None for a sink that keeps no record (AtLeastOnce, console).
    """
    with translate_volume_errors(layout.root):
        return _Recovery(layout, last_delivered).run()


class _Recovery:
    def __init__(self, layout: CheckpointLayout, last_delivered: LastDelivered | None) -> None:
        self._layout, self._last_delivered = layout, last_delivered
        self._offsets, self._commits = OffsetLog(layout), CommitLog(layout)
        self._repairs: list[str] = []

    def run(self) -> list[str]:
        if not self._layout.spark.is_dir():
            return []
        self._remove_leftovers()
        due = self._recover_commits()
        self._refuse_state_ahead_of_logs(due)
        due = self._recover_state(due)
        self._recover_entries(due)
        self._recover_source_start(due)
        self._remove_uncommitted_state(due)
        self._recover_query_id()
        return self._repairs

    def _remove_leftovers(self) -> None:
        """Removes temporary files, Spark's checksum files, and checksums without a file: the next file of that name would
        not match them.

        Spark's `5.changelog.crc` differs from Hadoop's `.5.changelog.crc`. `session` switches Spark's off, because a torn
        one makes Spark refuse a whole file.
        """
        for folder, _, names in os.walk(self._layout.spark):
            for name in names:
                without_file = name.startswith(".") and name.endswith(".crc") and name[1 : -len(".crc")] not in names
                of_spark = name.endswith(".crc") and not name.startswith(".")
                if without_file or of_spark or name.endswith((".tmp", ".tmp.crc", ".crc.crc")):
                    Path(folder, name).unlink(missing_ok=True)

    def _recover_commits(self) -> int:
        """Returns the batch that is due: the one after the newest whole commit."""
        last = self._commits.read_newest()
        due = 0 if last is None else last + 1
        if last is not None:
            fault = self._inspect(self._commits.get_path(last), find_commit_fault)
            if fault is not None:
                self._refuse_damaged_commit_before(last)
                due = last
                self._run_again(due, self._commits.get_path(last), fault)
        planned = self._offsets.read_newest()
        if planned is not None and planned > due:
            self._refuse_missing_commit_before(planned, due)
            self._run_again(due, self._commits.get_path(due), "is missing")
        return due

    def _refuse_damaged_commit_before(self, batch: int) -> None:
        """Recovery takes back one commit. If the commit before is damaged too, more than the newest batch is lost."""
        if batch > 0:
            path = self._commits.get_path(batch - 1)
            fault = self._inspect(path, find_commit_fault)
            if fault is not None:
                raise self._build_damage(path, fault)

    def _refuse_missing_commit_before(self, planned: int, due: int) -> None:
        if planned > due + 1:
            raise self._build_damage(self._commits.get_path(planned - 1), "is missing")

    def _refuse_state_ahead_of_logs(self, due: int) -> None:
        """State of a much later batch means that the logs were removed, or that they are an older copy."""
        later = list_later_versions(self._layout.state, due + 2)
        if later:
            path = self._commits.get_path(due + 1)
            raise self._build_damage(path, f"is missing, and there is {self._layout.describe(later[0])}")

    def _recover_state(self, due: int) -> int:
        """Returns the batch that is due: one batch earlier where only the newest state cannot be read."""
        fault = self._find_state_fault(due)
        if fault is None:
            return due
        before = due - 1
        if self._find_state_fault(before) is not None or self._inspect(self._offsets.get_path(before), find_entry_fault) is not None:
            raise self._build_damage(fault.path, fault.what)
        self._run_again(before, fault.path, fault.what)
        return before

    def _find_state_fault(self, version: int) -> StateFault | None:
        found = find_state_fault(self._layout.state, version)
        for path, what in found.useless:
            self._remove(path, f"{what}, and is not needed")
        for path in found.torn_sidecars:
            self._remove(path, "is cut off")
        return found.fault

    def _run_again(self, batch: int, path: Path, fault: str) -> None:
        """Removes the commit of `batch` and the entry of the batch after it. `path` and `fault` are the reason."""
        if self._last_delivered is not None and not self._last_delivered.may_run_again(batch):
            raise self._build_damage(path, f"{fault}, and batch {batch} cannot run again: the output may hold it or a later batch")
        self._remove(self._offsets.get_path(batch + 1), "was planned after a batch that runs again")
        self._remove(self._commits.get_path(batch), "belongs to a batch that runs again")
        self._repairs.append(f"{self._layout.describe(path)} {fault}: batch {batch} runs again")

    def _recover_entries(self, due: int) -> None:
        """Restores damaged entries, or removes the entry of the batch that is due.

        Spark may plan that batch again as long as its rows are not in the output. Earlier entries must not change.
        """
        planned = self._offsets.get_path(due)
        fault = self._inspect(planned, find_entry_fault)
        if fault is not None:
            if self._is_past(due - 1) and not self._restore_entry(due, fault):
                raise self._build_damage(planned, f"{fault}, and the batch or a later one is in the output")
            if not self._is_past(due - 1):
                self._remove(planned, f"{fault}, and Spark plans the batch again")
        needed = [due - 1] if planned.exists() else [due - 1, due - 2]
        for batch in needed:
            path = self._offsets.get_path(batch)
            fault = None if batch < 0 else self._inspect(path, find_entry_fault)
            if fault is not None and not self._restore_entry(batch, fault):
                raise self._build_damage(path, fault)

    def _restore_entry(self, batch: int, fault: str) -> bool:
        """Returns whether the record of the last delivered batch holds the entry."""
        entry = None if self._last_delivered is None else self._last_delivered.get_entry(batch)
        if self._last_delivered is None or entry is None:
            return False
        path = self._offsets.get_path(batch)
        path.parent.mkdir(exist_ok=True)
        replace_spark_file(path, entry.encode())
        self._repairs.append(f"{self._layout.describe(path)} {fault}: restored from {self._last_delivered.place}")
        return True

    def _recover_source_start(self, due: int) -> None:
        """Where batch 0 starts. Spark does not read the file once batch 0 is committed."""
        if due > 0:
            return
        path = self._layout.source_start_file
        fault = self._inspect(path, find_start_fault)
        if fault is None:
            return
        if self._is_past(-1):
            raise self._build_damage(path, f"{fault}, and the first batch is in the output")
        self._remove(path, f"{fault}, and Spark chooses the start again")
        self._remove(self._offsets.get_path(0), "belongs to the damaged start")

    def _remove_uncommitted_state(self, due: int) -> None:
        """Removes the state that the next run will write again.

        Otherwise a crash between a new file and its checksums would leave the checksums of the old file.
        """
        state = self._layout.state
        if due == 0 and state.is_dir():
            shutil.rmtree(state)
            sync_path(self._layout.spark)
        for path in list_later_versions(state, due):
            path.unlink(missing_ok=True)

    def _recover_query_id(self) -> None:
        """Spark refuses logs without the id of their query. A new id serves: nothing of the driver depends on it."""
        path = self._layout.query_id_file
        fault = self._inspect(path, find_object_fault)
        if fault is None:
            return
        self._remove(path, f"{fault}, and is created again")
        if self._offsets.read_newest() is not None:
            replace_spark_file(path, json.dumps({"id": str(uuid.uuid4())}).encode())

    def _is_past(self, batch: int) -> bool:
        return self._last_delivered is not None and self._last_delivered.is_past(batch)

    def _inspect(self, path: Path, find_fault: Callable[[BinaryIO], str | None]) -> str | None:
        found = inspect_file(path, find_fault)
        if found.torn_sidecar:
            self._remove(build_sidecar_path(path), "is cut off")
        return found.fault

    def _remove(self, path: Path, why: str) -> None:
        if remove_spark_file(path):
            self._repairs.append(f"{self._layout.describe(path)} {why}: removed")

    def _build_damage(self, path: Path, what: str) -> JobError:
        return JobError(ExitCode.CHECKPOINT_DAMAGED, f"{self._layout.describe(path)} {what}")
