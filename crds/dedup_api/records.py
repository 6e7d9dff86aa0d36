"""The part of the spec about single records: format, key, event time, and what happens to late and invalid records."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from dedup_api.field_rules import NO_ESCAPE, PATH_HELP, PATH_PATTERN, Topic, build_escape_message, duration_rules, topic_rules
from dedup_api.model import ApiModel, rules


class Format(StrEnum):
    JSON = "Json"
    RAW = "Raw"


class Framing(StrEnum):
    NONE = "None"
    SCHEMA_REGISTRY = "SchemaRegistry"


HeaderName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""Any text: Kafka does not restrict the names of headers."""


class KeyFrom(StrEnum):
    FIELDS = "Fields"
    HEADER = "Header"
    KAFKA_KEY = "KafkaKey"
    VALUE_HASH = "ValueHash"


class Key(ApiModel):
    """What identifies an event."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.from != 'Fields' || has(self.fields)",
                "spec.key.fields is missing: name the fields of the payload that identify an event, or set "
                "spec.key.from to Header, KafkaKey or ValueHash",
            ),
            (
                "self.from != 'Header' || has(self.headers)",
                "spec.key.headers is missing: name the headers of the record that identify an event, or change spec.key.from",
            ),
            (
                "self.from in ['Fields', 'Header'] || !has(self.headers)",
                "spec.key.headers is only for spec.key.from: Fields or Header. Remove spec.key.headers, or change spec.key.from",
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
        description="Where the key comes from. Fields (default): from spec.key.fields of the payload, and from "
        "spec.key.headers if there are any. Header: from spec.key.headers alone. KafkaKey: from "
        "the Kafka key of the record, byte for byte; a tombstone (a record without a value) and a record "
        "with a value are different events. ValueHash: from the whole value of the record, byte for byte. Copies whose "
        "Kafka key or value differ in a single byte are then different events, and different events with one Kafka key are "
        "copies.",
    )
    fields: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Paths of fields in the payload: a.b.c, items[0].id for the element of an array, ['event.id'] for a name with a "
        "dot (in YAML with double quotes around it). All fields together, in this order, are one key. Two records are the same "
        "event if all these fields are equal, including their types and digits. 1 to 16 paths; required with from: Fields, not "
        "allowed otherwise.",
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **rules(
                ("self.all(path, self.exists_one(other, other == path))", "spec.key.fields names a field twice: list each field once"),
                (
                    "self.all(path, self.all(other, !other.startsWith(path + '.') && !other.startsWith(path + '[')))",
                    "spec.key.fields names a field and a part of it, but a field cannot be a value and an object at "
                    "once: remove one of the two",
                ),
                (f"self.all(path, {NO_ESCAPE.format('path')})", build_escape_message("spec.key.fields")),
                (f"self.all(path, path.matches('{PATH_PATTERN}'))", f"each of spec.key.fields must be {PATH_HELP}"),
            ),
        },
    )
    headers: list[HeaderName] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Names of Kafka headers whose values identify an event, byte for byte, after spec.key.fields. If a record "
        "has a header several times, the last one counts. 1 to 16 names; required with from: Header, allowed with from: "
        "Fields. Absent by default.",
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **rules(
                ("self.all(name, self.exists_one(other, other == name))", "spec.key.headers names a header twice: list each header once"),
            ),
        },
    )


class EventTimeFrom(StrEnum):
    FIELD = "Field"
    HEADER = "Header"
    KAFKA_TIMESTAMP = "KafkaTimestamp"
    ARRIVAL = "Arrival"


EPOCH_FORMATS = ("EpochSeconds", "EpochMillis", "EpochMicros", "EpochNanos")


class EventTime(ApiModel):
    """When an event happened. The event time decides how long the driver stores the key of an event."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.from != 'Field' || has(self.field)",
                "spec.eventTime.field is missing: name the field of the payload that holds the time, or set "
                "spec.eventTime.from to Header, KafkaTimestamp or Arrival",
            ),
            (
                "(self.from == 'Header') == has(self.header)",
                "spec.eventTime.header is required with spec.eventTime.from: Header, and not allowed otherwise: set or remove it, "
                "or change spec.eventTime.from",
            ),
            (
                f"!has(self.timeZone) || (self.from in ['Field', 'Header'] && !(self.format in {list(EPOCH_FORMATS)}))",
                "spec.eventTime.timeZone is only for times that are written as text, in spec.eventTime.field or header: remove "
                "spec.eventTime.timeZone",
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
        "Header: from the Kafka header spec.eventTime.header. "
        "KafkaTimestamp: from the Kafka timestamp of the record. Arrival: the time at which the driver "
        "reads the record; no record is ever late, but if the driver is down for longer than "
        "spec.watermark, a copy from before and a copy from after that time are both written.",
    )
    field: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        None,
        description="Path of the field in the payload that holds the event time, written like spec.key.fields. Required "
        "with from: Field, not allowed otherwise.",
        json_schema_extra=rules(
            (NO_ESCAPE.format("self"), build_escape_message("spec.eventTime.field")),
            (f"self.matches('{PATH_PATTERN}')", f"spec.eventTime.field must be {PATH_HELP}"),
        ),
    )
    header: HeaderName | None = Field(
        None,
        description="Name of the Kafka header that holds the event time, as text in UTF-8. If a record has the header several "
        "times, the last one counts. Required with from: Header, not allowed otherwise.",
    )
    format: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        "Iso8601",
        description="How the event time is written: Iso8601 (default), EpochSeconds, EpochMillis, EpochMicros, EpochNanos, or a "
        "Spark datetime pattern such as yyyy-MM-dd HH:mm:ss. A time without an offset is read in "
        "spec.eventTime.timeZone.",
        json_schema_extra=rules(
            (
                f"self in {['Iso8601', *EPOCH_FORMATS]} || self.contains('yy') || self.contains('uu')",
                "spec.eventTime.format must be Iso8601, EpochSeconds, EpochMillis, EpochMicros, EpochNanos or a Spark "
                "datetime pattern with a year, such as yyyy-MM-dd HH:mm:ss",
            )
        ),
    )
    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None,
        description="Time zone of event times that are written without an offset: a name of the IANA time zone database, such "
        "as Europe/Berlin. In the hour that occurs twice when summer time ends, a time counts as the earlier one. UTC when absent.",
        json_schema_extra=rules(
            (
                "self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$')",
                "spec.eventTime.timeZone must be a name of the IANA time zone database, such as Europe/Berlin or UTC",
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


class OnTombstone(StrEnum):
    FAIL = "Fail"
    DROP = "Drop"
    DEAD_LETTER = "DeadLetter"
    PASS = "Pass"


class DeadLetter(ApiModel):
    """Where the driver writes records that cannot be deduplicated."""

    topic: Topic = Field(
        description="Topic for dead letters, on the brokers of the sink. The topic must exist. The driver writes key, "
        "value, headers and (with ExactlyOnce) timestamp unchanged, and adds headers that begin with "
        "dedup-: reason, detail, source-topic, source-partition, source-offset, event-time, watermark. A header of the record "
        "that has one of these names already gets original- before its name. Required.",
        json_schema_extra=topic_rules("spec.deadLetter.topic"),
    )
