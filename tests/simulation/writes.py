"""One write of an operator process, with what the process had read before it. Network, operators and invariants share
it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulation.api_server import Address, Json


@dataclass(frozen=True)
class Write:
    verb: str
    """create, replace, status, or delete; report for a Kubernetes Event."""
    address: Address | None
    """None for a Kubernetes Event."""
    body: Json
    """The body as the operator sent it."""
    last_reads: dict[Address, Json | None]
    """By address: the object that the operator had read last when it issued the write."""
    previous_reads: Mapping[Address, Json | None] = field(default_factory=dict)
    """By address of a DedupJob: the object that it had read before the last one. A reconciliation reads a DedupJob
    twice, and the second read may return an older object than the first."""
    read_versions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By UID and resourceVersion: the number of the read that returned this version first. The operator process adds to
    it while the write is on its way."""
    read_count: int = 0
    """The number of entries in `read_versions` when the operator issued the write."""

    @property
    def kind(self) -> str:
        return self.address.kind.value if self.address is not None else "events"

    def has_read(self, body: Json) -> bool:
        """Whether the operator had read this version of the object when it issued the write."""
        metadata = body["metadata"]
        return self.read_versions.get((metadata["uid"], metadata["resourceVersion"]), self.read_count) < self.read_count

    @property
    def weight(self) -> float:
        """Multiplies the probability of a fault at this write. The operator writes a status ten times as often as
        anything else, and a fault there has less effect."""
        if (self.verb, self.kind) == ("delete", "cronjobs"):
            return 8.0  # the rarest write
        return 0.5 if self.verb in {"status", "report"} else 3.0

    def __str__(self) -> str:
        return f"{self.verb} {self.address if self.address is not None else self.body.get('reason', 'event')}"
