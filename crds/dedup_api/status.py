"""What the operator reports: the status of a DedupJob."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic.config import JsonDict

from dedup_api.model import ApiModel

Text = Annotated[str, StringConstraints(max_length=1024)]
Name = Annotated[str, StringConstraints(max_length=253)]
Time = Annotated[str, StringConstraints(max_length=64)]
"""RFC 3339 in UTC, whole seconds where Kubernetes writes it, milliseconds for event times."""

_DATE_TIME: JsonDict = {"format": "date-time"}


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """In the order in which they are listed."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    CHECKPOINT_READY = "CheckpointReady"
    DRIVER_RUNNING = "DriverRunning"
    PROGRESS_RECENT = "ProgressRecent"


class Condition(ApiModel):
    """One aspect of the job's state, as Kubernetes writes conditions."""

    type: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="Ready always; Reconciling and Stalled only while True; CheckpointReady, DriverRunning and ProgressRecent are details."
    )
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="One word for the cause; docs/reasons.md has each with its remedy."
    )
    message: Text = Field(description="The cause in a sentence, with the field to change where there is one.")
    last_transition_time: Time = Field(description="When status last changed.", json_schema_extra=_DATE_TIME)
    observed_generation: int = Field(description="metadata.generation that the condition was computed from.")


class DriverExit(ApiModel):
    """How a run of the driver ended."""

    exit_code: int = Field(description="Exit code of the driver's container.")
    reason: Annotated[str, StringConstraints(max_length=64)] = Field(description="One word for the cause; see docs/reasons.md.")
    message: Text = Field(description="The driver's last message.")
    finished_at: Time = Field(description="When it ended.", json_schema_extra=_DATE_TIME)


class DriverState(ApiModel):
    """The pod that does the work."""

    pod: Name | None = Field(None, description="Name of the driver's pod; absent while there is none.")
    started_at: Time | None = Field(None, description="When the running container started.", json_schema_extra=_DATE_TIME)
    restarts: int = Field(0, description="Restarts of the container in the present pod.")
    last_exits: list[DriverExit] = Field(
        default_factory=list,
        max_length=5,
        description="The last exits, newest first, at most 5.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class CheckpointState(ApiModel):
    """The job's memory."""

    claim: Name | None = Field(None, description="Name of the volume claim.")
    generation: int | None = Field(None, description="Life of the checkpoint: 1 for the first. Changes only when the state is begun anew.")
    attempt: int | None = Field(None, description="How often a driver was started on this checkpoint.")
    identity: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Hash of all settings that the stored keys depend on; an edit that would change it is blocked."
    )


class Progress(ApiModel):
    """What the job has done since its checkpoint began. Patched at most once a minute; the metrics are live."""

    batch: int | None = Field(None, description="Number of the last committed batch; 0 is the first.")
    watermark: Time | None = Field(None, description="Event time up to which records are late.", json_schema_extra=_DATE_TIME)
    rows_in: int = Field(0, description="Records read.")
    rows_out: int = Field(0, description="Records written to the sink: unique ones, and late ones with spec.onLate: Emit.")
    unique: int = Field(0, description="Records that were the first of their event.")
    duplicates: int = Field(0, description="Copies removed.")
    late: int = Field(0, description="Records whose event time was behind the watermark, whatever spec.onLate did with them.")
    late_emitted: int = Field(
        0, description="Late records written to the sink unchecked, with spec.onLate: Emit; outside of the guarantee."
    )
    invalid: int = Field(0, description="Records without a readable payload, key or event time, whatever spec.onInvalid did with them.")
    invalid_by_reason: dict[Annotated[str, StringConstraints(max_length=64)], int] = Field(
        default_factory=dict, max_length=32, description="The invalid records by what was wrong with them; docs/records.md has each word."
    )
    dead_letters: int = Field(0, description="Records written to spec.deadLetter.topic.")
    lost: int = Field(
        0, description="Records skipped because the topic no longer held them, with spec.source.onDataLoss: Continue. An upper bound."
    )
    input_rows_per_second: int | None = Field(None, description="Records read per second in the last batch.")
    lag_records: int | None = Field(None, description="Records in the topic that no committed batch has read yet.")
    lag_seconds: int | None = Field(
        None, description="How long the oldest of them has been in the topic, by its Kafka timestamp, in seconds; 0 where none waits."
    )
    state_rows: int | None = Field(None, description="Keys remembered.")
    state_bytes: int | None = Field(None, description="Memory and files that the keys take, in bytes.")
    last_progress_time: Time | None = Field(None, description="When the last batch committed.", json_schema_extra=_DATE_TIME)


class DedupJobStatus(ApiModel):
    """What the operator reports about a DedupJob."""

    observed_generation: int = Field(description="metadata.generation that the operator last acted on; -1 before that.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="The job's state. Ready sums it up.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    driver: DriverState | None = Field(None, description="The pod that does the work.")
    checkpoint: CheckpointState | None = Field(None, description="The job's memory.")
    progress: Progress | None = Field(None, description="What the job has done since its checkpoint began.")
