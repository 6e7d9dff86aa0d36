"""Types and limits that all parts of the operator share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""A Kubernetes object, or a part of one, as it is in YAML."""


@dataclass(frozen=True, order=True)
class Key:
    """Identifies a DedupJob in the work queue."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


MAX_MESSAGE_LENGTH = 1024
"""Characters of a message in the status. The CRD allows no more."""
