"""When a DedupJob is reconciled next if nothing happens before."""

from __future__ import annotations

from datetime import datetime, timedelta

from dedup_api.reasons import Reason
from dedup_api.status import ConditionStatus, DedupJobStatus
from dedup_operator.domain.status import find_ready
from dedup_operator.domain.times import parse_time

STARTING_SECONDS = 2.0
"""The pause while a driver starts. The watches report most
steps of a start, but not what the driver says about itself."""
STARTING_PERIOD = timedelta(minutes=3)
"""A start takes less time. When it takes longer, the operator returns to its usual pause."""


def find_resync_seconds(status: DedupJobStatus, now: datetime, usual: float) -> float:
    """`usual`: the pause for a DedupJob that is not starting."""
    ready = find_ready(status)
    if ready is None or ready.status is not ConditionStatus.UNKNOWN or ready.reason == Reason.DRIVER_UNREACHABLE:
        return usual  # each request to a driver that does not answer takes seconds
    is_recent = now - parse_time(ready.last_transition_time) < STARTING_PERIOD
    return min(STARTING_SECONDS, usual) if is_recent else usual
