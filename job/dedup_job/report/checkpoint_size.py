"""Once a minute: how large the checkpoint is."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from dedup_job.report.metrics import Metrics

INTERVAL = 60.0
"""Seconds between two looks, each at some thousand files."""


def measure_bytes(folder: Path) -> int:
    """Of all files below it; those that go meanwhile count nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # one that is gone, or a volume in trouble, which the batches report
                total += Path(path, name).stat().st_size
    return total


class SizeProbe:
    """Keeps the metric of the checkpoint's size up to date until told to stop."""

    def __init__(self, folder: Path, metrics: Metrics, stop: threading.Event) -> None:
        self._folder, self._metrics, self._stop = folder, metrics, stop

    def start(self) -> None:
        threading.Thread(target=self._run, name="size", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._metrics.checkpoint_bytes.set(measure_bytes(self._folder))
            if self._stop.wait(INTERVAL):
                return
