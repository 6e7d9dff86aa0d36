"""What people write: the spec of a DedupJob.

Descriptions become `kubectl explain` and the reference page, rules become CEL in the CRD. A rule that a schema or CEL
can say stands here and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from dedup_api.checkpoint import Checkpoint, Claim
from dedup_api.field_rules import BROKERS, CRON, Topic, duration_rules, quantity_rules, topic_rules
from dedup_api.model import ApiModel, rules
from dedup_api.names import MAX_NAME_LENGTH
from dedup_api.records import DeadLetter, EventTime, Format, Key, OnInvalid, OnLate
from dedup_api.unions import UnionModel

DEFAULT_MAX_OFFSETS_PER_TRIGGER = 200_000
"""Records: a batch of this size fits the default memory with room to spare, and is seconds of work on two cores."""

MAX_PARALLELISM = 64
"""State partitions: each is a task and a set of files in every batch; one driver has no use for more."""

MINIMUM_MEMORY = "1Gi"
"""Below this the JVM, RocksDB and Python do not fit beside one another and the kernel kills the driver in its first batches."""


class StartingOffsets(StrEnum):
    EARLIEST = "Earliest"
    LATEST = "Latest"


class OnDataLoss(StrEnum):
    FAIL = "Fail"
    CONTINUE = "Continue"


class Source(ApiModel):
    """The Kafka topic to read."""

    bootstrap_servers: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="Kafka brokers to begin with: host:port, several separated by commas. Required.",
        json_schema_extra=rules(
            (
                f"self.matches('{BROKERS}')",
                "spec.source.bootstrapServers must be host:port, several separated by commas without spaces, such as kafka.kafka.svc:9092",
            )
        ),
    )
    topic: Topic = Field(
        description="The topic with the duplicates: one literal name. Required.", json_schema_extra=topic_rules("spec.source.topic")
    )
    starting_offsets: StartingOffsets = Field(
        StartingOffsets.EARLIEST,
        description="Where a new checkpoint begins: Earliest (default) reads all that the topic holds, Latest only what comes after. "
        "An existing checkpoint always goes on where it stopped.",
    )
    max_offsets_per_trigger: int = Field(
        DEFAULT_MAX_OFFSETS_PER_TRIGGER,
        ge=1,
        le=10_000_000,
        description="Most records that one micro-batch takes from the topic, over all partitions, so that a backlog cannot exhaust "
        f"the driver's memory. Records; default {DEFAULT_MAX_OFFSETS_PER_TRIGGER}.",
    )
    on_data_loss: OnDataLoss = Field(
        OnDataLoss.FAIL,
        description="What to do when the topic no longer holds records that the job has not read, because retention overtook it or the "
        "topic was made again: Fail (default) stops and says which; Continue skips them, counts them in status.progress.lost and logs "
        "the ranges.",
    )
    consumer_group: Annotated[str, StringConstraints(min_length=1, max_length=249)] | None = Field(
        None,
        description="Consumer group that the job's position is copied to after each batch, so that lag tools see it. "
        "The job itself does not read it. dedup.<namespace>.<name> when absent.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-zA-Z0-9._-]+$')",
                "spec.source.consumerGroup must hold only letters, digits, '.', '_' and '-'",
            )
        ),
    )


class AvailableNow(ApiModel):
    """A run that takes what the topic holds when it begins, and ends."""

    schedule: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None,
        description="When runs begin: five fields as in crontab (minute, hour, day of month, month, day of week), in UTC. One that is due "
        "while another runs is left out. Absent: one run, and another whenever spec.restartNonce or a setting of the driver changes.",
        json_schema_extra=rules(
            (
                f"self.matches('{CRON}')",
                "spec.trigger.availableNow.schedule must have five fields as in crontab, such as */10 * * * *, or be @hourly, @daily, "
                "@weekly, @monthly or @yearly",
            )
        ),
    )


class Trigger(UnionModel):
    """When a micro-batch runs. Exactly one member."""

    union_path = "spec.trigger"
    union_help = "; to replace a member, set it to null in the same edit, even when it is only there by default"

    processing_time: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        None,
        description="The driver runs all the time. Time from the start of one batch to the start of the next; 0s starts it as soon as the "
        "last one ended. Duration; 5s where no trigger is given.",
        json_schema_extra=duration_rules("spec.trigger.processingTime", zero_allowed=True),
    )
    available_now: AvailableNow | None = Field(
        None,
        description="The driver takes what the topic holds when it starts, in batches of at most spec.source.maxOffsetsPerTrigger, and "
        "ends. Write {} for one run.",
    )


class Delivery(StrEnum):
    EXACTLY_ONCE = "ExactlyOnce"
    AT_LEAST_ONCE = "AtLeastOnce"


class Ordering(StrEnum):
    PER_KEY = "PerKey"
    NONE = "None"


class KafkaSink(ApiModel):
    """A Kafka topic on the source's brokers."""

    topic: Topic = Field(
        description="The topic for the deduplicated records; it must exist. Key, value and headers are written as they came, and with "
        "ExactlyOnce the timestamp too. Required.",
        json_schema_extra=topic_rules("spec.sink.kafka.topic"),
    )
    delivery: Delivery = Field(
        Delivery.EXACTLY_ONCE,
        description="ExactlyOnce (default) writes each batch in one Kafka transaction: consumers with isolation.level=read_committed see "
        "every event once, also when the driver is killed. AtLeastOnce writes without transactions, and a killed driver may write a "
        "batch again.",
    )
    ordering: Ordering = Field(
        Ordering.PER_KEY,
        description="PerKey (default) writes records of one Kafka key and source partition in the order in which they were read; "
        "None leaves the order within a batch open and saves a sort.",
    )
    transactional_id_prefix: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None,
        description="Beginning of the job's transactional id, and of the name of its progress topic <prefix>-progress, for brokers that "
        "grant rights by prefix. Fixed for the life of a checkpoint. dedup.<namespace>.<name> when absent.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-zA-Z0-9._-]+$')",
                "spec.sink.kafka.transactionalIdPrefix must hold only letters, digits, '.', '_' and '-'",
            )
        ),
    )


