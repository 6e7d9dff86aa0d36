"""Measures the size of the checkpoint once a minute, for a metric."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from dedup_job.background import start_repeating
from dedup_job.report.metrics import Metrics

INTERVAL = 60.0
"""Seconds between two measurements. Each reads the size of some thousand files."""


def measure_bytes(folder: Path) -> int:
    """The size of all files in `folder` and below. Ignores files that Spark deletes during the measurement."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted meanwhile, or a failing volume, which the next batch reports
                total += Path(path, name).stat().st_size
    return total


class CheckpointSizeMonitor:
    """Updates the metric from a thread of its own until `stop` is set."""

    def __init__(self, folder: Path, metrics: Metrics, stop: threading.Event) -> None:
        self._folder, self._metrics, self._stop = folder, metrics, stop

    def start(self) -> None:
        start_repeating("checkpoint-size", self._measure, INTERVAL, self._stop)

    def _measure(self) -> None:
        self._metrics.checkpoint_bytes.set(measure_bytes(self._folder))
