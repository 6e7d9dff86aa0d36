"""The marker: what the progress topic says about the newest batch in the output, and what follows from it. Pure.

A marker is written in the same Kafka transaction as the rows of its batch, so one is there exactly when the other is.
"""

from __future__ import annotations

from enum import Enum

from dedup_api.exits import ExitCode
from dedup_api.model import ApiModel
from dedup_job.errors import JobError

NOTHING_WRITTEN = -1
"""The batch of the marker that a new output begins with."""


class Marker(ApiModel):
    """The value of the progress topic's record."""

    batch: int
    """The newest batch whose rows are in the output; NOTHING_WRITTEN before the first."""
    entry: str
    """The offset log's entry of that batch, whole: it tells a replay from another batch of the same number, and can be put back where a
    file system lost it. Empty where no batch was written in transactions before."""
    attempt: int
    """The start of the driver that wrote it. Informs, decides nothing."""
    rows: int
    """Records of the batch in the output."""


class Step(Enum):
    DELIVER = "deliver"
    SKIP = "skip"
    """The batch is in the output: its rows are only read, so that the keys are stored."""


def decide_step(marker: Marker, batch: int, entry: str) -> Step:
    """Never guesses: JobError with SINK_PROGRESS_LOST unless the marker is that of the batch before, or of this very batch."""
    if marker.batch == batch - 1:
        return Step.DELIVER
    if marker.batch != batch:
        message = f"batch {batch} is due, and the marker in the progress topic is that of batch {marker.batch}"
        raise JobError(ExitCode.SINK_PROGRESS_LOST, message)
    if marker.entry != entry:
        message = f"batch {batch} is in the output with another range of offsets than the checkpoint plans for it"
        raise JobError(ExitCode.SINK_PROGRESS_LOST, message)
    return Step.SKIP
