"""How often the operator repairs a workload that something else changes after each of its writes.

Without a pause the operator and, for example, an autoscaler or a policy controller would overwrite each other as fast as
they can.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dedup_operator.domain.event_notes import EventNote
from dedup_operator.domain.observe.workload import Workload

FIRST_PAUSE = timedelta(seconds=5)
"""A person who edits an object a second time within this time waits a moment for the repair."""
MAX_PAUSE = timedelta(hours=1)
FORGOTTEN_AFTER = timedelta(hours=2)
"""After this time without a repair, the next one is made at once."""
TOLERATED = 2
"""Repairs without an event. A person edits an object once or twice; a controller does it each time."""


@dataclass(frozen=True)
class DriftRepairs:
    """The repairs of one DedupJob's workload. The operator keeps them in memory: after its restart it starts again."""

    count: int = 0
    last: datetime | None = None

    @property
    def pause(self) -> timedelta:
        """How long the operator waits after the last repair."""
        return min(FIRST_PAUSE * 2 ** min(self.count - 1, 20), MAX_PAUSE) if self.count else timedelta(0)

    def is_due(self, now: datetime) -> bool:
        # After the clock was set back, the operator must not wait until it has caught up.
        return self.last is None or not timedelta(0) <= now - self.last < self.pause

    def record(self, now: datetime) -> DriftRepairs:
        forgotten = self.last is None or now - self.last > FORGOTTEN_AFTER
        return DriftRepairs(1 if forgotten else self.count + 1, now)

    def build_note(self, workload: Workload) -> EventNote | None:
        """The event after a repair. None while the changes may come from a person."""
        if self.count <= TOLERATED:
            return None
        name = f"{workload.kind} {workload.raw['metadata']['name']}"
        who = f"field manager {workload.changed_by}" if workload.changed_by else "something"
        message = (
            f"The operator has restored {name} {self.count} times, because {who} changes it after each write of the operator. "
            f"The driver continues. The operator waits {round(self.pause.total_seconds())} s before the next repair. "
            f"Exclude objects with the label app.kubernetes.io/managed-by=dedup-operator from what {who} changes."
        )
        return EventNote("WorkloadChanged", message, warning=True)
