"""What the driver answers on `/status`: the contract between the driver, who writes it, and the operator, who reads it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from dedup_api.model import ApiModel
from dedup_api.reasons import Reason
from dedup_api.status import Progress


class Phase(StrEnum):
    """Where the driver's process is. Internal to driver and operator: people see conditions."""

    STARTING = "Starting"
    WAITING = "Waiting"
    """Something outside is missing, see `blocked_by`; the driver keeps trying."""
    RUNNING = "Running"
    STOPPING = "Stopping"


class Blocked(ApiModel):
    """What the driver waits for."""

    reason: Reason
    message: str


class Measures(ApiModel):
    """Of the metrics: what is of use beside the progress where nobody scrapes them. Sums begin with the process."""

    watermark_lag_seconds: float | None = None
    """How far the watermark is behind the clock; absent before there is one."""
    batch_phase_seconds: dict[str, float] = Field(default_factory=dict)
    state_operation_seconds: dict[str, float] = Field(default_factory=dict)
    """Of update, evict and commit, summed over the state's partitions."""
    checkpoint_bytes: float = 0
    transactions: dict[str, float] = Field(default_factory=dict)
    """Committed and aborted ones."""
    producer_reopens: float = 0


class DriverStatus(ApiModel):
    phase: Phase
    blocked_by: Blocked | None = None
    """Also set while running, when the brokers stop answering."""
    attempt: int | None = None
    generation: int | None = None
    checkpoint_begun: bool = False
    """A batch may have been planned on the checkpoint: from then on its keys belong to this job's settings."""
    committed_in_this_run: bool = False
    """A batch has committed since the process started."""
    batch_running_since: str | None = None
    """RFC 3339; absent between batches."""
    pending_since: str | None = None
    """RFC 3339: since when something outside of a batch has been due: the start-up, or records that no batch has begun to read. Absent
    while nothing is, and while the driver is blocked."""
    progress: Progress = Progress()
    measures: Measures | None = None


class TerminationMessage(ApiModel):
    """What the driver leaves in its termination log, at most 4096 bytes as JSON."""

    reason: Reason
    message: str
    status: DriverStatus | None = None
    """Of a driver that was through with what there was: there is no other way to ask one that has ended."""
