"""What the job has counted since its checkpoint began, kept on the volume so that a restart does not forget it.

The file names the batch it ends with and is written before Spark commits that batch: a batch that is replayed after a
crash is found in it and not counted twice.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dedup_job.checkpoint import write_durably


@dataclass(frozen=True)
class BatchCounts:
    """One batch, in rows. `updated` keys were new to the state: unique events, and invalid rows under keys of their own."""

    rows_in: int
    updated: int
    duplicates: int
    late: int
    invalid: int
    written: int
    removed: int = 0
    """Keys that expired."""
    state_bytes: int = 0

    @property
    def unaccounted_in(self) -> int:
        """First counting law: rows in = unique + duplicates + late + invalid. Must be 0."""
        return self.rows_in - self.updated - self.duplicates - self.late

    @property
    def unaccounted_out(self) -> int:
        """Second counting law: unique = rows handed to the sink. Must be 0."""
        return self.updated - self.invalid - self.written


@dataclass(frozen=True)
class Totals:
    batch: int | None = None
    rows_in: int = 0
    rows_out: int = 0
    duplicates: int = 0
    late: int = 0
    invalid: int = 0
    state_rows: int = 0
    state_bytes: int = 0

    def has(self, batch: int) -> bool:
        return self.batch is not None and batch <= self.batch

    def add(self, batch: int, counts: BatchCounts) -> Totals:
        """The totals after `batch`; unchanged when it is in them already."""
        if self.has(batch):
            return self
        return replace(
            self,
            batch=batch,
            rows_in=self.rows_in + counts.rows_in,
            rows_out=self.rows_out + counts.written,
            duplicates=self.duplicates + counts.duplicates,
            late=self.late + counts.late,
            invalid=self.invalid + counts.invalid,
            state_rows=max(0, self.state_rows + counts.updated - counts.removed),
            state_bytes=counts.state_bytes,
        )


def read_totals(path: Path) -> Totals:
    """Zero for a new checkpoint. A file that cannot be read starts from zero too: totals inform, they decide nothing."""
    try:
        document = json.loads(path.read_text())
        return Totals(**{name: document[name] for name in asdict(Totals())})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Totals()


def write_totals(path: Path, totals: Totals) -> None:
    write_durably(path, json.dumps(asdict(totals)).encode())
