"""DedupJobs that the API server must accept or refuse, with its messages: the table for `test_crd.py`."""

from __future__ import annotations

import copy
from typing import Any

NAMESPACE = "crd-rules"

BASE: dict[str, Any] = {
    "apiVersion": "streamdedup.dev/v1alpha1",
    "kind": "DedupJob",
    "metadata": {"name": "user-events", "namespace": NAMESPACE},
    "spec": {
        "source": {"bootstrapServers": "kafka.kafka.svc:9092", "topic": "user_events"},
        "key": {"fields": ["eventId"]},
        "eventTime": {"field": "timestamp"},
        "watermark": "10m",
        "trigger": {"processingTime": "5s"},
        "sink": {"kafka": {"topic": "user_events_unique"}},
    },
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with other values at dotted paths. None removes a field."""
    document = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = document
        for part in parents:
            target = target.setdefault(part, {})
        if value is None:
            del target[last]
        else:
            target[last] = value
    return document


RAW = {"spec.format": "Raw", "spec.key": {"from": "KafkaKey"}, "spec.eventTime": {"from": "KafkaTimestamp"}}
PREFIXED = {"spec.sink.kafka.transactionalIdPrefix": "shop"}

ACCEPTED: dict[str, dict[str, Any]] = {
    "the smallest": {"spec.trigger": None},
    "console": {"spec.sink": {"console": {}}},
    "an empty trigger": {"spec.trigger": {}},
    "a run beside the trigger that version 0.1.0 stored by itself": {"spec.trigger.availableNow": {}},
    "a claim of the user beside the claim that version 0.1.0 stored by itself": {
        "spec.checkpoint": {"claim": {"size": "10Gi", "accessMode": "ReadWriteOncePod"}, "existing": {"claimName": "shared"}}
    },
    "names with dots, and elements of arrays": {"spec.key.fields": ["['event.id']", "a['b.c'].d", '["it\'s"]', "items[0].id", "m[10][2]"]},
    "a time in an element of an array": {"spec.eventTime.field": "items[0]['at.utc']"},
    "micros and nanos": {"spec.eventTime.format": "EpochMicros"},
    "nanos": {"spec.eventTime.format": "EpochNanos"},
    "a time zone": {"spec.eventTime.timeZone": "America/Argentina/Ushuaia", "spec.eventTime.format": "yyyy-MM-dd HH:mm:ss"},
    "UTC": {"spec.eventTime.timeZone": "UTC"},
    "headers beside fields": {"spec.key.headers": ["id", "ce_source"]},
    "headers alone": {"spec.key": {"from": "Header", "headers": ["id"]}, "spec.eventTime": {"from": "Header", "header": "ce_time"}},
    "the bytes of a schema registry": {"spec.framing": "SchemaRegistry"},
    "nothing before a raw value": {**RAW, "spec.framing": "None"},
    "tombstones pass": {"spec.onTombstone": "Pass"},
    "tombstones are dead letters": {"spec.onTombstone": "DeadLetter", "spec.deadLetter": {"topic": "user_events_dead"}},
    "a volume whose group stays": {"spec.checkpoint": {"existing": {"claimName": "shared", "fsGroup": "Leave"}}},
    "several brokers": {"spec.source.bootstrapServers": "a.b:9092,kafka.kafka.svc.cluster.local.:9092,[::1]:9092,10.0.0.1:9092"},
    "starting offsets": {"spec.source.startingOffsets": "Latest", "spec.source.maxOffsetsPerTrigger": 1},
    "nested and composite keys": {"spec.key.fields": ["order.id", "@type", "user-id", "$ref", "größe"]},
    "the time is part of the key": {"spec.key.fields": ["timestamp", "a.b", "a.c", "ab"]},
    "sixteen key fields": {"spec.key.fields": [f"f{i}" for i in range(16)]},
    "epoch": {"spec.eventTime.format": "EpochMillis"},
    "a pattern": {"spec.eventTime.format": "yyyy-MM-dd HH:mm:ss"},
    "another pattern": {"spec.eventTime.format": "dd.MM.uuuu'T'HH:mm"},
    "a compound duration": {"spec.watermark": "1h30m"},
    "thirty days in seconds": {"spec.watermark": "2592000s"},
    "as fast as possible": {"spec.trigger.processingTime": "0s"},
    "claim": {
        "spec.checkpoint": {
            "claim": {"size": "1Gi", "storageClassName": "fast", "accessMode": "ReadWriteOnce"},
            "reclaimPolicy": "Delete",
        }
    },
    "a run": {"spec.trigger": {"availableNow": {}}},
    "runs on a schedule": {"spec.trigger": {"availableNow": {"schedule": "*/10 0-6,22 1,15 jan-mar mon"}}},
    "runs on a named schedule": {"spec.trigger": {"availableNow": {"schedule": "@daily"}}},
    "a folder of a claim": {"spec.checkpoint": {"existing": {"claimName": "shared", "subPath": "Orders_1.v2"}}},
    "a folder with the job's name": {"spec.checkpoint": {"existing": {"claimName": "shared.claim"}, "reclaimPolicy": "Retain"}},
    "incompatible changes": {"spec.onIncompatibleChange": "Block"},
    "only a policy": {"spec.checkpoint": {"reclaimPolicy": "Delete"}},
    "resources as numbers": {"spec.driver.resources": {"requests": {"cpu": 1}, "limits": {"cpu": 2, "memory": 2147483648}}},
    "resources as text": {"spec.driver.resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}},
    "parallelism": {"spec.parallelism": 64},
    "suspended": {"spec.suspend": True, "spec.restartNonce": 7},
    "the longest name": {"metadata.name": "a" * 45},
    "the key from fields, written out": {"spec.key": {"from": "Fields", "fields": ["eventId"]}},
    "the Kafka key": {"spec.key": {"from": "KafkaKey"}},
    "the whole value": {"spec.key": {"from": "ValueHash"}},
    "the time from a field, written out": {"spec.eventTime": {"from": "Field", "field": "timestamp"}},
    "the Kafka timestamp": {"spec.eventTime": {"from": "KafkaTimestamp"}},
    "the arrival": {"spec.eventTime": {"from": "Arrival"}},
    "the Kafka key beside a time in the payload": {"spec.key": {"from": "KafkaKey"}, "spec.format": "Json"},
    "a key in the payload beside the Kafka timestamp": {"spec.eventTime": {"from": "KafkaTimestamp"}, "spec.format": "Json"},
    "no skew": {"spec.eventTime.maxFutureSkew": "0s"},
    "a skew in parts": {"spec.eventTime.maxFutureSkew": "24h30m"},
    "raw, with Kafka's key and time": RAW,
    "raw, with value and arrival": {**RAW, "spec.key": {"from": "ValueHash"}, "spec.eventTime": {"from": "Arrival"}},
    "late records go to the output": {"spec.onLate": "Emit"},
    "invalid records stop the job": {"spec.onInvalid": "Fail"},
    "invalid records are dropped": {"spec.onInvalid": "Drop"},
    "invalid records are dropped with the console sink": {"spec.onInvalid": "Drop", "spec.sink": {"console": {}}},
    "late dead letters": {"spec.onLate": "DeadLetter", "spec.deadLetter": {"topic": "user_events_dead"}},
    "invalid dead letters": {"spec.onInvalid": "DeadLetter", "spec.deadLetter": {"topic": "user_events_dead"}},
    "a dead-letter topic without dead letters": {"spec.deadLetter": {"topic": "user_events_dead"}},
    "dead letters beside a progress topic": {**PREFIXED, "spec.deadLetter": {"topic": "shop-dead"}},
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"spec.source": None}, "spec.source: Required value"),
    "no brokers": ({"spec.source.bootstrapServers": None}, "spec.source.bootstrapServers: Required value"),
    "no topic": ({"spec.source.topic": None}, "spec.source.topic: Required value"),
    "no key": ({"spec.key": None}, "spec.key: Required value"),
    "no event time": ({"spec.eventTime": None}, "spec.eventTime: Required value"),
    "no watermark": ({"spec.watermark": None}, "spec.watermark: Required value"),
    "no sink": ({"spec.sink": None}, "spec.sink: Required value"),
    "no spec": ({"spec": None}, "spec: Required value"),
    "unknown field": ({"spec.watermarkk": "10m"}, 'unknown field "spec.watermarkk"'),
    "unknown nested field": ({"spec.source.topicPattern": "a.*"}, 'unknown field "spec.source.topicPattern"'),
    "unknown enum": ({"spec.source.startingOffsets": "earliest"}, 'spec.source.startingOffsets: Unsupported value: "earliest"'),
    "unknown format": ({"spec.format": "Xml"}, "spec.format: Unsupported value"),
    "brokers without a port": ({"spec.source.bootstrapServers": "kafka"}, "spec.source.bootstrapServers must be host:port"),
    "brokers with spaces": ({"spec.source.bootstrapServers": "a:1, b:2"}, "spec.source.bootstrapServers must be host:port"),
    "a port out of range": ({"spec.source.bootstrapServers": "kafka:99999"}, "spec.source.bootstrapServers must be host:port"),
    "a port of zero": ({"spec.source.bootstrapServers": "kafka:0"}, "spec.source.bootstrapServers must be host:port"),
    "a host of dashes": ({"spec.source.bootstrapServers": "---:9092"}, "spec.source.bootstrapServers must be host:port"),
    "a topic pattern": ({"spec.source.topic": "events-*"}, "spec.source.topic must be one literal topic name"),
    "a sink topic with a space": ({"spec.sink.kafka.topic": "a b"}, "spec.sink.kafka.topic must be one literal topic name"),
    "the same topic": ({"spec.sink.kafka.topic": "user_events"}, "spec.sink.kafka.topic must differ from spec.source.topic"),
    "offsets zero": ({"spec.source.maxOffsetsPerTrigger": 0}, "spec.source.maxOffsetsPerTrigger"),
    "fortnights": (
        {"spec.watermark": "10 fortnights"},
        "spec.watermark is not a duration: write hours, minutes and seconds in this order, such as 10s",
    ),
    "an empty watermark": ({"spec.watermark": ""}, "spec.watermark is not a duration"),
    "a zero watermark": ({"spec.watermark": "0s"}, "spec.watermark must be longer than zero"),
    "a zero watermark in parts": ({"spec.watermark": "0h00m"}, "spec.watermark must be longer than zero"),
    "a negative watermark": ({"spec.watermark": "-5m"}, "spec.watermark is not a duration"),
    "an endless watermark": ({"spec.watermark": "99999999999h"}, "spec.watermark is not a duration"),
    "a watermark of a number": ({"spec.watermark": 600}, "spec.watermark"),
    "a negative trigger": ({"spec.trigger.processingTime": "-5s"}, "spec.trigger.processingTime is not a duration"),
    "no key fields": ({"spec.key.fields": []}, "spec.key.fields"),
    "an empty key field": ({"spec.key.fields": [""]}, "spec.key.fields"),
    "an empty part": ({"spec.key.fields": ["a..b"]}, "each of spec.key.fields must be a path such as eventId"),
    "a key in quotes": ({"spec.key.fields": ["a`b"]}, "each of spec.key.fields must be a path such as eventId"),
    "an index that is no number": ({"spec.key.fields": ["a[x]"]}, "each of spec.key.fields must be a path such as eventId"),
    "an index of the payload": ({"spec.key.fields": ["[0].id"]}, "each of spec.key.fields must be a path such as eventId"),
    "an escaped dot": (
        {"spec.key.fields": ["event\\.id"]},
        "spec.key.fields has a backslash, which does not escape a dot: write ['event.id']",
    ),
    "an escaped dot in the time": ({"spec.eventTime.field": "a\\.b"}, "spec.eventTime.field has a backslash"),
    "an array and its element": ({"spec.key.fields": ["a", "a[0]"]}, "spec.key.fields names a field and a part of it"),
    "an element of the time": ({"spec.key.fields": ["timestamp[0]"]}, "spec.eventTime.field is a part of one of spec.key.fields"),
    "a key twice": ({"spec.key.fields": ["a", "b", "a"]}, "spec.key.fields names a field twice"),
    "a key in a key": ({"spec.key.fields": ["order", "order.id"]}, "spec.key.fields names a field and a part of it"),
    "a time in a key": (
        {"spec.key.fields": ["meta"], "spec.eventTime.field": "meta.time"},
        "spec.eventTime.field is a part of one of spec.key.fields or contains one",
    ),
    "a key in a time": (
        {"spec.key.fields": ["a.b"], "spec.eventTime.field": "a"},
        "spec.eventTime.field is a part of one of spec.key.fields or contains one",
    ),
    "too many key fields": ({"spec.key.fields": [f"f{i}" for i in range(17)]}, "spec.key.fields: Too many"),
    "a time path with a space": ({"spec.eventTime.field": "a b"}, "spec.eventTime.field must be a path"),
    "a format misspelt": ({"spec.eventTime.format": "EpochMilis"}, "spec.eventTime.format must be Iso8601"),
    "two sinks": ({"spec.sink.console": {}}, "spec.sink needs exactly one member"),
    "an empty sink": ({"spec.sink": {}}, "spec.sink needs exactly one member"),
    "a size in words": ({"spec.checkpoint": {"claim": {"size": "big"}}}, "spec.checkpoint.claim.size must be a positive quantity"),
    "a size of zero": ({"spec.checkpoint": {"claim": {"size": "0Gi"}}}, "spec.checkpoint.claim.size must be a positive quantity"),
    "a size in thousandths": ({"spec.checkpoint": {"claim": {"size": "1m"}}}, "spec.checkpoint.claim.size is too small"),
    "a storage class": ({"spec.checkpoint": {"claim": {"storageClassName": "Not_A"}}}, "spec.checkpoint.claim.storageClassName must be"),
    "an access mode": ({"spec.checkpoint": {"claim": {"accessMode": "RWO"}}}, "spec.checkpoint.claim.accessMode: Unsupported value"),
    "a policy": ({"spec.checkpoint": {"reclaimPolicy": "Keep"}}, "spec.checkpoint.reclaimPolicy: Unsupported value"),
    "two triggers": (
        {"spec.trigger": {"processingTime": "6s", "availableNow": {}}},
        "spec.trigger takes at most one member: keep spec.trigger.processingTime or spec.trigger.availableNow",
    ),
    "a schedule of four fields": ({"spec.trigger": {"availableNow": {"schedule": "* * * *"}}}, "schedule must have five fields"),
    "a minute too many": ({"spec.trigger": {"availableNow": {"schedule": "60 * * * *"}}}, "schedule must have five fields"),
    "a month that is no month": ({"spec.trigger": {"availableNow": {"schedule": "* * * may-day *"}}}, "schedule must have five fields"),
    "an empty schedule": ({"spec.trigger": {"availableNow": {"schedule": ""}}}, "schedule must have five fields"),
    "two claims": (
        {"spec.checkpoint": {"claim": {"size": "20Gi"}, "existing": {"claimName": "shared"}}},
        "spec.checkpoint takes at most one member: keep spec.checkpoint.claim or spec.checkpoint.existing",
    ),
    "a claim without a name": ({"spec.checkpoint": {"existing": {}}}, "spec.checkpoint.existing.claimName: Required value"),
    "a claim in capitals": ({"spec.checkpoint": {"existing": {"claimName": "Shared"}}}, "existing.claimName must be the name of a claim"),
    "a folder in a folder": ({"spec.checkpoint": {"existing": {"claimName": "a", "subPath": "b/c"}}}, "subPath must be one name"),
    "a folder above": ({"spec.checkpoint": {"existing": {"claimName": "a", "subPath": ".."}}}, "subPath must be one name"),
    "a shared claim that is deleted with the job": (
        {"spec.checkpoint": {"existing": {"claimName": "shared"}, "reclaimPolicy": "Delete"}},
        "spec.checkpoint.reclaimPolicy cannot be Delete with spec.checkpoint.existing",
    ),
    "a policy of a later version": ({"spec.onIncompatibleChange": "WarmRestart"}, 'Unsupported value: "WarmRestart"'),
    "no parallelism": ({"spec.parallelism": 0}, "spec.parallelism"),
    "a negative nonce": ({"spec.restartNonce": -1}, "spec.restartNonce"),
    "memory in GB": (
        {"spec.driver.resources": {"limits": {"memory": "4GB"}}},
        "spec.driver.resources.limits.memory must be a positive quantity",
    ),
    "too little memory": (
        {"spec.driver.resources": {"limits": {"memory": "256Mi"}}},
        "spec.driver.resources.limits.memory is too small for a driver",
    ),
    "a request above the limit": (
        {"spec.driver.resources": {"requests": {"memory": "4Gi"}}},
        "spec.driver.resources.requests.memory must not be larger than spec.driver.resources.limits.memory",
    ),
    "a default request above the limit": (
        {"spec.driver.resources": {"limits": {"cpu": "100m"}}},
        "spec.driver.resources.requests.cpu must not be larger than spec.driver.resources.limits.cpu",
    ),
    "a long name": ({"metadata.name": "a" * 46}, "metadata.name is too long: use at most 45 characters"),
    "a name with a dot": ({"metadata.name": "a.b"}, "metadata.name must begin with a letter"),
    "a name with a digit first": ({"metadata.name": "2fast"}, "metadata.name must begin with a letter"),
    "a progress topic that is the source": (
        {**PREFIXED, "spec.source.topic": "shop-progress"},
        "<spec.sink.kafka.transactionalIdPrefix>-progress must differ from spec.source.topic",
    ),
    "a progress topic that is the sink": (
        {**PREFIXED, "spec.sink.kafka.topic": "shop-progress"},
        "<spec.sink.kafka.transactionalIdPrefix>-progress must differ from spec.sink.kafka.topic",
    ),
    "a key without fields": ({"spec.key": {}}, "spec.key.fields is missing: name the fields of the payload"),
    "from fields without fields": ({"spec.key": {"from": "Fields"}}, "spec.key.fields is missing: name the fields of the payload"),
    "fields beside the Kafka key": ({"spec.key.from": "KafkaKey"}, "spec.key.fields is only for spec.key.from: Fields"),
    "fields beside the whole value": ({"spec.key.from": "ValueHash"}, "spec.key.fields is only for spec.key.from: Fields"),
    "a key from a header without a name": ({"spec.key": {"from": "Header"}}, "spec.key.headers is missing: name the headers"),
    "headers beside the Kafka key": (
        {"spec.key": {"from": "KafkaKey", "headers": ["id"]}},
        "spec.key.headers is only for spec.key.from: Fields or Header",
    ),
    "a header twice": ({"spec.key.headers": ["id", "id"]}, "spec.key.headers names a header twice"),
    "a time without a field": ({"spec.eventTime": {"format": "EpochMillis"}}, "spec.eventTime.field is missing: name the field"),
    "from a field without a field": ({"spec.eventTime": {"from": "Field"}}, "spec.eventTime.field is missing: name the field"),
    "a field beside the Kafka timestamp": (
        {"spec.eventTime.from": "KafkaTimestamp"},
        "spec.eventTime.field is only for spec.eventTime.from: Field",
    ),
    "a field beside the arrival": ({"spec.eventTime.from": "Arrival"}, "spec.eventTime.field is only for spec.eventTime.from: Field"),
    "a time from a header without a name": ({"spec.eventTime": {"from": "Header"}}, "spec.eventTime.header is required with"),
    "a header beside a time field": ({"spec.eventTime.header": "at"}, "spec.eventTime.header is required with spec.eventTime.from: Header"),
    "a time zone of a number": (
        {"spec.eventTime.format": "EpochMillis", "spec.eventTime.timeZone": "UTC"},
        "spec.eventTime.timeZone is only for times that are written as text",
    ),
    "a time zone of the Kafka timestamp": (
        {"spec.eventTime": {"from": "KafkaTimestamp", "timeZone": "UTC"}},
        "spec.eventTime.timeZone is only for times that are written as text",
    ),
    "an offset as time zone": (
        {"spec.eventTime.timeZone": "+02:00"},
        "spec.eventTime.timeZone must be a name of the IANA time zone database",
    ),
    "framing of a raw value": ({**RAW, "spec.framing": "SchemaRegistry"}, "spec.framing is for spec.format: Json"),
    "tombstone dead letters without a topic": ({"spec.onTombstone": "DeadLetter"}, "spec.deadLetter.topic is missing"),
    "tombstones cannot be emitted": ({"spec.onTombstone": "Emit"}, 'spec.onTombstone: Unsupported value: "Emit"'),
    "a skew of days": ({"spec.eventTime.maxFutureSkew": "1d"}, "spec.eventTime.maxFutureSkew is not a duration: write hours"),
    "an empty skew": ({"spec.eventTime.maxFutureSkew": ""}, "spec.eventTime.maxFutureSkew is not a duration"),
    "a negative skew": ({"spec.eventTime.maxFutureSkew": "-5m"}, "spec.eventTime.maxFutureSkew is not a duration"),
    "a skew of a number": ({"spec.eventTime.maxFutureSkew": 3600}, "spec.eventTime.maxFutureSkew: Invalid value"),
    "raw with key fields": (
        {**RAW, "spec.key": {"fields": ["eventId"]}},
        "spec.format is Raw, so the payload has no fields: set spec.key.from to Header, KafkaKey",
    ),
    "raw with a time field": (
        {**RAW, "spec.eventTime": {"field": "timestamp"}},
        "spec.format is Raw, so the payload has no fields: set spec.eventTime.from to Header, KafkaTimestamp",
    ),
    "late dead letters without a topic": (
        {"spec.onLate": "DeadLetter"},
        "spec.deadLetter.topic is missing, but spec.onLate, spec.onInvalid or spec.onTombstone",
    ),
    "invalid dead letters without a topic": (
        {"spec.onInvalid": "DeadLetter"},
        "spec.deadLetter.topic is missing, but spec.onLate, spec.onInvalid or",
    ),
    "dead letters without a topic": ({"spec.onLate": "DeadLetter", "spec.deadLetter": {}}, "spec.deadLetter.topic: Required value"),
    "dead letters beside the log": (
        {"spec.sink": {"console": {}}, "spec.onInvalid": "DeadLetter", "spec.deadLetter": {"topic": "user_events_dead"}},
        "spec.deadLetter needs a Kafka sink",
    ),
    "a pattern of dead letters": ({"spec.deadLetter": {"topic": "dead-*"}}, "spec.deadLetter.topic must be one literal topic name"),
    "dead letters into the source": (
        {"spec.deadLetter": {"topic": "user_events"}},
        "spec.deadLetter.topic must differ from spec.source.topic, because the job would read what it writes",
    ),
    "dead letters into the sink": ({"spec.deadLetter": {"topic": "user_events_unique"}}, "spec.deadLetter.topic must differ from"),
    "dead letters in the progress topic": (
        {**PREFIXED, "spec.deadLetter": {"topic": "shop-progress"}},
        "<spec.sink.kafka.transactionalIdPrefix>-progress must differ from spec.deadLetter.topic",
    ),
    "late records cannot stop the job": ({"spec.onLate": "Fail"}, 'spec.onLate: Unsupported value: "Fail"'),
    "invalid records cannot go to the output": ({"spec.onInvalid": "Emit"}, 'spec.onInvalid: Unsupported value: "Emit"'),
}


SIZE = "spec.checkpoint.claim.size cannot shrink (it is 10Gi when absent)"
STORAGE_CLASS = "spec.checkpoint.claim.storageClassName cannot be changed, set or removed once the claim exists"
ACCESS_MODE = "spec.checkpoint.claim.accessMode cannot be changed (it is ReadWriteOncePod when absent)"
PLACE = "spec.checkpoint.existing cannot be changed once keys are stored, because the stored keys stay where they are"
FAST = {"claim": {"size": "20Gi", "storageClassName": "fast"}}
DEFAULT = {"claim": {"size": "10Gi", "accessMode": "ReadWriteOncePod"}}
MANY = {"claim": {"accessMode": "ReadWriteMany"}}
OWN = {"existing": {"claimName": "shared"}}

Checkpoint = dict[str, Any] | None
Edit = tuple[Checkpoint, tuple[str, ...]]
CHECKPOINTS: dict[str, tuple[Checkpoint, list[Edit]]] = {
    "a claim grows but never shrinks": (
        {"claim": {"size": "2Gi"}},
        [({"claim": {"size": "3Gi"}}, ()), ({"claim": {"size": "2Gi"}}, (SIZE,)), ({"claim": {"size": 4294967296}}, ())],
    ),
    "a claim never moves": (
        FAST,
        [
            ({"claim": {"size": "20Gi", "storageClassName": "slow"}}, (STORAGE_CLASS,)),
            ({"claim": {"size": "20Gi"}}, (STORAGE_CLASS,)),
            ({"claim": {"size": "20Gi", "storageClassName": "fast", "accessMode": "ReadWriteMany"}}, (ACCESS_MODE,)),
        ],
    ),
    "a claim cannot be removed and come back as another": (
        FAST,
        [
            ({"reclaimPolicy": "Retain"}, (SIZE, STORAGE_CLASS)),
            ({}, (SIZE, STORAGE_CLASS)),
            (None, (SIZE, STORAGE_CLASS)),
            ({**FAST, "reclaimPolicy": "Delete"}, ()),
        ],
    ),
    "an access mode cannot be removed either": (
        MANY,
        [({"reclaimPolicy": "Delete"}, (ACCESS_MODE,)), ({"claim": {}}, (ACCESS_MODE,)), (None, (ACCESS_MODE,))],
    ),
    "without a claim the default one counts": (
        {"reclaimPolicy": "Delete"},
        [
            ({"claim": {"size": "1Gi"}}, (SIZE,)),
            ({"claim": {"storageClassName": "slow"}}, (STORAGE_CLASS,)),
            (MANY, (ACCESS_MODE,)),
            ({"claim": {"size": "1Gi", "storageClassName": "slow", "accessMode": "ReadWriteMany"}}, (SIZE, STORAGE_CLASS, ACCESS_MODE)),
            (OWN, (PLACE,)),
            ({**DEFAULT, "reclaimPolicy": "Delete"}, ()),
            ({"claim": {"size": "11Gi"}}, ()),
        ],
    ),
    "without a checkpoint the default one counts": (
        None,
        [(MANY, (ACCESS_MODE,)), ({"reclaimPolicy": "Delete"}, ()), (DEFAULT, ()), ({"claim": {}}, ()), (OWN, (PLACE,)), (None, ())],
    ),
    "a claim below the default grows when it is removed": ({"claim": {"size": "5Gi"}}, [({"reclaimPolicy": "Retain"}, ())]),
    "keys stay in the operator's claim": (FAST, [(OWN, (PLACE,)), ({**FAST, **OWN}, (PLACE,))]),
    "keys stay in the user's claim": (
        OWN,
        [
            ({"existing": {"claimName": "other"}}, (PLACE,)),
            ({"existing": {"claimName": "shared", "subPath": "elsewhere"}}, (PLACE,)),
            ({"claim": {"size": "1Gi"}}, (PLACE,)),
            ({}, (PLACE,)),
            (None, (PLACE,)),
            ({**OWN, "reclaimPolicy": "Retain"}, ()),
        ],
    ),
    "keys stay in a folder": (
        {"existing": {"claimName": "shared", "subPath": "folder"}},
        [(OWN, (PLACE,)), ({"existing": {"claimName": "shared", "subPath": "Folder"}}, (PLACE,))],
    ),
}
"""The checkpoint of a new job, and edits in their order. Each has the messages that refuse it, or none."""
