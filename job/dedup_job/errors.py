"""The error that ends a driver on purpose. It knows its exit code, its reason, and a message for the user."""

from __future__ import annotations

from dedup_api.exits import EXITS, ExitCode
from dedup_api.reasons import Reason


class JobError(Exception):
    """Raised where the driver knows why it must end. Any other exception that reaches `main` is a bug and ends the
    driver with INTERNAL."""

    def __init__(self, code: ExitCode, message: str, reason: Reason | None = None) -> None:
        """`reason`: when it is not the usual one of the exit code."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or EXITS[code][0].reason


class StopRequested(Exception):
    """Raised instead of starting a batch when the driver is stopping. It is not a failure."""
