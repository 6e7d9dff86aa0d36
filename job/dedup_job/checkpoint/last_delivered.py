"""What recovery and the source guard need to know about the output: the newest batch whose rows it holds.

A sink that commits rows together with such a record implements this protocol. A sink that keeps no record passes None,
and recovery then lets every batch run again.
"""

from __future__ import annotations

from typing import Protocol

NOTHING_DELIVERED = -1
"""The batch number of an output that holds no rows yet."""


class LastDelivered(Protocol):
    @property
    def batch(self) -> int:
        """The newest batch whose rows are in the output; NOTHING_DELIVERED before the first."""

    @property
    def place(self) -> str:
        """Where the record is kept, for messages such as "restored from <place>"."""

    def get_entry(self, batch: int) -> str | None:
        """The offset log entry of `batch`, or None where the record does not hold it."""

    def is_past(self, batch: int) -> bool:
        """Whether the output holds a batch after `batch`."""

    def may_run_again(self, batch: int) -> bool:
        """Whether a replay of `batch` is safe: the sink can tell if the rows of the batch are in the output."""
