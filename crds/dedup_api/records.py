"""The part of the spec about single records: format, key, event time, and what happens to late and invalid records."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from dedup_api.field_rules import PATH_PATTERN, Topic, duration_rules, topic_rules
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
                "spec.key.fields is missing: name the fields of the payload that identify an event, or set "
                "spec.key.from to KafkaKey or ValueHash",
            ),
            (
                "self.from == 'Fields' || !has(self.fields)",
                "spec.key.fields is only for spec.key.from: Fields. Remove spec.key.fields, or set spec.key.from to Fields",
            ),
        )
    )

    taken_from: KeyFrom = Field(
        KeyFrom.FIELDS,
        alias="from",
        description="Where the key comes from. Fields (default): from spec.key.fields of the payload. KafkaKey: from "
        "the Kafka key of the record, byte for byte; a tombstone (a record without a value) and a record "
        "with a value are different events. ValueHash: from the whole value of the record, byte for byte.",
    )
    fields: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Paths of fields in the payload; dots separate the levels (a.b.c). All fields together, in this "
        "order, are one key. Two records are the same event if all these fields are equal, including their "
        "types and digits. 1 to 16 paths; required with from: Fields, not allowed otherwise.",
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **rules(
                ("self.all(path, self.exists_one(other, other == path))", "spec.key.fields names a field twice: list each field once"),
                (
                    "self.all(path, self.all(other, !other.startsWith(path + '.')))",
                    "spec.key.fields names a field and a part of it, but a field cannot be a value and an object at "
                    "once: remove one of the two",
                ),
                (
                    f"self.all(path, path.matches('{PATH_PATTERN}'))",
                    "spec.key.fields must hold paths such as eventId or order.id: remove empty parts, spaces, quotes and brackets",
                ),
            ),
        },
    )


class EventTimeFrom(StrEnum):
    FIELD = "Field"
    KAFKA_TIMESTAMP = "KafkaTimestamp"
    ARRIVAL = "Arrival"


class EventTime(ApiModel):
    """When an event happened. The event time decides how long the driver stores the key of an event."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.from != 'Field' || has(self.field)",
                "spec.eventTime.field is missing: name the field of the payload that holds the time, or set "
                "spec.eventTime.from to KafkaTimestamp or Arrival",
            ),
            (
                "self.from == 'Field' || !has(self.field)",
                "spec.eventTime.field is only for spec.eventTime.from: Field. Remove spec.eventTime.field, or set "
                "spec.eventTime.from to Field",
            ),
        )
    )

    taken_from: EventTimeFrom = Field(
        EventTimeFrom.FIELD,
        alias="from",
        description="Where the event time comes from. Field (default): from spec.eventTime.field of the payload. "
        "KafkaTimestamp: from the Kafka timestamp of the record. Arrival: the time at which the driver "
        "reads the record; no record is ever late, but if the driver is down for longer than "
        "spec.watermark, a copy from before and a copy from after that time are both written.",
    )
    field: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        None,
        description="Path of the field in the payload that holds the event time; dots separate the levels. Required "
        "with from: Field, not allowed otherwise.",
        json_schema_extra=rules(
            (
                f"self.matches('{PATH_PATTERN}')",
                "spec.eventTime.field must be a path such as timestamp or meta.time: remove empty parts, spaces, quotes and brackets",
            )
        ),
    )
    format: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        "Iso8601",
        description="How the event time is written: Iso8601 (default; a time without an offset is read as UTC), "
        "EpochMillis, EpochSeconds, or a Spark datetime pattern such as yyyy-MM-dd HH:mm:ss, which is read "
        "as UTC.",
        json_schema_extra=rules(
            (
                "self in ['Iso8601', 'EpochMillis', 'EpochSeconds'] || self.contains('yy') || self.contains('uu')",
                "spec.eventTime.format must be Iso8601, EpochMillis, EpochSeconds or a Spark datetime pattern with a "
                "year, such as yyyy-MM-dd HH:mm:ss",
            )
        ),
    )
    max_future_skew: Annotated[str, StringConstraints(max_length=32)] = Field(
        "1h",
        description="How far an event time may be ahead of the record's Kafka timestamp and of the time at which the "
        "driver reads the record. A record that is further ahead of either is invalid. Duration; default "
        "1h.",
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
    """Where the driver writes records that cannot be deduplicated."""

    topic: Topic = Field(
        description="Topic for dead letters, on the brokers of the sink. The topic must exist. The driver writes key, "
        "value, headers and (with ExactlyOnce) timestamp unchanged, and adds headers that begin with "
        "dedup-: reason, detail, source-topic, source-partition, source-offset, event-time, watermark. "
        "Required.",
        json_schema_extra=topic_rules("spec.deadLetter.topic"),
    )
