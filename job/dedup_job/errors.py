"""The one error that ends a driver on purpose: it knows its exit code, its reason and a sentence for people."""

from __future__ import annotations

from dedup_api.exits import EXITS, ExitCode
from dedup_api.reasons import Reason


class JobError(Exception):
    """Raised where a cause is known; everything else that escapes is a bug and ends with INTERNAL."""

    def __init__(self, code: ExitCode, message: str, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or EXITS[code][0].reason


class StopRequested(Exception):
    """Refuses a batch that has not begun, because the driver is stopping. Never an error."""
