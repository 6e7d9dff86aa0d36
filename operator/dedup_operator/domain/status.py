"""The status of a job, and whether it is worth a write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from dedup_api.changes import state_identity
from dedup_api.driver_status import DriverStatus
from dedup_api.status import CheckpointState, Condition, ConditionType, DedupJobStatus, DriverExit, DriverState, Progress
from dedup_operator.domain.observe.state import World

PROGRESS_INTERVAL = timedelta(seconds=60)
"""Each write wakes everybody who watches DedupJobs; live numbers are in the metrics."""
MAX_EXITS = 5


def parse_status(resource: dict[str, Any]) -> DedupJobStatus:
    """The status as it was written last. What cannot be read is begun anew."""
    try:
        return DedupJobStatus.model_validate(resource.get("status") or {"observedGeneration": -1})
    except ValidationError:
        return DedupJobStatus(observed_generation=-1)


def build_status(before: DedupJobStatus, world: World, generation: int, conditions: list[Condition]) -> DedupJobStatus:
    """The status that the facts ask for; `choose_status` says whether it is written."""
    return DedupJobStatus(
        observed_generation=generation,
        conditions=conditions,
        driver=_build_driver(before, world),
        checkpoint=_build_checkpoint(before, world),
        progress=_build_progress(before, world),
    )


def _build_driver(before: DedupJobStatus, world: World) -> DriverState:
    known = before.driver.last_exits if before.driver else []
    pod = world.pod
    if pod is None:
        return DriverState(last_exits=merge_exits(known, world.last_words))
    return DriverState(
        pod=pod.name,
        started_at=pod.started_at.strftime("%Y-%m-%dT%H:%M:%SZ") if pod.started_at else None,
        restarts=pod.restarts,
        last_exits=merge_exits(known, [*world.last_words, *pod.exits]),
    )


def merge_exits(known: Sequence[DriverExit], seen: Iterable[DriverExit]) -> list[DriverExit]:
    """Newest first, each once, as it was told first. The moment tells exits apart: two runs of one pod cannot end in the same second."""
    by_moment = {exit.finished_at: exit for exit in [*seen, *known]}
    return [by_moment[moment] for moment in sorted(by_moment, reverse=True)][:MAX_EXITS]


def list_new_exits(before: DedupJobStatus, after: DedupJobStatus) -> list[DriverExit]:
    """Oldest first."""
    known = {exit.finished_at for exit in before.driver.last_exits} if before.driver else set()
    seen = after.driver.last_exits if after.driver else []
    return [exit for exit in reversed(seen) if exit.finished_at not in known]


def _build_checkpoint(before: DedupJobStatus, world: World) -> CheckpointState | None:
    """Kept when the claim is gone: that is how its loss is noticed."""
    claim, known = world.claim, before.checkpoint
    if claim is None:
        return known
    attempt = world.answer.attempt if isinstance(world.answer, DriverStatus) else None
    return CheckpointState(
        claim=claim.name,
        generation=claim.config.generation if claim.config else None,
        attempt=attempt if attempt is not None else (known.attempt if known else None),
        identity=state_identity(claim.config) if claim.config else None,
    )


def _build_progress(before: DedupJobStatus, world: World) -> Progress | None:
    """The driver's own count. A driver that has only begun to read its checkpoint does not take back what was reported."""
    answer = world.answer
    if not isinstance(answer, DriverStatus):
        return before.progress
    known = before.progress is not None and before.progress.batch is not None
    if answer.progress.batch is None and known:
        return before.progress
    return answer.progress


@dataclass(frozen=True)
class Written:
    """When progress was last written by this process; None before the first time."""

    progress_at: datetime | None = None


def choose_status(before: DedupJobStatus, after: DedupJobStatus, written: Written, now: datetime) -> DedupJobStatus | None:
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
