"""The spec of a DedupJob, as users write it.

`kubectl explain` and docs/reference.md show the descriptions, so each states the unit and the default. The API server
evaluates the rules and shows their messages, so each names the field and the remedy. A rule that a schema or CEL can
express stands here and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

from dedup_api.checkpoint import CHECKPOINT_EDITS, Checkpoint, Claim
from dedup_api.driver import Driver
from dedup_api.field_rules import BROKERS_PATTERN, CRON_PATTERN, Topic, duration_rules, topic_rules
from dedup_api.model import ApiModel, rules
from dedup_api.names import MAX_NAME_LENGTH
from dedup_api.records import DeadLetter, EventTime, Format, Framing, Key, OnInvalid, OnLate, OnTombstone
from dedup_api.topics import build_topic_rules
from dedup_api.unions import UnionModel

DEFAULT_MAX_OFFSETS_PER_TRIGGER = 200_000
"""Records. A batch of this size needs less than the default memory, and a few seconds on two cores."""

MAX_PARALLELISM = 64
"""State partitions. Each one is a task and a set of files in every batch; more do not make a driver faster."""


DEFAULT_PROCESSING_TIME = "5s"


class StartingOffsets(StrEnum):
    EARLIEST = "Earliest"
    LATEST = "Latest"


class OnDataLoss(StrEnum):
    FAIL = "Fail"
    CONTINUE = "Continue"


class Source(ApiModel):
    """The Kafka topic that the driver reads."""

    bootstrap_servers: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="Kafka brokers that the driver connects to first: host:port; separate several with commas. Required.",
        json_schema_extra=rules(
            (
                f"self.matches('{BROKERS_PATTERN}')",
                "spec.source.bootstrapServers must be host:port, such as kafka.kafka.svc:9092; separate several with "
                "commas and without spaces",
            )
        ),
    )
    topic: Topic = Field(
        description="Topic that holds the duplicates. One literal name. Required.", json_schema_extra=topic_rules("spec.source.topic")
    )
    starting_offsets: StartingOffsets = Field(
        StartingOffsets.EARLIEST,
        description="Where a job without a checkpoint starts to read. Earliest (default) reads everything that the "
        "topic holds; Latest reads only records that arrive later. A job with a checkpoint always "
        "continues where it stopped.",
    )
    max_offsets_per_trigger: int = Field(
        DEFAULT_MAX_OFFSETS_PER_TRIGGER,
        ge=1,
        le=10_000_000,
        description="Maximum size of one micro-batch, over all partitions, so that a backlog cannot exhaust the "
        f"driver's memory. Records; default {DEFAULT_MAX_OFFSETS_PER_TRIGGER}.",
    )
    on_data_loss: OnDataLoss = Field(
        OnDataLoss.FAIL,
        description="What the driver does if the topic no longer holds records that it has not read, because of the "
        "topic's retention or because the topic was recreated. Fail (default) stops the job and names the "
        "records; Continue skips them, counts them in status.progress.lost and logs their offset ranges.",
    )
    consumer_group: Annotated[str, StringConstraints(min_length=1, max_length=249)] | None = Field(
        None,
        description="Consumer group to which the driver copies its position after each batch, so that lag tools see "
        "it. The driver does not read it back. Before its checkpoint uses a group for the first time, the driver refuses a group "
        "with members, or with offsets on the topic that are not its own. dedup.<namespace>.<name> when absent.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-zA-Z0-9._-]+$')",
                "spec.source.consumerGroup must hold only letters, digits, '.', '_' and '-': choose another name",
            )
        ),
    )


class AvailableNow(ApiModel):
    """A run that processes the records that the topic holds when the run starts, and then ends."""

    schedule: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None,
        description="When runs start: five fields as in crontab (minute, hour, day of month, month, day of week 0-6), or one of "
        "@hourly, @daily, @weekly, @monthly and @yearly, in UTC. For 03:00 in Berlin write 1 or 2. A run that is due while another "
        "run is active is skipped. When absent, the driver runs once, and again whenever spec.restartNonce or a setting of the "
        "driver changes.",
        json_schema_extra=rules(
            (
                f"self.matches('{CRON_PATTERN}')",
                "spec.trigger.availableNow.schedule must have five fields as in crontab (minute 0-59, hour 0-23, day 1-31, month 1-12, "
                "day of week 0-6, without ranges of names such as mon-fri), such as */10 * * * *, or be one of @hourly, @daily, "
                "@weekly, @monthly and @yearly",
            )
        ),
    )


class Trigger(UnionModel):
    """When the driver runs a micro-batch. At most one member."""

    union_path = "spec.trigger"
    union_required = False
    union_default: ClassVar = {"processingTime": DEFAULT_PROCESSING_TIME}
    union_stored_defaults: ClassVar = {"processing_time": DEFAULT_PROCESSING_TIME}

    processing_time: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        None,
        description="The driver runs all the time. This is the time from the start of one micro-batch to the start of "
        "the next; with 0s the next one starts as soon as the last one has ended. Duration; "
        f"{DEFAULT_PROCESSING_TIME} when spec.trigger has no member.",
        json_schema_extra=duration_rules("spec.trigger.processingTime", zero_allowed=True),
    )
    available_now: AvailableNow | None = Field(
        None,
        description="The driver processes the records that the topic holds when the driver starts, in micro-batches of "
        "at most spec.source.maxOffsetsPerTrigger records, and then ends. Write availableNow: {} for one run: the "
        "braces are needed. Absent by default.",
    )


class Delivery(StrEnum):
    EXACTLY_ONCE = "ExactlyOnce"
    AT_LEAST_ONCE = "AtLeastOnce"


class Ordering(StrEnum):
    PER_KEY = "PerKey"
    NONE = "None"


class KafkaSink(ApiModel):
    """A Kafka topic on the brokers of the source."""

    topic: Topic = Field(
        description="Topic for the deduplicated records. The topic must exist. The driver writes key, value and "
        "headers unchanged, and with ExactlyOnce also the timestamp. Required.",
        json_schema_extra=topic_rules("spec.sink.kafka.topic"),
    )
    delivery: Delivery = Field(
        Delivery.EXACTLY_ONCE,
        description="ExactlyOnce (default) writes each batch in one Kafka transaction: consumers with "
        "isolation.level=read_committed see every event once, even if the driver is killed. AtLeastOnce "
        "writes without transactions: if the driver is killed, the records of one batch may be written "
        "again.",
    )
    ordering: Ordering = Field(
        Ordering.PER_KEY,
        description="PerKey (default) writes the records of one Kafka key and source partition in the order in which "
        "the driver read them. None gives no order within a batch and saves the driver a sort.",
    )
    transactional_id_prefix: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None,
        description="Prefix of the job's transactional id and of its progress topic <prefix>-progress, for brokers "
        "that grant rights by prefix. It cannot be changed once the job has a checkpoint. "
        "dedup.<namespace>.<name> when absent.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-zA-Z0-9._-]+$')",
                "spec.sink.kafka.transactionalIdPrefix must hold only letters, digits, '.', '_' and '-': choose another prefix",
            )
        ),
    )


class ConsoleSink(ApiModel):
    """The driver's log, for a first try."""


