"""Values for every field of the spec: what it is set to, changed to, and what it may not be."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fault_injection.api import Json


@dataclass(frozen=True)
class Edit:
    """Of more than the field itself: where a member of a union comes, another goes."""

    change: Json


@dataclass(frozen=True)
class Values:
    """`good`: set one after the other, from the default on and back to it. Bounds are among them."""

    good: tuple[Any, ...]
    bad: tuple[Any, ...]
    beside: Json = field(default_factory=dict)
    """Other fields, which the good values need."""
    unset: bool = True
    """Whether it may be absent again."""
    fixed: tuple[Any, ...] = ()
    """A new job may have them; one that has the good values cannot be changed to them."""


def merge(base: Json, change: Mapping[str, Any]) -> Json:
    """As a merge patch does it: null removes."""
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
ELSEWHERE = Edit({"checkpoint": {"claim": None, "existing": {"claimName": "other"}}})
OWN_CLAIM = Edit({"checkpoint": {"claim": {}, "existing": None}})
LONG = "x" * 250
ONCE = Edit({"trigger": {"processingTime": None, "availableNow": {"schedule": None}}})
NIGHTLY = Edit({"trigger": {"processingTime": None, "availableNow": {"schedule": "0 3 * * *"}}})
TIMED = Edit({"trigger": {"processingTime": "2s", "availableNow": None}})
TO_KAFKA = Edit({"sink": {"kafka": {"topic": "out"}, "console": None}})
TO_LOG = Edit({"sink": {"kafka": None, "console": {}}})

FIELDS: Mapping[str, Values] = {
    "source.bootstrapServers": Values(("other:9092", "a:1,b:65535"), ("other", "", "a:0", None), unset=False),
    "source.topic": Values(("waiting-other", "waiting" + "x" * 242), ("a b", "", LONG, None), unset=False),
    "source.startingOffsets": Values(("Latest", "Earliest"), ("latest", 0)),
    "source.maxOffsetsPerTrigger": Values((1, 10_000_000), (0, 10_000_001, "1")),
    "source.onDataLoss": Values(("Continue", "Fail"), ("Ignore",)),
    "source.consumerGroup": Values(("lag", "g" * 249), ("", "a b", LONG)),
    "format": Values(("Raw",), ("Avro",), {"key": {"from": "ValueHash", "fields": None}, "eventTime": {"from": "Arrival", "field": None}}),
    "key.from": Values(("KafkaKey", "ValueHash"), ("Header",), {"key": {"from": "KafkaKey", "fields": None}}, unset=False),
    "key.fields": Values((["other"], [f"f{n}" for n in range(16)]), ([], ["a", "a"], ["a b"], [f"f{n}" for n in range(17)]), unset=False),
    "eventTime.from": Values(("Arrival", "KafkaTimestamp"), ("Header",), {"eventTime": {"from": "Arrival", "field": None}}, unset=False),
    "eventTime.field": Values(("at", "meta.at"), ("a b", ""), unset=False),
    "eventTime.format": Values(("EpochMillis", "EpochSeconds", "yyyy-MM-dd HH:mm:ss"), ("EpochMilis",)),
    "eventTime.maxFutureSkew": Values(("0s", "24h30m"), ("1d", "-5m", 3600)),
    "watermark": Values(("1s", "720h"), ("0s", "10", "", None), unset=False),
    "onLate": Values(("Emit", "DeadLetter"), ("Fail",), {**KAFKA, "deadLetter": {"topic": "dead"}}),
    "onInvalid": Values(("Drop", "DeadLetter"), ("Emit",), {**KAFKA, "deadLetter": {"topic": "dead"}}),
    "deadLetter.topic": Values(("dead2", "x" * 249), ("events", "out", "a*", None), DEAD, unset=False),
    "trigger.processingTime": Values(("0s", "1h", Edit({"trigger": None})), ("-5s", "", 5), unset=False),
    "trigger.availableNow": Values((ONCE, TIMED, NIGHTLY, ONCE, NIGHTLY, TIMED), (True, "now"), unset=False),
    "trigger.availableNow.schedule": Values(
        ("0 3 * * *", "*/10 0-6 1,15 jan-mar mon"),
        ("* * * *", "60 * * * *", "", "@reboot"),
        {"trigger": {"processingTime": None, "availableNow": {"schedule": "@daily"}}},
    ),
    "sink.kafka": Values((TO_KAFKA, TO_LOG), ({}, "out"), unset=False),
    "sink.kafka.topic": Values(("out2", "x" * 249), ("events", "a b", None), KAFKA, unset=False),
    "sink.kafka.delivery": Values(("AtLeastOnce", "ExactlyOnce"), ("AtMostOnce",), KAFKA),
    "sink.kafka.ordering": Values(("None", "PerKey"), ("Global",), KAFKA),
    "sink.kafka.transactionalIdPrefix": Values(("shop", "p" * 200), ("", "a b", LONG), KAFKA),
    "sink.console": Values((TO_LOG, TO_KAFKA), (True,), KAFKA, unset=False),
    "checkpoint.claim": Values(
        ({"size": "10Gi"}, {"accessMode": "ReadWriteOncePod"}, Edit({"checkpoint": None})),
        (True,),
        {"checkpoint": {"claim": {"size": "10Gi", "storageClassName": None}}},
        fixed=({"size": "9Gi"}, {"storageClassName": "played"}, {"accessMode": "ReadWriteMany"}, ELSEWHERE),
    ),
    "checkpoint.claim.size": Values(
        ("100Mi", "1Gi", "9Gi"), ("99Mi", "big", 0), {"checkpoint": {"claim": {"size": "100Mi"}}}, fixed=("9Gi", "100Mi")
    ),
    "checkpoint.claim.storageClassName": Values(("played",), ("Not_A", ""), unset=False, fixed=("other", None)),
    "checkpoint.claim.accessMode": Values(("ReadWriteOncePod",), ("RWO",), fixed=("ReadWriteOnce", "ReadWriteMany")),
    "checkpoint.existing": Values(
        ({"claimName": "shared", "subPath": "folder"},),
        ({"claimName": 1}, "shared"),
        SHARED,
        unset=False,
        fixed=(None, OWN_CLAIM, ELSEWHERE),
    ),
    "checkpoint.existing.claimName": Values(("shared",), ("Shared", "", None), SHARED, unset=False, fixed=("other",)),
    "checkpoint.existing.subPath": Values(("folder",), ("a/b", "..", "", "x" * 64), SHARED, unset=False, fixed=("other", None)),
    "checkpoint.reclaimPolicy": Values(("Delete", "Retain"), ("Keep",)),
    "onIncompatibleChange": Values(("Block",), ("WarmRestart",)),
    "parallelism": Values((1, 64), (0, 65, "2")),
    "driver.resources.requests.cpu": Values(("1m", "2"), ("3", "0", "-1")),
    "driver.resources.requests.memory": Values(("64Mi", "2Gi"), ("3Gi", "4GB")),
    "driver.resources.limits.cpu": Values(("500m", "64"), ("100m", "0", "many"), {"parallelism": 2}),  # else the checkpoint's stays
    "driver.resources.limits.memory": Values(("1Gi", "64Gi"), ("1023Mi", "4GB", 0)),
    "suspend": Values((True, False), ("yes", 1)),
    "restartNonce": Values((0, 7, 9_007_199_254_740_991), (-1, "1")),
}
"""By the paths of `dedup_api.changes.CHANGES`: a test compares the two."""
