"""The small values that network, operators and invariants share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulation.api_server import Address, Json


@dataclass(frozen=True)
class Write:
    verb: str
    """create, replace, status, delete; report for an event that the operator tells people."""
    address: Address | None
    body: Json
    """As it was sent."""
    last_reads: dict[Address, Json | None]
    """What its writer had read by then."""
    previous_reads: Mapping[Address, Json | None] = field(default_factory=dict)
    """The read of a DedupJob before the last one: a round reads it twice, and either may be the older."""
    versions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """UID and resourceVersion of all that its writer has ever read, numbered as it came. Goes on growing while the write is on its way."""
    known: int = 0
    """How many of them when it was issued."""

    @property
    def kind(self) -> str:
        return self.address.kind.value if self.address is not None else "events"

    def has_read(self, body: Json) -> bool:
        """Whether its writer knew this version when it issued the write."""
        metadata = body["metadata"]
        return self.versions.get((metadata["uid"], metadata["resourceVersion"]), self.known) < self.known

    @property
    def weight(self) -> float:
        """How likely something befalls it: a status is written ten times as often as anything else, and less hangs on it."""
        return 0.5 if self.verb in {"status", "report"} else 3.0

    def __str__(self) -> str:
        return f"{self.verb} {self.address if self.address is not None else self.body.get('reason', 'event')}"
