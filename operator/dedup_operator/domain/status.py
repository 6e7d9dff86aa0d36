"""The status of a job, and whether it is worth a write."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from dedup_api.changes import state_identity
from dedup_api.driver_status import DriverStatus
from dedup_api.status import CheckpointState, Condition, ConditionType, DedupJobStatus, DriverState, Progress
from dedup_operator.domain.exits import merge_exits
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.types import Json

PROGRESS_INTERVAL = timedelta(seconds=60)
"""Each write wakes everybody who watches DedupJobs; live numbers are in the metrics."""


def parse_status(resource: Json) -> DedupJobStatus:
    """The status as it was written last. What cannot be read is begun anew."""
    try:
        return DedupJobStatus.model_validate(resource.get("status") or {"observedGeneration": -1})
    except ValidationError:
        return DedupJobStatus(observed_generation=-1)


def build_status(before: DedupJobStatus, observed: ObservedState, generation: int, conditions: list[Condition]) -> DedupJobStatus:
    """The status that the facts ask for; `choose_status` says whether it is written."""
    return DedupJobStatus(
        observed_generation=generation,
        conditions=conditions,
        driver=_build_driver(before, observed),
        checkpoint=_build_checkpoint(before, observed),
        progress=_build_progress(before, observed),
    )


def _build_driver(before: DedupJobStatus, observed: ObservedState) -> DriverState:
    known = before.driver.last_exits if before.driver else []
    pod = observed.pod
    if pod is None:
        return DriverState(last_exits=merge_exits(known, observed.last_pod_exits))
    return DriverState(
        pod=pod.name,
        started_at=pod.started_at.strftime("%Y-%m-%dT%H:%M:%SZ") if pod.started_at else None,
        restarts=pod.restarts,
        last_exits=merge_exits(known, [*observed.last_pod_exits, *pod.exits]),
    )


def _build_checkpoint(before: DedupJobStatus, observed: ObservedState) -> CheckpointState | None:
    """Kept when the claim is gone: that is how its loss is noticed."""
    claim, known = observed.claim, before.checkpoint
    if claim is None:
        return known
    attempt = observed.driver_status.attempt if isinstance(observed.driver_status, DriverStatus) else None
    return CheckpointState(
        claim=claim.name,
        generation=claim.config.generation if claim.config else None,
        attempt=attempt if attempt is not None else (known.attempt if known else None),
        identity=state_identity(claim.config) if claim.config else None,
    )


def _build_progress(before: DedupJobStatus, observed: ObservedState) -> Progress | None:
    """The driver's own count. A driver that has only begun to read its checkpoint does not take back what was reported."""
    driver_status = observed.driver_status
    if not isinstance(driver_status, DriverStatus):
        return before.progress
    known = before.progress is not None and before.progress.batch is not None
    if driver_status.progress.batch is None and known:
        return before.progress
    return driver_status.progress


@dataclass(frozen=True)
class LastProgressWrite:
    """When progress was last written by this process; None before the first time."""

    progress_at: datetime | None = None


def choose_status(before: DedupJobStatus, after: DedupJobStatus, written: LastProgressWrite, now: datetime) -> DedupJobStatus | None:
    """What to write; None where nothing is worth it. Numbers that only moved wait for their turn."""
    if before == after:
        return None
    if before.model_copy(update={"progress": None}) != after.model_copy(update={"progress": None}):
        return after
    first = after.progress is not None and after.progress.batch is not None and (before.progress is None or before.progress.batch is None)
    # A clock that was set back must not keep progress away until it has caught up.
    due = written.progress_at is None or not timedelta(0) <= now - written.progress_at < PROGRESS_INTERVAL
    return after if first or due else None


def find_ready(status: DedupJobStatus) -> Condition | None:
    return next((condition for condition in status.conditions if condition.type == ConditionType.READY), None)
