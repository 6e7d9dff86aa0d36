"""Every failure that the operator tells apart. Each edge translates what it sees into one of these, once."""

from __future__ import annotations


class DedupOperatorError(Exception):
    """Base of all of them."""


class ApiUnavailable(DedupOperatorError):
    """The API server did not answer, or asked for patience; trying again later is right."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the server asked for."""


class ApiConflict(DedupOperatorError):
    """The observed moved between the read and the write; the next round sees it as it is."""


class ApiRefused(DedupOperatorError):
    """The API server will not do it: a quota, a policy, a webhook, missing rights. The message is the server's."""

    kind: str = ""
    """Of the child that was to be written."""


class CheckpointTaken(DedupOperatorError):
    """The folder that a job wants for its checkpoint is another's. The message is who has it."""


class NameTaken(DedupOperatorError):
    """A child's name belongs to an object that is not ours."""
