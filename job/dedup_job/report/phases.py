"""Where the time of a batch went, from the progress that Spark reports after its commit."""

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
"""Spark's name -> ours. What is not named is `other`."""
_WHOLE, _WORK = "triggerExecution", "addBatch"


@dataclass
class PhaseReader:
    """Takes each batch once; Spark repeats what it said, and also reports triggers that ran no batch."""

    _last: int = field(default=-1)

    def read(self, reports: Iterable[str]) -> list[dict[str, float]]:
        """`reports`: Spark's progress as JSON, oldest first. Seconds by phase, for each batch that is new."""
        found = []
        for text in reports:
            report = json.loads(text)
            if report["batchId"] > self._last and _WORK in report["durationMs"]:
                self._last = report["batchId"]
                found.append(build_phases(report["durationMs"]))
        return found


def build_phases(durations: dict[str, int]) -> dict[str, float]:
    """`durations`: milliseconds by Spark's names. Seconds, together those of the whole trigger."""
    phases = dict.fromkeys([*PHASES.values(), OTHER], 0.0)
    for name, milliseconds in durations.items():
        if name in PHASES:
            phases[PHASES[name]] += milliseconds / 1000
    phases[OTHER] = max(0.0, durations.get(_WHOLE, 0) / 1000 - sum(phases.values()))
    return phases
