"""What deserves a Kubernetes Event about a DedupJob."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_api.status import ConditionStatus, DedupJobStatus
from dedup_operator.domain.exits import list_new_exits
from dedup_operator.domain.status import find_ready


@dataclass(frozen=True)
class EventNote:
    reason: str
    message: str
    warning: bool


def list_event_notes(before: DedupJobStatus, after: DedupJobStatus) -> list[EventNote]:
    """One note for each new exit of the driver, then one when
    the condition Ready has changed its status or its reason."""
    notes = [EventNote(exit.reason, f"Exit code {exit.exit_code}: {exit.message}", warning=True) for exit in list_new_exits(before, after)]
    old, new = find_ready(before), find_ready(after)
    if new is not None and (old is None or (old.status, old.reason) != (new.status, new.reason)):
        notes.append(EventNote(new.reason, new.message, warning=new.status is ConditionStatus.FALSE))
    return notes
