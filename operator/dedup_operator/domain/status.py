"""The status of a DedupJob, and when the operator writes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from dedup_api.changes import state_identity
from dedup_api.driver_status import DriverStatus
from dedup_api.status import CheckpointState, Condition, ConditionType, DedupJobStatus, DriverState, Progress
from dedup_operator.domain.exits import merge_exits
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.times import render_time
from dedup_operator.domain.types import Json

PROGRESS_INTERVAL = timedelta(seconds=10)
"""Each write sends an event to every client that watches DedupJobs. Live numbers are in the metrics."""


def parse_status(resource: Json) -> DedupJobStatus:
    """The status as the operator wrote it last. An unreadable status counts as no status."""
    try:
        return DedupJobStatus.model_validate(resource.get("status") or {"observedGeneration": -1})
    except ValidationError:
        return DedupJobStatus(observed_generation=-1)


def build_status(
    before: DedupJobStatus, observed: ObservedState, generation: int, conditions: list[Condition], now: datetime
) -> DedupJobStatus:
    """The status that describes the observed state. `choose_status` decides whether the operator writes it."""
    return DedupJobStatus(
        observed_generation=generation,
        conditions=conditions,
        driver=_build_driver(before, observed),
        checkpoint=_build_checkpoint(before, observed),
        progress=_build_progress(before, observed, now),
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
    """It stays when the claim is gone, because that is how the operator notices the loss."""
    claim, known = observed.claim, before.checkpoint
    if claim is None or (observed.moved_from is not None and (observed.workload is not None or observed.keys_left_behind)):
        return known
    attempt = observed.driver_status.attempt if isinstance(observed.driver_status, DriverStatus) else None
    # Version 0.1.0 wrote no folder.
    here = known if known is not None and known.claim == claim.name and known.folder in (None, claim.folder) else None
    return CheckpointState(
        claim=claim.name,
        folder=claim.folder or None,
        generation=claim.config.generation if claim.config else None,
        keys_stored=True if claim.has_state or (here is not None and here.keys_stored) else None,
        attempt=attempt if attempt is not None else (here.attempt if here is not None else None),
        identity=state_identity(claim.config) if claim.config else None,
    )


def _build_progress(before: DedupJobStatus, observed: ObservedState, now: datetime) -> Progress | None:
    """status.progress. A driver that has not read its checkpoint yet does not erase the numbers of the previous run. The
    same numbers keep their `observed_at`, so that nothing is written while nothing changes.

    A recorded batch proves that keys are stored, but not with which settings. So the first batch is recorded only when
    the operator could record the settings on the claim, which it does in the same reconciliation, before the status.
    """
    driver_status = observed.driver_status
    if not isinstance(driver_status, DriverStatus):
        return before.progress
    claim, known = observed.claim, before.progress is not None and before.progress.batch is not None
    if not known and claim is not None and not claim.state_recorded and not observed.cleanup_complete:
        return before.progress
    if driver_status.progress.batch is None and known:
        return before.progress
    numbers = driver_status.progress
    if before.progress is not None and before.progress.model_copy(update={"observed_at": None}) == numbers:
        return before.progress
    return numbers.model_copy(update={"observed_at": render_time(now)})


@dataclass(frozen=True)
class LastProgressWrite:
    """When this process of the operator last wrote status.progress."""

    at: datetime | None = None
    """None before the first write."""


def choose_status(before: DedupJobStatus, after: DedupJobStatus, last_write: LastProgressWrite, now: datetime) -> DedupJobStatus | None:
    """The status to write, or None.

    When only status.progress has changed, the operator writes it once per `PROGRESS_INTERVAL`.
    """
    if before == after:
        return None
    if before.model_copy(update={"progress": None}) != after.model_copy(update={"progress": None}):
        return after
    first = after.progress is not None and after.progress.batch is not None and (before.progress is None or before.progress.batch is None)
    # After the clock was set back, the operator must not wait until it has caught up.
    due = last_write.at is None or not timedelta(0) <= now - last_write.at < PROGRESS_INTERVAL
    return after if first or due else None


def find_ready(status: DedupJobStatus) -> Condition | None:
    return next((condition for condition in status.conditions if condition.type == ConditionType.READY), None)
