"""Reads how long each phase of a batch took, from the progress that Spark reports after the batch's commit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

OTHER = "other"
PHASES = {
    "latestOffset": "find_offsets",
    "getBatch": "plan",
    "queryPlanning": "plan",
    "walCommit": "log_offsets",
    "addBatch": "process",
    "commitBatch": "log_commit",
    "commitOffsets": "log_commit",
}
"""Spark's name of a phase -> the metric's. Time that Spark reports under no name here is `other`."""
_WHOLE_TRIGGER, _BATCH_WORK = "triggerExecution", "addBatch"


@dataclass
class PhaseReader:
    """Reads each batch once. Spark repeats its reports, and also reports triggers that have run no batch."""

    _last_batch: int = field(default=-1)

    def read(self, reports: Iterable[str]) -> list[dict[str, float]]:
        """For each new batch: seconds by phase. `reports`: Spark's progress reports as JSON, oldest first."""
        batches = []
        for text in reports:
            report = json.loads(text)
            if report["batchId"] > self._last_batch and _BATCH_WORK in report["durationMs"]:
                self._last_batch = report["batchId"]
                batches.append(build_phases(report["durationMs"]))
        return batches


def build_phases(durations: dict[str, int]) -> dict[str, float]:
    """Seconds by phase; they add up to the whole trigger. `durations`: milliseconds by Spark's names."""
    phases = dict.fromkeys([*PHASES.values(), OTHER], 0.0)
    for name, milliseconds in durations.items():
        if name in PHASES:
            phases[PHASES[name]] += milliseconds / 1000
    phases[OTHER] = max(0.0, durations.get(_WHOLE_TRIGGER, 0) / 1000 - sum(phases.values()))
    return phases
