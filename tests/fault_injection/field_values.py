"""Values for every field of the spec: valid values to edit it to, and values that the API server must refuse."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fault_injection.api import Json


@dataclass(frozen=True)
class Edit:
    """A merge patch that changes more than the field itself: to set one member of a union, another must be removed."""

    change: Json


@dataclass(frozen=True)
class FieldValues:
    """`valid`: the test sets these one after the other, starting from the default, and returns to the default. They
    include the bounds. `invalid`: the API server must refuse these."""

    valid: tuple[Any, ...]
    invalid: tuple[Any, ...]
    other_fields: Json = field(default_factory=dict)
    """Values of other fields that the valid values need."""
    optional: bool = True
    """Whether the field may be removed again."""
    immutable: tuple[Any, ...] = ()
    """A new job may have these values, but a job that has the valid values must not be changed to them."""


def merge(base: Json, change: Mapping[str, Any]) -> Json:
    """Merges like a JSON merge patch: None removes a key."""
    merged = copy.deepcopy(base)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def nest(path: str, value: Any) -> Json:
    for part in reversed(path.split(".")):
        value = {part: value}
    return dict(value)


def build_edit(path: str, value: Any) -> Json:
    return value.change if isinstance(value, Edit) else nest(path, value)


KAFKA: Json = {"sink": {"kafka": {"topic": "out"}, "console": None}}
DEAD: Json = {**KAFKA, "deadLetter": {"topic": "dead"}, "onLate": "DeadLetter"}
SHARED: Json = {"checkpoint": {"existing": {"claimName": "shared", "subPath": "folder"}}}
ELSEWHERE = Edit({"checkpoint": {"claim": None, "existing": {"claimName": "shared"}}})
OWN_CLAIM = Edit({"checkpoint": {"claim": {}, "existing": None}})
TIME_HEADER: Json = {"eventTime": {"from": "Header", "field": None, "header": "at"}}
LONG = "x" * 250
ONCE = Edit({"trigger": {"processingTime": None, "availableNow": {"schedule": None}}})
NIGHTLY = Edit({"trigger": {"processingTime": None, "availableNow": {"schedule": "0 3 * * *"}}})
TIMED = Edit({"trigger": {"processingTime": "2s", "availableNow": None}})
TO_KAFKA = Edit({"sink": {"kafka": {"topic": "out"}, "console": None}})
TO_LOG = Edit({"sink": {"kafka": None, "console": {}}})

FIELDS: Mapping[str, FieldValues] = {
    "source.bootstrapServers": FieldValues(("other:9092", "a:1,b:65535"), ("other", "", "a:0", None), optional=False),
    "source.topic": FieldValues(("waiting-other", "waiting" + "x" * 242), ("a b", "", LONG, None), optional=False),
    "source.startingOffsets": FieldValues(("Latest", "Earliest"), ("latest", 0)),
    "source.maxOffsetsPerTrigger": FieldValues((1, 10_000_000), (0, 10_000_001, "1")),
    "source.onDataLoss": FieldValues(("Continue", "Fail"), ("Ignore",)),
    "source.consumerGroup": FieldValues(("lag", "g" * 249), ("", "a b", LONG)),
    "format": FieldValues(
        ("Raw",), ("Avro",), {"key": {"from": "ValueHash", "fields": None}, "eventTime": {"from": "Arrival", "field": None}}
    ),
    "framing": FieldValues(("SchemaRegistry",), ("Avro",)),
    "key.from": FieldValues(("KafkaKey", "ValueHash"), ("Headers",), {"key": {"from": "KafkaKey", "fields": None}}, optional=False),
    "key.fields": FieldValues(
        (["other"], ["['event.id']", "items[0].id"], [f"f{n}" for n in range(16)]),
        ([], ["a", "a"], ["a b"], ["a\\.b"], ["a[x]"], ["[0]"], ["a", "a[0]"], [f"f{n}" for n in range(17)]),
        optional=False,
    ),
    "key.headers": FieldValues((["id"], ["ce_id", "ce source"]), ([], ["a", "a"], [""], [f"h{n}" for n in range(17)])),
    "eventTime.from": FieldValues(
        ("Arrival", "KafkaTimestamp"), ("Headers", "Header"), {"eventTime": {"from": "Arrival", "field": None}}, optional=False
    ),
    "eventTime.field": FieldValues(("at", "meta.at", "['meta.at']", "a[1].at"), ("a b", "", "meta\\.at"), optional=False),
    "eventTime.header": FieldValues(("ce_time", "time"), ("",), TIME_HEADER, optional=False),
    "eventTime.format": FieldValues(("EpochSeconds", "EpochMillis", "EpochMicros", "EpochNanos", "yyyy-MM-dd HH:mm:ss"), ("EpochMilis",)),
    "eventTime.timeZone": FieldValues(("Europe/Berlin", "America/Argentina/Ushuaia"), ("", "+02:00", "Europe/Ber lin")),
    "eventTime.maxFutureSkew": FieldValues(("0s", "24h30m"), ("1d", "-5m", 3600)),
    "watermark": FieldValues(("1s", "720h"), ("0s", "10", "", None), optional=False),
    "onLate": FieldValues(("Emit", "DeadLetter"), ("Fail",), {**KAFKA, "deadLetter": {"topic": "dead"}}),
    "onInvalid": FieldValues(("Drop", "DeadLetter"), ("Emit",), {**KAFKA, "deadLetter": {"topic": "dead"}}),
    "onTombstone": FieldValues(("Pass", "Drop", "Fail", "DeadLetter"), ("Emit",), {**KAFKA, "deadLetter": {"topic": "dead"}}),
    "deadLetter.topic": FieldValues(("dead2", "x" * 249), ("events", "out", "a*", None), DEAD, optional=False),
    "trigger.processingTime": FieldValues(("0s", "1h", Edit({"trigger": None})), ("-5s", "", 5), optional=False),
    "trigger.availableNow": FieldValues((ONCE, TIMED, NIGHTLY, ONCE, NIGHTLY, TIMED), (True, "now"), optional=False),
    "trigger.availableNow.schedule": FieldValues(
        ("0 3 * * *", "*/10 0-6 1,15 jan-mar mon"),
        ("* * * *", "60 * * * *", "", "@reboot"),
        {"trigger": {"processingTime": None, "availableNow": {"schedule": "@daily"}}},
    ),
    "sink.kafka": FieldValues((TO_KAFKA, TO_LOG), ({}, "out"), optional=False),
    "sink.kafka.topic": FieldValues(("out2", "x" * 249), ("events", "a b", None), KAFKA, optional=False),
    "sink.kafka.delivery": FieldValues(("AtLeastOnce", "ExactlyOnce"), ("AtMostOnce",), KAFKA),
    "sink.kafka.ordering": FieldValues(("None", "PerKey"), ("Global",), KAFKA),
    "sink.kafka.transactionalIdPrefix": FieldValues(("shop", "p" * 200), ("", "a b", LONG), KAFKA),
    "sink.console": FieldValues((TO_LOG, TO_KAFKA), (True,), KAFKA, optional=False),
    "checkpoint.claim": FieldValues(
        ({"size": "10Gi"}, {"accessMode": "ReadWriteOncePod"}, Edit({"checkpoint": None})),
        (True,),
        {"checkpoint": {"claim": {"size": "10Gi", "storageClassName": None}}},
        immutable=({"size": "9Gi"}, {"storageClassName": "simulated"}, {"accessMode": "ReadWriteMany"}),
    ),
    "checkpoint.claim.size": FieldValues(
        ("100Mi", "1Gi", "9Gi"), ("99Mi", "big", 0), {"checkpoint": {"claim": {"size": "100Mi"}}}, immutable=("9Gi", "100Mi")
    ),
    "checkpoint.claim.storageClassName": FieldValues(("simulated",), ("Not_A", ""), optional=False, immutable=("other", None)),
    "checkpoint.claim.accessMode": FieldValues(("ReadWriteOncePod",), ("RWO",), immutable=("ReadWriteOnce", "ReadWriteMany")),
    "checkpoint.existing": FieldValues(
        ({"claimName": "shared", "subPath": "folder"}, {"claimName": "shared-2", "subPath": "folder"}, OWN_CLAIM),
        ({"claimName": 1}, "shared"),
        SHARED,
        optional=False,
    ),
    "checkpoint.existing.claimName": FieldValues(("shared", "shared-2"), ("Shared", "", None), SHARED, optional=False),
    "checkpoint.existing.subPath": FieldValues(("folder", "other"), ("a/b", "..", "", "x" * 64), SHARED),
    "checkpoint.existing.fsGroup": FieldValues(("Leave", "Apply"), ("Ignore",), SHARED),
    "checkpoint.reclaimPolicy": FieldValues(("Delete", "Retain"), ("Keep",)),
    "onIncompatibleChange": FieldValues(("Block",), ("WarmRestart",)),
    "parallelism": FieldValues((1, 64), (0, 65, "2")),
    "driver.resources.requests.cpu": FieldValues(("1m", "2"), ("3", "0", "-1")),
    "driver.resources.requests.memory": FieldValues(("64Mi", "1536Mi"), ("3Gi", "4GB")),
    "driver.resources.limits.cpu": FieldValues(
        ("500m", "64"), ("100m", "0", "many"), {"parallelism": 2}
    ),  # without it, the stored parallelism stays
    "driver.resources.limits.memory": FieldValues(("1Gi", "64Gi"), ("1023Mi", "4GB", 0)),
    "suspend": FieldValues((True, False), ("yes", 1)),
    "restartNonce": FieldValues((0, 7, 9_007_199_254_740_991), (-1, "1")),
}
"""By the path of the field, as in `dedup_api.changes.CHANGES`. tests/unit/fault_injection checks that the two have the
same paths."""
