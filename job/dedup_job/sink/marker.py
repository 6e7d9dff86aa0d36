"""The marker: what the progress topic says about the newest batch in the output, and what follows from it. Pure.

The driver writes a marker in the same Kafka transaction as the rows of its batch, so the output holds both or neither.
"""

from __future__ import annotations

from enum import Enum

from dedup_api.exits import ExitCode
from dedup_api.model import ApiModel
from dedup_job.errors import JobError


class Marker(ApiModel):
    """The value of the progress topic's record. Implements `checkpoint.last_delivered.LastDelivered`."""

    batch: int
    """The newest batch whose rows are in the output; NOTHING_DELIVERED before the first."""
    entry: str
    """The complete offset log entry of that batch. It tells a replay from another batch of the same number, and
    recovery can write it back where a file system lost it. Empty where no batch was written in a transaction before."""
    attempt: int
    """The start of the driver that wrote it. For information only: no decision depends on it."""
    rows: int
    """Records of the batch in the output."""

    @property
    def place(self) -> str:
        return "the marker in the progress topic"

    def get_entry(self, batch: int) -> str | None:
        return self.entry if self.batch == batch and self.entry else None

    def is_past(self, batch: int) -> bool:
        return self.batch > batch

    def may_run_again(self, batch: int) -> bool:
        """The first marker has no entry: its batch was written without a transaction.

        So the sink could not tell whether a replay is the batch in the output.
        """
        return self.batch < batch or (self.batch == batch and bool(self.entry))


class Step(Enum):
    DELIVER = "deliver"
    SKIP = "skip"
    """The batch is in the output: the sink only reads its rows, so that Spark stores the keys."""


def decide_step(marker: Marker, batch: int, entry: str) -> Step:
    """JobError with SINK_PROGRESS_LOST unless the marker is that of the batch before, or of this very batch."""
    if marker.batch == batch - 1:
        return Step.DELIVER
    if marker.batch != batch:
        message = f"the driver must continue with batch {batch}, but the progress topic says that batch {marker.batch} was written last"
        raise JobError(ExitCode.SINK_PROGRESS_LOST, message)
    if marker.entry != entry:
        message = f"the output contains batch {batch} with other offsets than the checkpoint. They do not belong together"
        raise JobError(ExitCode.SINK_PROGRESS_LOST, message)
    return Step.SKIP
