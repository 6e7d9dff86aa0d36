"""The faults between operator and API server, and at which write each of them happens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    KILL_AFTER = "kill-after"
    """The API server applies the write. The operator is killed before it receives the answer."""
    KILL_BEFORE = "kill-before"
    """The operator is killed while it sends the write. The API server never receives the write."""
    LOSE_ANSWER = "lose-answer"
    """The API server applies the write. The connection breaks before the operator receives the answer."""
    CONFLICT = "409"
    TOO_MANY = "429"
    ERROR = "500"
    """The proxy answers the write with this status. The API server never receives the write."""
    LOSE_NEXT_EVENT = "lose-next-event"
    """Each watch loses the next event after the write."""
    LOSE_EVENTS = "lose-events"
    """The watches lose all events from the write on, until the operator opens them again."""
    OLD_LIST = "old-list"
    """For some seconds the proxy answers lists with the objects as they were before the write."""
    KILL_AND_OLD_LIST = "kill-old-list"
    """KILL_AFTER and OLD_LIST together: the new operator process starts its watches from lists that are older than the
    write."""
    STALL = "stall"
    """From the write on the proxy forwards nothing for some seconds, neither requests nor watch events."""
    HANG = "hang"
    """The API server applies the write, and the proxy never answers: the operator has to give the request up after its
    own timeout."""


SLOW = {Fault.HANG}
"""Each takes half a minute, which is the operator's timeout for a request."""


@dataclass(frozen=True, order=True)
class Intervals:
    """How often the operator reconciles and lists without an event. Short intervals hide lost events, as the next timer
    repairs them."""

    resync_seconds: float
    """Between two reconciliations of a DedupJob that the operator knows."""
    relist_seconds: float
    """Between two lists of all DedupJobs, which find those that the operator does not know."""


LONGER_THAN_A_RUN_SECONDS = 600.0
SHORT_INTERVALS = Intervals(1, 300)
"""The relist is the shipped one. The shipped resync is 15 s, for which most runs would wait."""
ONLY_RELIST = Intervals(LONGER_THAN_A_RUN_SECONDS, 3)
"""Only the list of all DedupJobs finds what an event did not report."""
ONLY_NEW_WATCH = Intervals(LONGER_THAN_A_RUN_SECONDS, LONGER_THAN_A_RUN_SECONDS)
"""Only a watch that the operator opens again finds what an event did not report."""
RECOVERY_INTERVALS = {Fault.LOSE_NEXT_EVENT: ONLY_RELIST, Fault.LOSE_EVENTS: ONLY_NEW_WATCH}
"""By the fault that loses events: intervals that leave the operator one way to recover from it."""


@dataclass(frozen=True)
class FaultPlan:
    """`fault` happens at write number `at`. The proxy counts from 1, from the moment at which it is armed. At 0 the
    fault happens before the first write: then the operator misses the user's own change."""

    fault: Fault
    at: int
    intervals: Intervals = SHORT_INTERVALS