class ConsoleSink(ApiModel):
    """Prints the deduplicated records to the driver's log: the first thing to try."""


class Sink(UnionModel):
    """Where the deduplicated records go. Exactly one member."""

    union_path = "spec.sink"

    kafka: KafkaSink | None = Field(None, description="Write to a Kafka topic on the source's brokers.")
    console: ConsoleSink | None = Field(
        None, description="Print the first records of each batch to the driver's log: the first thing to try. Write {}."
    )


class ResourceRequests(ApiModel):
    """What the scheduler reserves for the driver."""

    cpu: str | int = Field(
        "500m",
        description="CPU to reserve. Quantity; default 500m.",
        json_schema_extra=quantity_rules("spec.driver.resources.requests.cpu"),
    )
    memory: str | int | None = Field(
        None,
        description="Memory to reserve. Quantity; the limit when absent.",
        json_schema_extra=quantity_rules("spec.driver.resources.requests.memory"),
    )


class ResourceLimits(ApiModel):
    """The most that the driver may use."""

    cpu: str | int = Field(
        "2",
        description="Most CPU. Also the default of parallelism. Quantity; default 2.",
        json_schema_extra=quantity_rules("spec.driver.resources.limits.cpu"),
    )
    memory: str | int = Field(
        "2Gi",
        description="Most memory, divided by the driver between the JVM, RocksDB and Python. Quantity; default 2Gi, at least "
        f"{MINIMUM_MEMORY}.",
        json_schema_extra=quantity_rules("spec.driver.resources.limits.memory"),
    )


_LARGER_REQUEST = "spec.driver.resources.requests.{0} must not be larger than limits.{0} (default {1}): lower one or raise the other"


def _within_limit(resource: str) -> str:
    """CEL: a request is not larger than its limit. A value that is no quantity is left to the field's own rule."""
    request, limit = f"string(self.requests.{resource})", f"string(self.limits.{resource})"
    return (
        f"!has(self.requests) || !has(self.limits) || !has(self.requests.{resource}) || !has(self.limits.{resource}) "
        f"|| !isQuantity({request}) || !isQuantity({limit}) || quantity({request}).compareTo(quantity({limit})) <= 0"
    )


