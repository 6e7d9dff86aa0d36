"""The status of a DedupJob, which the operator writes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic.config import JsonDict

from dedup_api.model import ApiModel

Text = Annotated[str, StringConstraints(max_length=1024)]
Name = Annotated[str, StringConstraints(max_length=253)]
Time = Annotated[str, StringConstraints(max_length=64)]
"""RFC 3339 in UTC: whole seconds, as Kubernetes writes times; milliseconds for event times."""

_DATE_TIME: JsonDict = {"format": "date-time"}


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """In the order in which `kubectl describe` lists them."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    WARNING = "Warning"
    CHECKPOINT_READY = "CheckpointReady"
    DRIVER_RUNNING = "DriverRunning"
    PROGRESS_RECENT = "ProgressRecent"


class Condition(ApiModel):
    """One aspect of the job's state, in the form that Kubernetes gives to conditions."""

    type: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="Ready is always present and sums up the job. Reconciling, Stalled and Warning are present only while "
        "they are True; a job with a Warning works, but does something that is probably not wanted. CheckpointReady, "
        "DriverRunning and ProgressRecent are details."
    )
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="The cause; docs/reasons.md explains each reason and its remedy."
    )
    message: Text = Field(description="The cause in a sentence, with the remedy and the field to change if there is one.")
    last_transition_time: Time = Field(
        description="Time at which the status of the condition last changed. RFC 3339 in UTC.", json_schema_extra=_DATE_TIME
    )
    observed_generation: int = Field(description="metadata.generation of the DedupJob that the condition describes.")


class DriverExit(ApiModel):
    """How one start of the driver ended."""

    exit_code: int = Field(description="Exit code of the driver's container; docs/exit-codes.md explains each code.")
    reason: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="The cause; docs/reasons.md explains each reason and its remedy."
    )
    message: Text = Field(description="The driver's last message.")
    finished_at: Time = Field(description="Time at which the driver ended. RFC 3339 in UTC.", json_schema_extra=_DATE_TIME)


class DriverState(ApiModel):
    """The driver's pod."""

    pod: Name | None = Field(None, description="Name of the driver's pod; absent while no pod exists.")
    started_at: Time | None = Field(
        None, description="Time at which the driver's container started. RFC 3339 in UTC.", json_schema_extra=_DATE_TIME
    )
    restarts: int = Field(0, description="Number of times that kubelet has restarted the container of this pod.")
    last_exits: list[DriverExit] = Field(
        default_factory=list,
        max_length=5,
        description="The last exits of the driver, newest first, at most 5.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class CheckpointState(ApiModel):
    """The checkpoint, as the operator observes it."""

    claim: Name | None = Field(None, description="Name of the volume claim.")
    folder: Name | None = Field(None, description="Folder on the volume, with spec.checkpoint.existing.")
    generation: int | None = Field(
        None, description="Number of the checkpoint generation. The first is 1; a new generation starts without stored keys."
    )
    keys_stored: bool | None = Field(
        None,
        description="true once a driver may have stored keys here. From then on the API server refuses an edit of "
        "spec.checkpoint.existing, and the operator blocks edits that do not fit the keys.",
    )
    attempt: int | None = Field(None, description="Number of the latest driver start on this checkpoint.")
    identity: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Hash of the settings that the stored keys depend on. The operator blocks an edit that would change it."
    )


class Progress(ApiModel):
    """What the job has processed since its checkpoint was created. While the numbers change, the operator updates them
    at most every 10 seconds; metrics are live."""

    observed_at: Time | None = Field(
        None,
        description="Time at which the operator read these numbers from the driver. It changes only together with the "
        "numbers. RFC 3339 in UTC.",
        json_schema_extra=_DATE_TIME,
    )
    batch: int | None = Field(None, description="Number of the last committed micro-batch; the first is 0.")
    watermark: Time | None = Field(
        None, description="Watermark: records with an earlier event time are late. RFC 3339 in UTC.", json_schema_extra=_DATE_TIME
    )
    rows_in: int = Field(0, description="Records read from the source topic.")
    rows_out: int = Field(0, description="Records written to the sink: unique ones, and late ones with spec.onLate: Emit.")
    unique: int = Field(0, description="Records that were the first with their key.")
    duplicates: int = Field(0, description="Records that the driver removed because their key was already stored.")
    late: int = Field(0, description="Records whose event time was behind the watermark, with any value of spec.onLate.")
    late_emitted: int = Field(
        0, description="Late records that the driver wrote to the sink with spec.onLate: Emit. They may be duplicates."
    )
    invalid: int = Field(0, description="Records without a readable payload, key or event time, with any value of spec.onInvalid.")
    invalid_by_reason: dict[Annotated[str, StringConstraints(max_length=64)], int] = Field(
        default_factory=dict, max_length=32, description="Invalid records by reason; docs/records.md explains each reason."
    )
    dead_letters: int = Field(0, description="Records written to spec.deadLetter.topic.")
    lost: int = Field(
        0,
        description="Records that the driver skipped because the topic no longer held them, with "
        "spec.source.onDataLoss: Continue. This is an upper bound.",
    )
    input_rows_per_second: int | None = Field(None, description="Records per second that the driver read in the last micro-batch.")
    lag_records: int | None = Field(
        None,
        description="Records in the source topic that no committed micro-batch has read yet, with those of open transactions.",
    )
    open_transaction_records: int | None = Field(
        None,
        description="Those of these records that wait for the end of a transaction in the source topic. This is an upper bound.",
    )
    lag_seconds: int | None = Field(
        None, description="Seconds that the oldest of these records has been in the topic, by its Kafka timestamp; 0 when there are none."
    )
    state_rows: int | None = Field(None, description="Number of stored keys.")
    state_bytes: int | None = Field(None, description="Bytes of memory and disk that the stored keys take.")
    last_progress_time: Time | None = Field(
        None, description="Time at which the last micro-batch committed. RFC 3339 in UTC.", json_schema_extra=_DATE_TIME
    )


class DedupJobStatus(ApiModel):
    """What the operator reports about the DedupJob."""

    observed_generation: int = Field(description="metadata.generation that the operator last acted on; -1 before the first time.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="State of the job. The condition Ready sums it up.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    driver: DriverState | None = Field(None, description="The driver's pod.")
    checkpoint: CheckpointState | None = Field(None, description="The checkpoint, as the operator observes it.")
    progress: Progress | None = Field(None, description="What the job has processed since its checkpoint was created.")
