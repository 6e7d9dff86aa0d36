"""All kinds of faults, and which of them a seed has.

Each seed has only some kinds. With all kinds at once nothing would ever progress far enough to reach the rare states.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """The order matters: `draw_faults` draws one number for each kind, in this order."""

    CRASH_BEFORE_WRITE = "the operator dies before it sends a write"
    CRASH_AFTER_WRITE = "the operator dies after the API server applied a write, before it receives the answer"
    OPERATOR_KILLED = "the operator dies at a random time"
    TWO_OPERATORS = "two operators run at the same time"
    ANSWER_LOST = "the API server applies a write, and its answer is lost"
    LATE_WRITE = "the API server applies a write long after the operator gave it up"
    CONFLICT = "the API server answers a write with 409, although there is no conflict"
    TOO_MANY_REQUESTS = "the API server answers a write with 429"
    SERVER_ERROR = "the API server answers a write with 500"
    READ_ERROR = "the API server answers a read with 503"
    QUOTA_EXCEEDED = "a quota refuses every new object for some time"
    SLOW_ANSWERS = "requests take seconds"
    STALE_READ = "a read returns the objects as they were some seconds ago"
    STALE_CONTROLLER = "the StatefulSet and Job controllers act on a cache that is some seconds old"
    WATCH_LOST = "a watch breaks and loses the events until it is opened again"
    WATCH_REPEATED = "a watch delivers an event twice"
    WATCH_REORDERED = "a watch delivers events seconds late and in another order"
    CLOCK_FORWARD = "the operator's clock jumps forward"
    CLOCK_BACK = "the operator's clock jumps back"
    DRIVER_CRASH = "the driver dies with an exit code after which a restart helps"
    DRIVER_PERMANENT = "the driver ends with an exit code after which a restart does not help"
    DRIVER_UNREACHABLE = "the driver does not answer for some time"
    DRIVER_HANGS = "the driver hangs until kubelet kills it"
    SLOW_STOP = "the driver does not end within its grace period"
    EVICTION = "kubelet evicts the pod"
    DRAIN = "somebody drains the node, which deletes the pod"
    NODE_OUTAGE = "the node is disconnected, and its processes keep running"
    FORCE_DELETION = "a user force-deletes the pod, and its process keeps running"
    IMAGE_MISSING = "the image cannot be pulled for some time"
    FIGHTING_CONTROLLER = "a controller changes the StatefulSet after each write of the operator"
    BROKER_MISSING = "no broker answers the driver for some time"


SEED_PROBABILITIES = {
    Fault.TWO_OPERATORS: 0.2,
    Fault.STALE_READ: 0.2,
    Fault.FORCE_DELETION: 0.12,
    Fault.DRIVER_PERMANENT: 0.15,
    Fault.IMAGE_MISSING: 0.15,
    Fault.FIGHTING_CONTROLLER: 0.2,
}
"""By kind: the probability that a seed has it. It is DEFAULT_SEED_PROBABILITY for all other kinds."""
DEFAULT_SEED_PROBABILITY = 0.3
NO_FAULTS_PROBABILITY = 0.1
"""Probability that a seed has no faults at all: the invariants must hold in a quiet cluster too."""
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
    Fault.BROKER_MISSING: 0.4,
}
"""By kind, in a seed that has it: the probability that it happens on one occasion, such as a write."""


@dataclass
class Faults:
    """The faults of one seed. `occurred` counts those that really happened. After `active` is set to False, none
    happens any more."""

    rng: random.Random
    kinds: frozenset[Fault]
    occurred: Counter[Fault]
    active: bool = True

    def has(self, fault: Fault) -> bool:
        return self.active and fault in self.kinds

    def occurs(self, fault: Fault, weight: float = 1.0) -> bool:
        """Decides whether the fault happens now. Draws a number only if the seed has the fault. `weight` multiplies the
        probability."""
        if self.active and fault in self.kinds and self.rng.random() < weight * OCCURRENCE_PROBABILITIES[fault]:
            self.occurred[fault] += 1
            return True
        return False

    def record(self, fault: Fault) -> None:
        self.occurred[fault] += 1


def draw_faults(rng: random.Random) -> frozenset[Fault]:
    """Draws which kinds of faults a seed has."""
    if rng.random() < NO_FAULTS_PROBABILITY:
        return frozenset()
    return frozenset(fault for fault in Fault if rng.random() < SEED_PROBABILITIES.get(fault, DEFAULT_SEED_PROBABILITY))
