"""What something else writes into the workload: how often the operator restores it, and which events it writes.

Without a pause the operator and, for example, an autoscaler or a policy controller would overwrite each other as fast as
they can.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dedup_api.reasons import Reason, find_explanation
from dedup_operator.domain.decision import Decision, GiveUp, Refuse, RepairDrift, Start, Suspend, Suspended
from dedup_operator.domain.event_notes import EventNote
from dedup_operator.domain.observe.workload import Workload

FIRST_PAUSE = timedelta(seconds=5)
"""A person who edits an object a second time within this time waits a moment for the repair."""
MAX_PAUSE = timedelta(hours=1)
FORGOTTEN_AFTER = timedelta(hours=2)
"""After this time without a repair, the next one is made at once."""
TOLERATED = 2
"""Repairs without an event. A person edits an object once or twice; a controller does it each time."""


def is_repair(decision: Decision, workload: Workload | None) -> bool:
    """Whether the decision overwrites what something else has changed. A workload that something has scaled to 0 is
    started again."""
    if workload is None or not workload.drifted:
        return False
    return isinstance(decision, RepairDrift) or (isinstance(decision, Start) and not workload.restarting)


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
        who = f"Field manager {workload.changed_by}" if workload.changed_by else "Something"
        message = (
            f"{who} changes {name} again and again. The operator has restored it {self.count} times, and waits "
            f"{round(self.pause.total_seconds())} s before it restores it again. {find_explanation(Reason.WORKLOAD_CHANGED).remedy}"
        )
        return EventNote(Reason.WORKLOAD_CHANGED, message, warning=True)


def build_restart_note(decision: Decision) -> EventNote | None:
    """The event about a `kubectl rollout restart` that restarts nothing. None when the driver restarts, or will."""
    if not isinstance(decision, GiveUp | Refuse | Suspended | Suspend):
        return None
    explanation = find_explanation(Reason.RESTART_IGNORED)
    return EventNote(Reason.RESTART_IGNORED, f"{explanation.meaning} {explanation.remedy}", warning=True)
