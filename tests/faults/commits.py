"""Reads from the checkpoint how far the run is, while drivers start and end."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.spark_logs import CommitLog
from dedup_job.checkpoint.totals import Totals, TotalsFile


@dataclass(frozen=True)
class Outage:
    """A kill of a driver or of the broker. All times are seconds since 1970."""

    at: float
    counts_from: float
    """Earlier commits are no sign of recovery, because the JVM of a killed Python process may still finish a batch."""


@dataclass
class Commits:
    """The commits of the run. Spark deletes old entries of its commit log, so `update` must be called often."""

    checkpoint: CheckpointLayout
    topic: str
    partitions: int
    """The plan's records are in the partitions below this number."""
    times: dict[int, float] = field(default_factory=dict)
    """By batch: the time of its commit."""

    def update(self) -> None:
        try:
            with os.scandir(self.checkpoint.spark / "commits") as entries:
                for entry in entries:
                    if entry.name.isdigit() and int(entry.name) not in self.times:
                        self.times[int(entry.name)] = entry.stat().st_mtime
        except FileNotFoundError:
            return

    @property
    def last(self) -> int:
        return max(self.times, default=-1)

    def count_read(self) -> int:
        """How many of the plan's records are in committed batches."""
        return sum(end for partition, end in self.read_ends().items() if partition < self.partitions)

    def read_ends(self) -> dict[int, int]:
        """The end offsets of the last committed batch by partition."""
        commits = CommitLog(self.checkpoint)
        last = commits.read_newest()
        if last is None:
            return {}
        try:
            return commits.read(last, self.topic).end_offsets
        except (OSError, ValueError):
            return {}  # Spark writes the entry at this moment, or has just deleted it

    def read_totals(self) -> Totals:
        return TotalsFile(self.checkpoint).read()

    def has_committed_since(self, moment: float) -> bool:
        return any(at > moment for at in self.times.values())


def list_recoveries(outages: list[Outage], commits: list[float]) -> list[float]:
    """Seconds from each outage to the next commit. Of several outages without a commit between them only the last
    counts."""
    found: dict[float, float] = {}
    for outage in outages:
        following = min((at for at in commits if at > outage.counts_from), default=None)
        if following is not None:
            found[following] = following - outage.at
    return list(found.values())


def describe_recoveries(seconds: list[float]) -> str:
    if not seconds:
        return "no recovery was measured"
    return f"median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s, of {len(seconds)} measured"


def build_layout(folder: Path) -> CheckpointLayout:
    return CheckpointLayout(folder / "checkpoint", 1)
