"""The failures that the operator distinguishes. The adapters translate all other errors into these."""

from __future__ import annotations


class DedupOperatorError(Exception):
    """Base of all errors of the operator."""


class ApiUnavailable(DedupOperatorError):
    """The API server did not answer, or asked the operator to wait. The operator retries later."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the API server asked the operator to wait."""


class ApiConflict(DedupOperatorError):
    """An object changed between the read and the write. The next reconciliation reads it again."""


class ApiRefused(DedupOperatorError):
    """The API server refuses a request because of a quota, a policy, a webhook or missing rights.

    The message is its answer.
    """

    kind: str = ""
    """The kind of the object that the operator wanted to write."""


class CheckpointTaken(DedupOperatorError):
    """The folder that the DedupJob wants for its checkpoint belongs to something else. The message is the owner."""


class NameTaken(DedupOperatorError):
    """An object that does not belong to the DedupJob has a name that the operator needs.

    The message is its kind and name.
    """
