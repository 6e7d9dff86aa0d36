"""Why a record cannot be deduplicated.

These names are used in metric labels, in the status, in headers of dead letters and on the generated page
`docs/records.md`.
"""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """In the order in which the driver checks them: a record with several faults gets the first one."""

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
    """The record is valid, but its event time is behind the watermark: the key of an earlier copy may have been
    removed."""


INVALID_FAULTS = tuple(fault for fault in Fault if fault is not Fault.LATE)

MEANINGS: dict[Fault, str] = {
    Fault.TOMBSTONE: "The record has no value (a tombstone, which tells a compacted topic to delete a key), but its "
    "key or event time should come from the value, or spec.onTombstone is Fail, Drop or DeadLetter. Without "
    "spec.onTombstone, and with a key and an event time that do not come from the payload, a tombstone is valid: it is an "
    "event of its own, it is never a copy of a record with a value, and the driver removes copies of the tombstone.",
    Fault.NOT_UTF8: "The bytes of the value are not UTF-8. With spec.format: Raw any bytes are valid.",
    Fault.NOT_JSON: "The value is not exactly one JSON object (RFC 8259). It is empty, has another type, is truncated, "
    "is followed by other text, is nested deeper than 1,000 levels, begins with a byte order mark, or "
    "contains comments, single quotes or NaN. Or the bytes of a schema registry stand before it; see spec.framing.",
    Fault.KEY_MISSING: "A field of spec.key.fields or a header of spec.key.headers is missing or null, or the record has no Kafka key.",
    Fault.KEY_EMPTY: "A field of spec.key.fields is an empty string, or the header, Kafka key or value that is the key has no bytes.",
    Fault.KEY_UNREADABLE: "A field of spec.key.fields is an object or a list, or a string with half of a surrogate pair.",
    Fault.TIME_MISSING: "The field or header that spec.eventTime names is missing or null, or the record has no Kafka timestamp.",
    Fault.TIME_UNREADABLE: "The field or header that spec.eventTime names does not match spec.eventTime.format, or the "
    "time is not in the years 1 to 9999.",
    Fault.TIME_IN_FUTURE: "The event time is more than spec.eventTime.maxFutureSkew ahead of the record's Kafka "
    "timestamp or of the time at which the driver read the record.",
    Fault.LATE: "The event time is behind the watermark. Such a record is late, not invalid; see spec.onLate.",
}
