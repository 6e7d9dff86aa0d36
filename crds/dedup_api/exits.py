"""The driver's exit codes: what each means, and whether starting again can help.

Numbers follow sysexits.h where it has a word for the case.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from dedup_api.model import ApiModel
from dedup_api.reasons import Reason


class ExitCode(IntEnum):
    DONE = 0
    CONFIGURATION = 64
    TOPIC_MISSING = 66
    UNAVAILABLE = 69
    INTERNAL = 70
    CHECKPOINT_NOT_WRITABLE = 73


@dataclass(frozen=True)
class ExitMeaning:
    reason: Reason
    permanent: bool
    """Starting again cannot help: the operator waits for a change of the spec."""


EXITS: dict[ExitCode, ExitMeaning] = {
    ExitCode.CONFIGURATION: ExitMeaning(Reason.CONFIGURATION_REFUSED, permanent=True),
    ExitCode.TOPIC_MISSING: ExitMeaning(Reason.SOURCE_TOPIC_MISSING, permanent=False),
    ExitCode.UNAVAILABLE: ExitMeaning(Reason.SOURCE_UNAVAILABLE, permanent=False),
    ExitCode.INTERNAL: ExitMeaning(Reason.DRIVER_FAILED, permanent=False),
    ExitCode.CHECKPOINT_NOT_WRITABLE: ExitMeaning(Reason.CHECKPOINT_NOT_WRITABLE, permanent=False),
}
"""Every code but 0. A streaming driver that ends with 0 without being asked has failed too: DriverFailed, not permanent."""


class TerminationMessage(ApiModel):
    """What the driver leaves in its termination log, at most 4096 bytes as JSON."""

    reason: Reason
    message: str
