"""What can go wrong between operator and API server, and at which write it does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    KILL_AFTER = "kill-after"
    """The operator is killed when the write is applied, before it hears of it."""
    KILL_BEFORE = "kill-before"
    """The operator is killed as it sends the write; it is not applied."""
    LOSE_ANSWER = "lose-answer"
    """The write is applied and the connection is cut."""
    CONFLICT = "409"
    TOO_MANY = "429"
    ERROR = "500"
    """The write is answered with this status, and not applied."""
    SWALLOW_ONE = "swallow-one"
    """Each watch loses the next event after the write."""
    SWALLOW_ALL = "swallow-all"
    """The watches lose all events from the write on, until they are renewed."""
    OLD_LIST = "old-list"
    """For some seconds lists are answered as they were before the write."""
    KILL_INTO_THE_PAST = "kill-old-list"
    """Both: the next operator begins with lists, and so with watches, from before the write."""
    STAND_STILL = "stand-still"
    """From the write on nothing gets through for some seconds, watches included."""
    HANG = "hang"
    """The write is applied, and never answered: the operator's own patience ends it."""


SLOW = {Fault.HANG}
"""Take half a minute each, which is the operator's timeout."""


@dataclass(frozen=True, order=True)
class Pace:
    """How often the operator looks without being told. Between two short pauses every lost event is made up for in a moment."""

    resync_seconds: float
    """Between two looks at a job that it knows."""
    relist_seconds: float
    """Between two lists of all jobs, which find those that it does not know."""


NEVER_SECONDS = 600.0
"""Longer than any run."""
OFTEN = Pace(1, 300)
"""As shipped but for the pause between two looks, which is 15 s: a run would mostly wait for it."""
BY_LIST = Pace(NEVER_SECONDS, 3)
"""What no event tells only the list of all jobs finds."""
BY_WATCH = Pace(NEVER_SECONDS, NEVER_SECONDS)
"""And this only a watch that is renewed."""
HEALED_BY = {Fault.SWALLOW_ONE: BY_LIST, Fault.SWALLOW_ALL: BY_WATCH}
"""What is left to make up for lost events, where looks are rare."""


@dataclass(frozen=True)
class Plan:
    """`fault` happens at write number `at`, counted from the moment at which the proxy is armed; 1 is the first. At 0 it happens before
    all of them: what is lost then is what people do."""

    fault: Fault
    at: int
    pace: Pace = OFTEN