class Sink(UnionModel):
    """Where the driver writes the deduplicated records. Exactly one member."""

    union_path = "spec.sink"

    kafka: KafkaSink | None = Field(None, description="Write to a Kafka topic on the brokers of the source.")
    console: ConsoleSink | None = Field(
        None, description="Print the first 20 records of each batch to the driver's log, for a first try. Write {}."
    )


class OnIncompatibleChange(StrEnum):
    BLOCK = "Block"


class DedupJobSpec(ApiModel):
    """What the DedupJob reads, how it deduplicates, and where it writes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *build_topic_rules(),
            (
                "!has(self.key.fields) || !has(self.eventTime.field) || self.key.fields.all(path, "
                "!path.startsWith(self.eventTime.field + '.') && !path.startsWith(self.eventTime.field + '[') && "
                "!self.eventTime.field.startsWith(path + '.') && !self.eventTime.field.startsWith(path + '['))",
                "spec.eventTime.field is a part of one of spec.key.fields or contains one (as a contains a.b), but a "
                "field cannot be a value and an object at once: choose another field",
            ),
            (
                "self.format != 'Raw' || self.key.from != 'Fields'",
                "spec.format is Raw, so the payload has no fields: set spec.key.from to Header, KafkaKey or ValueHash, or "
                "set spec.format to Json",
            ),
            (
                "self.format != 'Raw' || self.eventTime.from != 'Field'",
                "spec.format is Raw, so the payload has no fields: set spec.eventTime.from to Header, KafkaTimestamp or "
                "Arrival, or set spec.format to Json",
            ),
            (
                "self.format != 'Raw' || !has(self.framing) || self.framing == 'None'",
                "spec.framing is for spec.format: Json; with Raw the driver does not look into the value: remove spec.framing",
            ),
            (
                "(self.onLate != 'DeadLetter' && self.onInvalid != 'DeadLetter' && "
                "(!has(self.onTombstone) || self.onTombstone != 'DeadLetter')) || has(self.deadLetter)",
                "spec.deadLetter.topic is missing, but spec.onLate, spec.onInvalid or spec.onTombstone is DeadLetter: name the topic",
            ),
            (
                "!has(self.deadLetter) || has(self.sink.kafka)",
                "spec.deadLetter needs a Kafka sink, because its topic is on the brokers of the sink: set "
                "spec.sink.kafka, or remove spec.deadLetter",
            ),
        )
    )

    source: Source = Field(description="The Kafka topic that the driver reads. Required.")
    format: Format = Field(
        Format.JSON,
        description="How the value of a record is written. Json (default): one JSON object; a record with another "
        "value is invalid. Raw: the driver does not parse the value, so neither the key nor the event time "
        "can be a field of it.",
    )
    framing: Framing | None = Field(
        None,
        description="What stands before the JSON in the value. None: nothing. SchemaRegistry: a zero byte and the four bytes "
        "of a schema's id, as the serializers of a schema registry write them; the driver skips them to read the record, writes "
        "them unchanged, and also reads values without them. None when absent.",
    )
    key: Key = Field(description="What identifies an event: two records with the same key are copies of one event. Required.")
    event_time: EventTime = Field(description="When an event happened. The driver compares event times with the watermark. Required.")
    watermark: Annotated[str, StringConstraints(max_length=32)] = Field(
        description="How far apart two copies of an event may be, in event time, so that the driver still removes the "
        "second one. A record that arrives more than this behind the newest records around it is late. A "
        "longer watermark needs more memory and disk. Duration; required.",
        json_schema_extra=duration_rules("spec.watermark", zero_allowed=False),
    )
    on_late: OnLate = Field(
        OnLate.DROP,
        description="What the driver does with a record whose event time is behind the watermark: it may have removed "
        "the key of an earlier copy already. The driver always counts the record. Drop (default) does not "
        "write it; DeadLetter writes it to spec.deadLetter.topic; Emit writes it to the sink with the "
        "header dedup-late: true, even if it is a duplicate.",
    )
    on_invalid: OnInvalid = Field(
        OnInvalid.FAIL,
        description="What the driver does with a record that has no readable payload, key or event time. The driver "
        "always counts the record. Fail (default) stops the job and names the record; Drop does not write "
        "it; DeadLetter writes it to spec.deadLetter.topic.",
    )
    on_tombstone: OnTombstone | None = Field(
        None,
        description="What the driver does with a record that has no value (a tombstone, which deletes its Kafka key in a "
        "compacted topic). Fail, Drop and DeadLetter: the same as for spec.onInvalid. Pass writes it to the sink; it counts as "
        "unique, is never late and never a copy (so copies of it are written too), is timed by its Kafka timestamp, and (with "
        "spec.sink.kafka.ordering: PerKey) keeps its place among the records of its Kafka key. When absent, it is an event if "
        "neither key nor event time come from the payload, and otherwise invalid.",
    )
    dead_letter: DeadLetter | None = Field(
        None,
        description="Where the driver writes records that cannot be deduplicated. Required if spec.onLate, spec.onInvalid or "
        "spec.onTombstone is DeadLetter.",
    )
    trigger: Trigger = Field(
        Trigger(processing_time=DEFAULT_PROCESSING_TIME),
        description=f"When the driver runs a micro-batch. At most one member; processingTime: {DEFAULT_PROCESSING_TIME} when absent.",
    )
    sink: Sink = Field(
        description=f"Where the driver writes the deduplicated records. Exactly one of {' and '.join(Sink.list_members())}. Required."
    )
    checkpoint: Checkpoint = Field(
        Checkpoint(claim=Claim()),
        description="Where the driver stores the keys that it has seen and its position in the topic. At most one of "
        "claim and existing; a claim of its own when absent.",
    )
    on_incompatible_change: OnIncompatibleChange = Field(
        OnIncompatibleChange.BLOCK,
        description="What the operator does with an edit that does not fit the stored keys, such as another spec.key. "
        "Block (default): the driver continues with the old settings, and the condition Ready names the "
        "field.",
    )
    parallelism: int | None = Field(
        None,
        ge=1,
        le=MAX_PARALLELISM,
        description="Number of state partitions, which is the number of tasks that deduplicate at the same time. "
        "Integer; the CPU limit, rounded up, when absent. It cannot be changed once the job has a "
        "checkpoint.",
    )
    driver: Driver = Field(Driver(), description="The driver's pod.")
    suspend: bool = Field(
        False,
        description="true: the operator stops the driver after the current batch and keeps its checkpoint. false "
        "(default): the driver runs, and continues where it stopped.",
    )
    restart_nonce: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Change this number to restart the driver after the current batch, or to run it again with "
        "spec.trigger.availableNow. Integer, at least 0; absent by default.",
    )


OBJECT_RULES = rules(
    (
        f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
        f"metadata.name is too long: use at most {MAX_NAME_LENGTH} characters, because the names of the driver and its pod are longer",
    ),
    (
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must begin with a letter and hold only lower-case letters, digits and '-', because it is part "
        "of the name of a Service",
    ),
    *CHECKPOINT_EDITS,
)
"""Rules on the whole object. Of the metadata, the rules of a CRD can only read the name and generateName."""
