"""Everything that can go wrong, by name, and which of it a seed meets.

Each seed takes some kinds and leaves others out: where everything goes wrong at once, nothing gets far enough to go wrong deeply.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    CRASH_BEFORE_WRITE = "the operator dies before a write is sent"
    CRASH_AFTER_WRITE = "the operator dies after a write was applied, before its answer"
    OPERATOR_KILLED = "the operator dies at any moment"
    TWO_OPERATORS = "two operators work at once"
    ANSWER_LOST = "a write is applied, and its answer lost"
    LATE_WRITE = "a write is applied long after the operator gave it up"
    CONFLICT = "409 without a reason that can be seen"
    TOO_MANY_REQUESTS = "429"
    SERVER_ERROR = "500"
    READ_ERROR = "a read fails"
    QUOTA_EXCEEDED = "a quota or a policy refuses a new object for a while"
    SLOW_ANSWERS = "answers take seconds"
    STALE_READ = "a read answers what stood there seconds ago"
    STALE_CONTROLLER = "StatefulSet and Job controller act on a cache that is seconds old"
    WATCH_LOST = "a watch breaks, and what happened meanwhile is not told"
    WATCH_REPEATED = "an event is told twice"
    WATCH_REORDERED = "events come seconds late, in another order"
    CLOCK_FORWARD = "the operator's clock jumps forward"
    CLOCK_BACK = "the operator's clock jumps back"
    DRIVER_CRASH = "the driver dies, and can start again"
    DRIVER_PERMANENT = "the driver ends with a code that no restart helps"
    DRIVER_UNREACHABLE = "the driver does not answer for a while"
    DRIVER_HANGS = "the driver hangs until kubelet kills it"
    SLOW_STOP = "the driver does not end within its grace period"
    EVICTION = "kubelet evicts the pod"
    DRAIN = "the pod is deleted, as a drain does"
    NODE_OUTAGE = "the node is out of reach, and its processes live on"
    FORCE_DELETION = "a person removes the pod's object while the process lives on"
    IMAGE_MISSING = "the image cannot be pulled for a while"


SEED_PROBABILITIES = {
    Fault.TWO_OPERATORS: 0.2,
    Fault.STALE_READ: 0.2,
    Fault.FORCE_DELETION: 0.12,
    Fault.DRIVER_PERMANENT: 0.15,
    Fault.IMAGE_MISSING: 0.15,
}
"""Of the seeds; 0.3 for all others."""
OCCURRENCE_PROBABILITIES = {
    Fault.CRASH_BEFORE_WRITE: 0.12,
    Fault.CRASH_AFTER_WRITE: 0.12,
    Fault.ANSWER_LOST: 0.15,
    Fault.LATE_WRITE: 0.1,
    Fault.CONFLICT: 0.15,
    Fault.TOO_MANY_REQUESTS: 0.1,
    Fault.SERVER_ERROR: 0.15,
    Fault.READ_ERROR: 0.03,
    Fault.SLOW_ANSWERS: 0.1,
    Fault.STALE_READ: 0.25,
    Fault.STALE_CONTROLLER: 0.3,
    Fault.WATCH_LOST: 0.08,
    Fault.WATCH_REPEATED: 0.15,
    Fault.WATCH_REORDERED: 0.2,
    Fault.DRIVER_CRASH: 0.4,
    Fault.DRIVER_PERMANENT: 0.3,
    Fault.DRIVER_HANGS: 0.2,
    Fault.SLOW_STOP: 0.3,
}
"""Of the occasions, in a seed that has the fault."""


@dataclass
class Faults:
    """The faults of one seed. `met` counts what really happened."""

    rng: random.Random
    kinds: frozenset[Fault]
    occurred: Counter[Fault]
    active: bool = True

    def has(self, fault: Fault) -> bool:
        return self.active and fault in self.kinds

    def occurs(self, fault: Fault, weight: float = 1.0) -> bool:
        """Draws only where the seed has the fault. `weight`: of this occasion."""
        if self.active and fault in self.kinds and self.rng.random() < weight * OCCURRENCE_PROBABILITIES[fault]:
            self.occurred[fault] += 1
            return True
        return False

    def record(self, fault: Fault) -> None:
        self.occurred[fault] += 1


def draw_faults(rng: random.Random) -> frozenset[Fault]:
    """One seed in ten is spared: the quiet case must hold too."""
    if rng.random() < 0.1:
        return frozenset()
    return frozenset(fault for fault in Fault if rng.random() < SEED_PROBABILITIES.get(fault, 0.3))
