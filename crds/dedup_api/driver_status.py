"""What the driver writes and the operator reads: the answer on `/status`, and the termination message.

The status of a DedupJob is `dedup_api.status`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from dedup_api.model import ApiModel
from dedup_api.status import Progress


class Phase(StrEnum):
    """State of the driver's process. Only the driver and the operator use it; users see conditions."""

    STARTING = "Starting"
    WAITING = "Waiting"
    """A broker, a topic or the lock is missing, see `blocked_by`. The driver retries."""
    RUNNING = "Running"
    STOPPING = "Stopping"

    @classmethod
    def _missing_(cls, value: object) -> Phase | None:
        """A phase that only a newer job image knows counts as Starting, which claims the least."""
        return cls.STARTING if isinstance(value, str) else None


ReasonText = Annotated[str, StringConstraints(min_length=1, max_length=64)]
"""A `Reason`, or a reason of a newer job image that this version does not know. The length is that of a condition's
reason."""


class Blocked(ApiModel):
    """What the driver waits for, as reason and sentence."""

    reason: ReasonText
    message: str


class DriverWarning(ApiModel):
    """Something that the user must look at, although the driver works."""

    reason: ReasonText
    message: str


class Measures(ApiModel):
    """Selected metrics, for clusters where nothing scrapes metrics. Sums start at 0 with the process."""

    watermark_lag_seconds: float | None = None
    """Seconds that the watermark is behind the clock; absent before the first watermark."""
    batch_phase_seconds: dict[str, float] = Field(default_factory=dict)
    state_operation_seconds: dict[str, float] = Field(default_factory=dict)
    """By operation (update, evict, commit), summed over the state partitions."""
    checkpoint_bytes: float = 0
    transactions: dict[str, float] = Field(default_factory=dict)
    """By result: committed or aborted."""
    producer_reopens: float = 0


class DriverStatus(ApiModel):
    phase: Phase
    blocked_by: Blocked | None = None
    """Set while the driver waits, and also in phase Running while no broker answers."""
    attempt: int | None = None
    """Number of this driver start on the checkpoint."""
    generation: int | None = None
    """Checkpoint generation."""
    checkpoint_has_state: bool = Field(False, alias="checkpointBegun")
    """A batch may have been planned on the checkpoint, so its stored keys belong to the settings of this job. The JSON
    name is that of version 0.1.0."""
    committed_in_this_run: bool = False
    """A batch has committed since this process started."""
    batch_running_since: str | None = None
    """Start of the current batch, RFC 3339; absent between batches."""
    pending_since: str | None = None
    """Time since which work outside of a batch is due, RFC 3339: the start of the driver, or records that no batch
    reads yet. Absent while no work is due, and while the driver is blocked."""
    reports_keys_at_end: bool = False
    """The driver says in its termination message whether keys are stored when it is asked to stop. One of version 0.1.0 does
    not."""
    batch_limit: int | None = None
    """How many records a batch may read after a batch has failed; absent while `spec.source.maxOffsetsPerTrigger` holds."""
    warnings: list[DriverWarning] = Field(default_factory=list, max_length=8)
    progress: Progress = Progress()
    measures: Measures | None = None


class TerminationMessage(ApiModel):
    """What the driver writes to its termination log: JSON of at most 4096 bytes, the limit of kubelet."""

    reason: ReasonText
    message: str
    status: DriverStatus | None = None
    """Only of a driver that has processed all records of its run: nobody can ask it on `/status` after it has ended."""
    checkpoint_has_state: bool | None = None
    """Whether keys may be stored in the driver's checkpoint. Absent when the driver has not looked."""
    attempt: int | None = None
    """The attempt of the driver that says so."""
