"""Why a record cannot be deduplicated, once.

The words stand in metric labels, in the status, in dead letters' headers and on the generated page `docs/records.md`.
"""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """In the order in which they are looked for: a record has the first that fits."""

    TOMBSTONE = "Tombstone"
    NOT_UTF8 = "NotUtf8"
    NOT_JSON = "NotJson"
    KEY_MISSING = "KeyMissing"
    KEY_EMPTY = "KeyEmpty"
    KEY_UNREADABLE = "KeyUnreadable"
    TIME_MISSING = "TimeMissing"
    TIME_UNREADABLE = "TimeUnreadable"
    TIME_IN_FUTURE = "TimeInFuture"
    LATE = "Late"
    """Not invalid: its time is behind the watermark, and a copy of it may be forgotten."""


INVALID_FAULTS = tuple(fault for fault in Fault if fault is not Fault.LATE)

MEANINGS: dict[Fault, str] = {
    Fault.TOMBSTONE: "The record has no value (a tombstone, which tells a compacted topic to forget its key), and its key or event time "
    "would be in it. With spec.key.from: KafkaKey and a time that is not in the payload tombstones are valid: a tombstone is an event of "
    "its own, never a copy of a record with a value, and copies of the tombstone are removed.",
    Fault.NOT_UTF8: "The value's bytes are not UTF-8. With spec.format: Raw they may be anything.",
    Fault.NOT_JSON: "The value is not exactly one JSON object (RFC 8259): it is empty, another type, cut off, followed by something else "
    "or nested deeper than 1,000 levels, begins with a byte order mark, or has comments, single quotes or NaN.",
    Fault.KEY_MISSING: "A field of spec.key.fields is missing or null, or the record has no Kafka key.",
    Fault.KEY_EMPTY: "A field of spec.key.fields is an empty text, or the Kafka key or the value that is the key has no bytes.",
    Fault.KEY_UNREADABLE: "A field of spec.key.fields is an object or a list, or a text with half a surrogate pair.",
    Fault.TIME_MISSING: "The field spec.eventTime.field is missing or null, or the record has no Kafka timestamp.",
    Fault.TIME_UNREADABLE: "The field spec.eventTime.field does not fit spec.eventTime.format, or lies outside of the years 1 to 9999.",
    Fault.TIME_IN_FUTURE: "The event time lies more than spec.eventTime.maxFutureSkew ahead of the time of reading or of the record's "
    "Kafka timestamp.",
    Fault.LATE: "The event time is behind the watermark. Such a record is late, not invalid; see spec.onLate.",
}
