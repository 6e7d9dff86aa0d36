"""The driver's exit codes: the reason of each, and whether another start can help.

The numbers follow sysexits.h where that header names the case.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from dedup_api.reasons import Reason


class ExitCode(IntEnum):
    DONE = 0
    CONFIGURATION = 64
    INVALID_RECORD = 65
    TOPIC_MISSING = 66
    SOURCE_DATA_LOST = 67
    SINK_REFUSED = 68
    UNAVAILABLE = 69
    INTERNAL = 70
    SINK_PROGRESS_LOST = 71
    CHECKPOINT_NOT_WRITABLE = 73
    CHECKPOINT_DAMAGED = 74
    CHECKPOINT_LOCKED = 75
    FENCED = 76
    AUTHORIZATION = 77


STOPPED_EARLY = 143
"""Exit code of a driver with spec.trigger.availableNow that was stopped before it had read everything. It is the code
of a process that SIGTERM ends. With exit code 0 the Kubernetes Job would count as completed."""


@dataclass(frozen=True)
class ExitMeaning:
    reason: Reason
    permanent: bool
    """Another start cannot help, so the operator waits for a change of the spec or of spec.restartNonce."""


EXITS: dict[ExitCode, tuple[ExitMeaning, ...]] = {
    ExitCode.CONFIGURATION: (
        ExitMeaning(Reason.CONFIGURATION_REFUSED, permanent=True),
        ExitMeaning(Reason.CONSUMER_GROUP_TAKEN, permanent=False),
    ),
    ExitCode.INVALID_RECORD: (ExitMeaning(Reason.INVALID_RECORD, permanent=True),),
    ExitCode.TOPIC_MISSING: (
        ExitMeaning(Reason.SOURCE_TOPIC_MISSING, permanent=False),
        ExitMeaning(Reason.SINK_TOPIC_MISSING, permanent=False),
        ExitMeaning(Reason.DEAD_LETTER_TOPIC_MISSING, permanent=False),
        ExitMeaning(Reason.SOURCE_TOPIC_REPLACED, permanent=True),
        ExitMeaning(Reason.SOURCE_CLUSTER_CHANGED, permanent=True),
    ),
    ExitCode.SOURCE_DATA_LOST: (ExitMeaning(Reason.SOURCE_DATA_LOST, permanent=True),),
    ExitCode.SINK_REFUSED: (ExitMeaning(Reason.SINK_REFUSED, permanent=False),),
    ExitCode.UNAVAILABLE: (
        ExitMeaning(Reason.SOURCE_UNAVAILABLE, permanent=False),
        ExitMeaning(Reason.SINK_UNAVAILABLE, permanent=False),
        ExitMeaning(Reason.TRANSACTIONS_UNAVAILABLE, permanent=False),
    ),
    ExitCode.INTERNAL: (ExitMeaning(Reason.DRIVER_FAILED, permanent=False), ExitMeaning(Reason.OUT_OF_MEMORY, permanent=False)),
    ExitCode.SINK_PROGRESS_LOST: (ExitMeaning(Reason.SINK_PROGRESS_LOST, permanent=True),),
    ExitCode.CHECKPOINT_NOT_WRITABLE: (ExitMeaning(Reason.CHECKPOINT_NOT_WRITABLE, permanent=False),),
    ExitCode.CHECKPOINT_DAMAGED: (ExitMeaning(Reason.CHECKPOINT_DAMAGED, permanent=True),),
    ExitCode.CHECKPOINT_LOCKED: (ExitMeaning(Reason.CHECKPOINT_LOCKED, permanent=False),),
    ExitCode.FENCED: (ExitMeaning(Reason.FENCED, permanent=False),),
    ExitCode.AUTHORIZATION: (ExitMeaning(Reason.AUTHORIZATION_FAILED, permanent=False),),
}
"""Meanings of every code except 0; the usual one comes first. A streaming driver that ends with 0 and was not asked to
stop has failed too: its reason is DriverFailed, which is not permanent."""


def find_meaning(code: int, reason: str | None = None) -> ExitMeaning | None:
    """What an exit code means; None for a code that is not in EXITS.

    `reason` is the reason in the termination message. It decides between meanings that share a code.
    """
    if code not in set(EXITS):
        return None
    meanings = EXITS[ExitCode(code)]
    return next((meaning for meaning in meanings if meaning.reason == reason), meanings[0])
