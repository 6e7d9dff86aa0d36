"""`totals.json`: what the job has counted since its checkpoint started.

The file is on the volume, so that the counts survive a restart.

The file names the last batch that it includes, and the driver writes it before Spark commits that batch. So the driver
does not count a batch twice when Spark replays it after a crash.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, replace

from dedup_api.faults import Fault
from dedup_job.checkpoint.durable_files import write_durably
from dedup_job.checkpoint.layout import CheckpointLayout

_LOG = logging.getLogger("dedup_job.checkpoint.totals")


@dataclass(frozen=True)
class InvalidRecord:
    """The place of an invalid record and its fault. Never the content of the record, which may be confidential."""

    partition: int
    offset: int
    reason: Fault
    detail: str


@dataclass(frozen=True)
class StoreTimes:
    """Seconds in the state store, as the sum over its partitions, which work in parallel."""

    update: float = 0.0
    evict: float = 0.0
    commit: float = 0.0


@dataclass(frozen=True)
class BatchCounts:
    """The records of one batch."""

    rows_in: int
    updated: int
    """Keys that were new to the state: one per unique event, and one per record with a fault (it gets its own key)."""
    duplicates: int
    unique: int
    """Unique events after the deduplication."""
    faults: dict[Fault, int] = field(default_factory=dict)
    """Late and invalid records by fault, without entries of 0."""
    first_invalid: InvalidRecord | None = None
    removed: int = 0
    """Keys that have expired."""
    state_bytes: int = 0
    store: StoreTimes = StoreTimes()

    @property
    def late(self) -> int:
        return self.faults.get(Fault.LATE, 0)

    @property
    def invalid_by_reason(self) -> dict[Fault, int]:
        return {fault: count for fault, count in self.faults.items() if fault is not Fault.LATE}

    @property
    def invalid(self) -> int:
        return sum(self.invalid_by_reason.values())

    @property
    def unaccounted_in(self) -> int:
        """First counting law: records in = unique + duplicates + late + invalid. Must be 0."""
        return self.rows_in - self.updated - self.duplicates

    @property
    def unaccounted_out(self) -> int:
        """Second counting law: new keys = unique + late + invalid. Must be 0.

        Before the sink commits, it compares the number of records that it has sent as well.
        """
        return self.updated - self.unique - self.late - self.invalid


@dataclass(frozen=True)
class WrittenFaults:
    """How many late and invalid records of a batch the driver writes, by `spec.onLate` and `spec.onInvalid`."""

    emitted: int = 0
    """Late records that go to the sink."""
    dead: int = 0
    """Records that go to the dead-letter topic."""


@dataclass(frozen=True)
class Totals:
    batch: int | None = None
    rows_in: int = 0
    rows_out: int = 0
    unique: int = 0
    duplicates: int = 0
    late: int = 0
    late_emitted: int = 0
    invalid: dict[str, int] = field(default_factory=dict)
    """By Fault."""
    dead_letters: int = 0
    state_rows: int = 0
    state_bytes: int = 0
    counts_all: bool = True
    """False when the file was unreadable once, so that batches are missing from these counts."""

    @property
    def may_have_keys(self) -> bool:
        """Whether keys may be stored. Batches that are missing from the counts may have stored some."""
        return self.state_rows > 0 or not self.counts_all

    def has(self, batch: int) -> bool:
        return self.batch is not None and batch <= self.batch

    def add(self, batch: int, counts: BatchCounts, written: WrittenFaults) -> Totals:
        """Returns the totals after `batch`, unchanged when they include it already."""
        if self.has(batch):
            return self
        found = counts.invalid_by_reason
        return replace(
            self,
            batch=batch,
            rows_in=self.rows_in + counts.rows_in,
            rows_out=self.rows_out + counts.unique + written.emitted,
            unique=self.unique + counts.unique,
            duplicates=self.duplicates + counts.duplicates,
            late=self.late + counts.late,
            late_emitted=self.late_emitted + written.emitted,
            invalid={**self.invalid, **{reason: self.invalid.get(reason, 0) + count for reason, count in found.items()}},
            dead_letters=self.dead_letters + written.dead,
            state_rows=max(0, self.state_rows + counts.updated - counts.removed),
            state_bytes=counts.state_bytes,
        )


@dataclass(frozen=True)
class TotalsFile:
    """Reads and writes `totals.json`. An OSError passes through: the batch that uses the file reports it."""

    layout: CheckpointLayout

    def read(self) -> Totals:
        """Zero for a new checkpoint. Zero and not `counts_all` when batches have committed and the file is missing or cannot be
        understood."""
        try:
            document = {"counts_all": True, **json.loads(self.layout.totals_file.read_text())}  # version 0.1.0 writes no counts_all
            return Totals(**{name: document[name] for name in asdict(Totals())})
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            has_commits = self.layout.commit_log.is_dir() and any(self.layout.commit_log.iterdir())
            if has_commits:
                _LOG.warning("totals.json is missing or unreadable, so the counts of this job start again at 0: %s", error)
            return Totals(counts_all=not has_commits)

    def write(self, totals: Totals) -> None:
        write_durably(self.layout.totals_file, json.dumps(asdict(totals)).encode())