class Resources(ApiModel):
    """CPU and memory of the driver."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (_within_limit("cpu"), _LARGER_REQUEST.format("cpu", "2")),
            (_within_limit("memory"), _LARGER_REQUEST.format("memory", "2Gi")),
            (
                "!has(self.limits) || !has(self.limits.memory) || !isQuantity(string(self.limits.memory)) "
                f"|| quantity(string(self.limits.memory)).compareTo(quantity('{MINIMUM_MEMORY}')) >= 0",
                f"spec.driver.resources.limits.memory is too little for a driver: give it at least {MINIMUM_MEMORY}",
            ),
        )
    )

    requests: ResourceRequests = Field(ResourceRequests(), description="What the scheduler reserves for the driver.")
    limits: ResourceLimits = Field(ResourceLimits(), description="The most that the driver may use.")


class OnIncompatibleChange(StrEnum):
    BLOCK = "Block"


class Driver(ApiModel):
    """The pod that does the work."""

    resources: Resources = Field(Resources(), description="CPU and memory of the driver.")


class DedupJobSpec(ApiModel):
    """What a DedupJob does."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.sink.kafka) || self.sink.kafka.topic != self.source.topic",
                "spec.sink.kafka.topic must differ from spec.source.topic: the job would read its own output for ever",
            ),
            (
                "!has(self.sink.kafka) || !has(self.sink.kafka.transactionalIdPrefix) "
                "|| (self.sink.kafka.transactionalIdPrefix + '-progress' != self.source.topic "
                "&& self.sink.kafka.transactionalIdPrefix + '-progress' != self.sink.kafka.topic)",
                "spec.sink.kafka.transactionalIdPrefix gives the progress topic the name of the job's own source or sink: choose another",
            ),
            (
                "!has(self.key.fields) || !has(self.eventTime.field) || self.key.fields.all(path, "
                "!path.startsWith(self.eventTime.field + '.') && !self.eventTime.field.startsWith(path + '.'))",
                "spec.eventTime.field lies above or below one of spec.key.fields: a field cannot be a value and an object at once",
            ),
            (
                "self.format != 'Raw' || self.key.from != 'Fields'",
                "spec.format: Raw has no fields: set spec.key.from to KafkaKey or ValueHash, or spec.format to Json",
            ),
            (
                "self.format != 'Raw' || self.eventTime.from != 'Field'",
                "spec.format: Raw has no fields: set spec.eventTime.from to KafkaTimestamp or Arrival, or spec.format to Json",
            ),
            (
                "(self.onLate != 'DeadLetter' && self.onInvalid != 'DeadLetter') || has(self.deadLetter)",
                "spec.deadLetter.topic is missing: spec.onLate or spec.onInvalid is DeadLetter; name the topic",
            ),
            (
                "!has(self.deadLetter) || has(self.sink.kafka)",
                "spec.deadLetter needs a Kafka sink, on whose brokers its topic is: set spec.sink.kafka, or remove spec.deadLetter",
            ),
            (
                "!has(self.deadLetter) || !has(self.sink.kafka) "
                "|| !(self.deadLetter.topic in [self.source.topic, self.sink.kafka.topic]) "
                "&& (!has(self.sink.kafka.transactionalIdPrefix) "
                "|| self.sink.kafka.transactionalIdPrefix + '-progress' != self.deadLetter.topic)",
                "spec.deadLetter.topic must differ from spec.source.topic, spec.sink.kafka.topic and the progress topic: choose another",
            ),
        )
    )

    source: Source = Field(description="The Kafka topic to read. Required.")
    format: Format = Field(
        Format.JSON,
        description="How the payload is written. Json (default): one JSON object in each record's value, and what is none is invalid. Raw: "
        "the value is not looked at, so neither key nor event time can be a field of it.",
    )
    key: Key = Field(description="What identifies an event. Required.")
    event_time: EventTime = Field(description="When an event happened. Required.")
    watermark: Annotated[str, StringConstraints(max_length=32)] = Field(
        description="Copies of an event closer together than this, in event time, are removed, and records that come more than this "
        "behind the newest of those around them are late. Longer needs more state. Duration; required.",
        json_schema_extra=duration_rules("spec.watermark", zero_allowed=False),
    )
    on_late: OnLate = Field(
        OnLate.DROP,
        description="What happens to records whose event time is behind the watermark, whose first copy may be forgotten; they are always "
        "counted. Drop (default) leaves them out; DeadLetter writes them to spec.deadLetter.topic; Emit writes them to the sink without "
        "looking for copies, with the header dedup-late: true, outside of the guarantee.",
    )
    on_invalid: OnInvalid = Field(
        OnInvalid.FAIL,
        description="What happens to records without a readable payload, key or event time; they are always counted. Fail (default) stops "
        "the job and names the record; Drop leaves them out; DeadLetter writes them to spec.deadLetter.topic.",
    )
    dead_letter: DeadLetter | None = Field(None, description="Where records go that cannot be deduplicated. Required by DeadLetter.")
    trigger: Trigger = Field(
        Trigger(processing_time="5s"),
        description="When a micro-batch runs. Exactly one member; processingTime 5s when absent.",
    )
    sink: Sink = Field(description=f"Where the deduplicated records go: exactly one of {' and '.join(Sink.list_members())}. Required.")
    checkpoint: Checkpoint = Field(
        Checkpoint(claim=Claim()), description="Where the job keeps which keys it has seen and how far it has read."
    )
    on_incompatible_change: OnIncompatibleChange = Field(
        OnIncompatibleChange.BLOCK,
        description="What happens to an edit that the stored keys do not fit, such as another spec.key. Block (default): the driver goes "
        "on with the settings it had, and the condition Ready says which field it is.",
    )
    parallelism: int | None = Field(
        None,
        ge=1,
        le=MAX_PARALLELISM,
        description="State partitions: how many tasks deduplicate side by side. Integer; the CPU limit rounded up when absent. "
        "Fixed for the life of a checkpoint.",
    )
    driver: Driver = Field(Driver(), description="The pod that does the work.")
    suspend: bool = Field(
        False,
        description="true stops the driver after the batch it is in and keeps everything; false (default) goes on where it stopped.",
    )
    restart_nonce: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Any change of this number restarts the driver, after the batch it is in; with spec.trigger.availableNow it runs "
        "again. Integer from 0; absent by default.",
    )


METADATA_RULES = rules(
    (
        f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
        f"metadata.name is too long: use at most {MAX_NAME_LENGTH} characters, so that the names of the driver and its pod fit",
    ),
    (
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must begin with a letter and hold only small letters, digits and '-', so that a Service can bear it",
    ),
)
"""Rules on the whole object: a CRD's schema sees nothing of the metadata but the name."""
