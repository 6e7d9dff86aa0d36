"""Where each file lies on the checkpoint volume. Paths only: the type that owns a file reads and writes it.

Spark owns `generation-<n>/spark`. The driver reads Spark's logs there, and writes to them only while no query runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CheckpointLayout:
    """The paths of one checkpoint generation."""

    root: Path
    """The folder where the volume is mounted."""
    generation: int

    @property
    def attempt_file(self) -> Path:
        return self.root / "attempt"

    @property
    def folder(self) -> Path:
        return self.root / f"generation-{self.generation}"

    @property
    def write_test_file(self) -> Path:
        return self.folder / "writable"

    @property
    def identity_file(self) -> Path:
        return self.folder / "job.json"

    @property
    def output_file(self) -> Path:
        return self.folder / "sink.json"

    @property
    def totals_file(self) -> Path:
        return self.folder / "totals.json"

    @property
    def lost_records_file(self) -> Path:
        return self.folder / "lost.json"

    @property
    def batch_limit_file(self) -> Path:
        return self.folder / "limit.json"

    @property
    def spark(self) -> Path:
        return self.folder / "spark"

    @property
    def offset_log(self) -> Path:
        return self.spark / "offsets"

    @property
    def commit_log(self) -> Path:
        return self.spark / "commits"

    @property
    def state(self) -> Path:
        return self.spark / "state"

    @property
    def source_start_file(self) -> Path:
        return self.spark / "sources" / "0" / "0"

    @property
    def query_id_file(self) -> Path:
        return self.spark / "metadata"

    def describe(self, path: Path) -> str:
        """The path as messages show it: relative to the volume."""
        return str(path.relative_to(self.root))
