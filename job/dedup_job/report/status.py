"""The driver's state, which all its threads share, and what the driver reports from it.

The query's thread, the lag probe, the HTTP server and the main thread use the state. One lock guards it, and every
change replaces the snapshot as a whole. All functions of this module are pure: the caller passes the time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from dedup_api.driver_status import Blocked, DriverStatus, DriverWarning, Phase
from dedup_api.reasons import Reason
from dedup_api.status import Progress
from dedup_job.checkpoint.spark_logs import Commit
from dedup_job.checkpoint.totals import Totals
from dedup_job.times import build_event_time, build_rfc3339

STUCK_AFTER = timedelta(minutes=10)
"""A batch of the default size takes seconds. Ten minutes are enough for a slow volume and for the restart of a
broker."""
STUCK_TRIGGERS = 20
"""With a long trigger interval, a batch may take this many intervals before it counts as stuck."""


@dataclass(frozen=True)
class Snapshot:
    """What the driver knows about itself at one moment. Times are seconds since the epoch."""

    phase: Phase = Phase.STARTING
    blocked_by: Blocked | None = None
    attempt: int | None = None
    generation: int | None = None
    checkpoint_has_state: bool = False
    """A batch may have been planned on the checkpoint."""
    committed_in_this_run: bool = False
    batch_started: float | None = None
    """Start of the running batch; None between two batches."""
    commit: Commit | None = None
    committed_at: float | None = None
    starting_since: float | None = None
    """Start of the process, or the end of its wait for Kafka."""
    running_since: float | None = None
    """Start of the query; None until then."""
    lag_since: float | None = None
    """When the driver first saw unread records that it can read now; None when there are none or when the driver cannot see them.
    Records behind an open transaction are not among them."""
    totals: Totals = field(default_factory=Totals)
    lost: int = 0
    """Records that the job has lost since the checkpoint was created; see `checkpoint/lost_records.py`."""
    rows_per_second: int | None = None
    lag: int | None = None
    lag_seconds: int | None = None
    open_transaction_records: int | None = None
    """Those of `lag` that wait for the end of a transaction in the source topic."""
    query_alive: bool = True
    warnings: tuple[DriverWarning, ...] = ()
    """About the last records."""
    batch_limit: int | None = None
    """How many offsets a batch may read after a batch has failed; None while `spec.source.maxOffsetsPerTrigger` holds."""
    open_transaction_warning: DriverWarning | None = None


class State:
    """Holds the current snapshot for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshot = Snapshot()

    def read(self) -> Snapshot:
        with self._lock:
            return self._snapshot

    def update(self, **changes: Any) -> Snapshot:
        """Replaces fields of the snapshot and returns the new one."""
        with self._lock:
            self._snapshot = replace(self._snapshot, **changes)
            return self._snapshot

    def end_batch(self, started: float, **changes: Any) -> Snapshot:
        """As `update`, for the commit of the batch that started at `started`, in seconds since the epoch.

        Another batch may be running already. Its start stays, because `decide_health` counts from it.
        """
        with self._lock:
            running = self._snapshot.batch_started
            self._snapshot = replace(self._snapshot, **changes, batch_started=None if running == started else running)
            return self._snapshot


def build_status(snapshot: Snapshot) -> DriverStatus:
    """The response on `/status`, without the measures."""
    commit, totals, pending = snapshot.commit, snapshot.totals, find_pending_since(snapshot)
    watermark = commit.next_watermark_ms if commit else 0
    return DriverStatus(
        phase=snapshot.phase,
        blocked_by=snapshot.blocked_by,
        attempt=snapshot.attempt,
        generation=snapshot.generation,
        checkpoint_has_state=snapshot.checkpoint_has_state,
        committed_in_this_run=snapshot.committed_in_this_run,
        batch_running_since=None if snapshot.batch_started is None else build_rfc3339(snapshot.batch_started),
        reports_keys_at_end=True,
        warnings=list_warnings(snapshot),
        batch_limit=snapshot.batch_limit,
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
            open_transaction_records=snapshot.open_transaction_records,
            state_rows=totals.state_rows if commit else None,
            state_bytes=totals.state_bytes if commit else None,
            last_progress_time=None if snapshot.committed_at is None else build_rfc3339(snapshot.committed_at),
        ),
    )


def list_warnings(snapshot: Snapshot) -> list[DriverWarning]:
    found = list(snapshot.warnings)
    if snapshot.batch_limit is not None:
        found.append(DriverWarning(reason=Reason.BATCH_LIMIT_REDUCED, message=describe_limit(snapshot.batch_limit)))
    if snapshot.open_transaction_warning is not None:
        found.append(snapshot.open_transaction_warning)
    return found


def describe_limit(offsets: int) -> str:
    return (
        f"The driver reads at most {offsets} records in a batch, because it died in a larger batch or that batch took too long. "
        "After ten batches the driver doubles the number. If this happens again, increase spec.driver.resources.limits.memory, "
        "or lower spec.source.maxOffsetsPerTrigger"
    )


def find_pending_since(snapshot: Snapshot) -> float | None:
    """Since when the driver has been starting, or unread records have waited for a batch; None when neither is the case.

    In seconds since the epoch.
    """
    if snapshot.blocked_by is not None or snapshot.batch_started is not None:
        return None
    if snapshot.phase is Phase.STARTING:
        return snapshot.starting_since
    if snapshot.running_since is None or snapshot.lag_since is None:
        return None
    return max(snapshot.lag_since, snapshot.running_since, snapshot.committed_at or 0)


def build_stuck_bound(trigger: timedelta) -> timedelta:
    """A batch that takes longer than this counts as stuck. `trigger`: the time between the starts of two batches."""
    return max(STUCK_AFTER, STUCK_TRIGGERS * trigger)


def decide_health(snapshot: Snapshot, bound: timedelta, now: float) -> str | None:
    """Why kubelet should restart the driver; None when the driver is healthy. `now`: seconds since the epoch.

    A driver that waits for a broker is healthy, because a restart would not help.
    """
    if not snapshot.query_alive:
        return "the query has ended"
    if snapshot.batch_started is not None and now - snapshot.batch_started > bound.total_seconds():
        return f"a batch has been running for {int(now - snapshot.batch_started)} s, more than {int(bound.total_seconds())} s"
    pending = find_pending_since(snapshot)
    if snapshot.phase is Phase.RUNNING and pending is not None and now - pending > bound.total_seconds():
        return f"records are waiting in the source topic, and no batch has started for {int(now - pending)} s"
    return None


def decide_readiness(snapshot: Snapshot) -> str | None:
    """Why the driver cannot process batches now; None when it can."""
    if snapshot.blocked_by is not None:
        return f"{snapshot.blocked_by.reason}: {snapshot.blocked_by.message}"
    return None if snapshot.phase is Phase.RUNNING else f"the driver is {snapshot.phase.lower()}"
