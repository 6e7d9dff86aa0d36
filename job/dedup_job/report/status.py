"""What the driver knows about itself, shared by its threads: the query's, the lag probe's, the HTTP server's and main's.

One lock, values replaced whole; `build_status` and `decide_health` are pure and get the clock from the caller.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from dedup_api.driver_status import Blocked, DriverStatus, Phase
from dedup_api.status import Progress
from dedup_job.checkpoint.spark_logs import Commit
from dedup_job.checkpoint.totals import Totals
from dedup_job.times import build_event_time, build_rfc3339

STUCK_AFTER = timedelta(minutes=10)
"""A batch of the default size takes seconds; ten minutes leave room for a slow volume and a broker's restart."""
STUCK_TRIGGERS = 20


@dataclass(frozen=True)
class Snapshot:
    phase: Phase = Phase.STARTING
    blocked_by: Blocked | None = None
    attempt: int | None = None
    generation: int | None = None
    checkpoint_begun: bool = False
    committed_in_this_run: bool = False
    batch_started: float | None = None
    """Seconds since the epoch; None between batches."""
    commit: Commit | None = None
    committed_at: float | None = None
    starting_since: float | None = None
    """Seconds since the epoch: the process's start, or the end of its wait for Kafka."""
    running_since: float | None = None
    """Seconds since the epoch; None until the query has started."""
    lag_since: float | None = None
    """Seconds since the epoch: when records were first seen that no batch had read; None while there are none or they cannot be seen."""
    totals: Totals = field(default_factory=Totals)
    lost: int = 0
    """Records since the checkpoint began, see `lost`."""
    rows_per_second: int | None = None
    lag: int | None = None
    lag_seconds: int | None = None
    query_alive: bool = True


class State:
    """The current snapshot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshot = Snapshot()

    def read(self) -> Snapshot:
        with self._lock:
            return self._snapshot

    def update(self, **changes: Any) -> Snapshot:
        with self._lock:
            self._snapshot = replace(self._snapshot, **changes)
            return self._snapshot


def build_status(snapshot: Snapshot) -> DriverStatus:
    """The answer on `/status`."""
    commit, totals, pending = snapshot.commit, snapshot.totals, find_pending_since(snapshot)
    watermark = commit.next_watermark_ms if commit else 0
    return DriverStatus(
        phase=snapshot.phase,
        blocked_by=snapshot.blocked_by,
        attempt=snapshot.attempt,
        generation=snapshot.generation,
        checkpoint_begun=snapshot.checkpoint_begun,
        committed_in_this_run=snapshot.committed_in_this_run,
        batch_running_since=None if snapshot.batch_started is None else build_rfc3339(snapshot.batch_started),
        pending_since=None if pending is None else build_rfc3339(pending),
        progress=Progress(
            batch=commit.batch if commit else None,
            watermark=build_event_time(watermark) if watermark > 0 else None,
            rows_in=totals.rows_in,
            rows_out=totals.rows_out,
            unique=totals.unique,
            duplicates=totals.duplicates,
            late=totals.late,
            late_emitted=totals.late_emitted,
            invalid=sum(totals.invalid.values()),
            invalid_by_reason=totals.invalid,
            dead_letters=totals.dead_letters,
            lost=snapshot.lost,
            input_rows_per_second=snapshot.rows_per_second,
            lag_records=snapshot.lag,
            lag_seconds=snapshot.lag_seconds,
            state_rows=totals.state_rows if commit else None,
            state_bytes=totals.state_bytes if commit else None,
            last_progress_time=None if snapshot.committed_at is None else build_rfc3339(snapshot.committed_at),
        ),
    )


def find_pending_since(snapshot: Snapshot) -> float | None:
    """Since when something outside of a batch has been due, in seconds since the epoch; None while nothing is."""
    if snapshot.blocked_by is not None or snapshot.batch_started is not None:
        return None
    if snapshot.phase is Phase.STARTING:
        return snapshot.starting_since
    if snapshot.running_since is None or snapshot.lag_since is None:
        return None
    return max(snapshot.lag_since, snapshot.running_since, snapshot.committed_at or 0)


def build_stuck_bound(trigger: timedelta) -> timedelta:
    """A batch that runs for longer than this counts as stuck."""
    return max(STUCK_AFTER, STUCK_TRIGGERS * trigger)


def decide_health(snapshot: Snapshot, bound: timedelta, now: float) -> str | None:
    """Why the driver needs a restart; None while it does not. Waiting for a broker is healthy: a restart would not help."""
    if not snapshot.query_alive:
        return "the query has ended"
    if snapshot.batch_started is not None and now - snapshot.batch_started > bound.total_seconds():
        return f"a batch has been running for {int(now - snapshot.batch_started)} s, more than {int(bound.total_seconds())} s"
    pending = find_pending_since(snapshot)
    if snapshot.phase is Phase.RUNNING and pending is not None and now - pending > bound.total_seconds():
        return f"records are waiting, and no batch has begun for {int(now - pending)} s"
    return None


def decide_readiness(snapshot: Snapshot) -> str | None:
    """Why no batches can be expected now; None while they can."""
    if snapshot.blocked_by is not None:
        return f"{snapshot.blocked_by.reason}: {snapshot.blocked_by.message}"
    return None if snapshot.phase is Phase.RUNNING else f"the driver is {snapshot.phase.lower()}"
