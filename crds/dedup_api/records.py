"""What the spec says about single records: their format, what identifies an event, when it happened, and what cannot be deduplicated."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from dedup_api.field_rules import PATH, Topic, duration_rules, topic_rules
from dedup_api.model import ApiModel, rules


class Format(StrEnum):
    JSON = "Json"
    RAW = "Raw"


class KeyFrom(StrEnum):
    FIELDS = "Fields"
    KAFKA_KEY = "KafkaKey"
    VALUE_HASH = "ValueHash"


class Key(ApiModel):
    """What identifies an event."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.from != 'Fields' || has(self.fields)",
                "spec.key.fields is missing: name the fields of the payload that identify an event",
            ),
            (
                "self.from == 'Fields' || !has(self.fields)",
                "spec.key.fields is only for spec.key.from: Fields: remove spec.key.fields, or set spec.key.from to Fields",
            ),
        )
    )

    taken_from: KeyFrom = Field(
        KeyFrom.FIELDS,
        alias="from",
        description="Where the key is: Fields (default) takes spec.key.fields of the payload; KafkaKey the record's key, byte for byte, "
        "and a tombstone (no value) is another event than a record with a value; ValueHash makes it from the record's whole value, byte "
        "for byte.",
    )
    fields: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Paths in the payload, nested with dots (a.b.c). Several fields together are one key, in this order. "
        "Two records whose fields are all equal, type and digits included, are the same event. 1 to 16 paths; required with from: Fields.",
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **rules(
                ("self.all(path, self.exists_one(other, other == path))", "spec.key.fields names a field twice: list each field once"),
                (
                    "self.all(path, self.all(other, !other.startsWith(path + '.')))",
                    "spec.key.fields names a field and a part of it: a field cannot be a value and an object at once",
                ),
                (
                    f"self.all(path, path.matches('{PATH}'))",
                    "spec.key.fields must hold paths such as eventId or order.id: no empty parts, spaces, quotes or brackets",
                ),
            ),
        },
    )


class EventTimeFrom(StrEnum):
    FIELD = "Field"
    KAFKA_TIMESTAMP = "KafkaTimestamp"
    ARRIVAL = "Arrival"


class EventTime(ApiModel):
    """When an event happened. Decides how long its key is remembered."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.from != 'Field' || has(self.field)",
                "spec.eventTime.field is missing: name the field of the payload that holds the time",
            ),
            (
                "self.from == 'Field' || !has(self.field)",
                "spec.eventTime.field is only for spec.eventTime.from: Field: remove the field, or set spec.eventTime.from to Field",
            ),
        )
    )

    taken_from: EventTimeFrom = Field(
        EventTimeFrom.FIELD,
        alias="from",
        description="Where the time is: Field (default) takes spec.eventTime.field of the payload; KafkaTimestamp the record's timestamp; "
        "Arrival the time at which the job reads the record: no record is ever late, but after an outage longer than the watermark copies "
        "from both sides of it come out.",
    )
    field: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        None,
        description="Path of the time in the payload, nested with dots. Required with from: Field.",
        json_schema_extra=rules(
            (
                f"self.matches('{PATH}')",
                "spec.eventTime.field must be a path such as timestamp or meta.time: no empty parts, spaces, quotes or brackets",
            )
        ),
    )
    format: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        "Iso8601",
        description="How the time is written: Iso8601 (default; without an offset it is UTC), EpochMillis, EpochSeconds, "
        "or a Spark datetime pattern such as yyyy-MM-dd HH:mm:ss, read as UTC.",
        json_schema_extra=rules(
            (
                "self in ['Iso8601', 'EpochMillis', 'EpochSeconds'] || self.contains('yy') || self.contains('uu')",
                "spec.eventTime.format must be Iso8601, EpochMillis, EpochSeconds or a Spark datetime pattern with a year, "
                "such as yyyy-MM-dd HH:mm:ss",
            )
        ),
    )
    max_future_skew: Annotated[str, StringConstraints(max_length=32)] = Field(
        "1h",
        description="How far an event time may lie ahead of the time at which the job reads the record and of its Kafka timestamp; beyond, "
        "the record is invalid. Duration; default 1h.",
        json_schema_extra=duration_rules("spec.eventTime.maxFutureSkew", zero_allowed=True),
    )


class OnLate(StrEnum):
    DROP = "Drop"
    EMIT = "Emit"
    DEAD_LETTER = "DeadLetter"


class OnInvalid(StrEnum):
    FAIL = "Fail"
    DROP = "Drop"
    DEAD_LETTER = "DeadLetter"


class DeadLetter(ApiModel):
    """Where records go that cannot be deduplicated."""

    topic: Topic = Field(
        description="Topic on the sink's brokers; it must exist. Records go there with key, value, headers and timestamp as they came, and "
        "headers that begin with dedup-: reason, detail, source-topic, source-partition, source-offset, event-time, watermark. Required.",
        json_schema_extra=topic_rules("spec.deadLetter.topic"),
    )
