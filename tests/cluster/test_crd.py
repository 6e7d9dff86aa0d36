"""What `kubectl apply` says: every rule of the CRD on the real API server, both ways.

Refusals are asked of kubectl itself, because its message is what people read.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KUBECTL = ROOT / ".testbed" / "bin" / "kubectl"
KUBECONFIG = ROOT / ".testbed" / "kubeconfig"
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


EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))


def kubectl(*arguments: str, document: object = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(KUBECTL), "--kubeconfig", str(KUBECONFIG), *arguments],
        input=None if document is None else json.dumps(document),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[None]:
    """The CRD as people apply it, and a namespace. A CRD that was not there before is removed again."""
    existed = kubectl("get", "crd", "dedupjobs.streamdedup.dev").returncode == 0
    applied = kubectl("apply", "-f", str(ROOT / "crds"))
    assert applied.returncode == 0, applied.stderr
    established = kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/dedupjobs.streamdedup.dev")
    assert established.returncode == 0, established.stderr
    kubectl("create", "namespace", NAMESPACE)
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    if not existed:
        kubectl("delete", "crd", "dedupjobs.streamdedup.dev")


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with values set at dotted paths; None removes."""
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
    "runs by a schedule": {"spec.trigger": {"availableNow": {"schedule": "*/10 0-6,22 1,15 jan-mar mon"}}},
    "runs by a word": {"spec.trigger": {"availableNow": {"schedule": "@daily"}}},
    "a folder of a claim": {"spec.checkpoint": {"existing": {"claimName": "shared", "subPath": "Orders_1.v2"}}},
    "a folder by the job's name": {"spec.checkpoint": {"existing": {"claimName": "shared.claim"}, "reclaimPolicy": "Retain"}},
    "incompatible changes": {"spec.onIncompatibleChange": "Block"},
    "only a policy": {"spec.checkpoint": {"reclaimPolicy": "Delete"}},
    "resources as numbers": {"spec.driver.resources": {"requests": {"cpu": 1}, "limits": {"cpu": 2, "memory": 2147483648}}},
    "resources as text": {"spec.driver.resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}},
    "parallelism": {"spec.parallelism": 64},
    "suspended": {"spec.suspend": True, "spec.restartNonce": 7},
    "the longest name": {"metadata.name": "a" * 45},
    "the key's place by name": {"spec.key": {"from": "Fields", "fields": ["eventId"]}},
    "the Kafka key": {"spec.key": {"from": "KafkaKey"}},
    "the whole value": {"spec.key": {"from": "ValueHash"}},
    "the time's place by name": {"spec.eventTime": {"from": "Field", "field": "timestamp"}},
    "the Kafka timestamp": {"spec.eventTime": {"from": "KafkaTimestamp"}},
    "the arrival": {"spec.eventTime": {"from": "Arrival"}},
    "the Kafka key beside a time in the payload": {"spec.key": {"from": "KafkaKey"}, "spec.format": "Json"},
    "a key in the payload beside the Kafka timestamp": {"spec.eventTime": {"from": "KafkaTimestamp"}, "spec.format": "Json"},
    "no skew": {"spec.eventTime.maxFutureSkew": "0s"},
    "a skew in parts": {"spec.eventTime.maxFutureSkew": "24h30m"},
    "raw, by Kafka's key and time": RAW,
    "raw, by value and arrival": {**RAW, "spec.key": {"from": "ValueHash"}, "spec.eventTime": {"from": "Arrival"}},
    "what is late passes": {"spec.onLate": "Emit"},
    "what is invalid stops the job": {"spec.onInvalid": "Fail"},
    "what is invalid is left out": {"spec.onInvalid": "Drop"},
    "what is invalid is left out of the log": {"spec.onInvalid": "Drop", "spec.sink": {"console": {}}},
    "late dead letters": {"spec.onLate": "DeadLetter", "spec.deadLetter": {"topic": "user_events_dead"}},
    "invalid dead letters": {"spec.onInvalid": "DeadLetter", "spec.deadLetter": {"topic": "user_events_dead"}},
    "a topic for dead letters that nobody writes to": {"spec.deadLetter": {"topic": "user_events_dead"}},
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
    "fortnights": ({"spec.watermark": "10 fortnights"}, "spec.watermark is not a duration: write hours, minutes and seconds such as 10s"),
    "an empty watermark": ({"spec.watermark": ""}, "spec.watermark is not a duration"),
    "a zero watermark": ({"spec.watermark": "0s"}, "spec.watermark must be longer than zero"),
    "a zero watermark in parts": ({"spec.watermark": "0h00m"}, "spec.watermark must be longer than zero"),
    "a negative watermark": ({"spec.watermark": "-5m"}, "spec.watermark is not a duration"),
    "a watermark without end": ({"spec.watermark": "99999999999h"}, "spec.watermark is not a duration"),
    "a watermark of a number": ({"spec.watermark": 600}, "spec.watermark"),
    "a negative trigger": ({"spec.trigger.processingTime": "-5s"}, "spec.trigger.processingTime is not a duration"),
    "an empty trigger": ({"spec.trigger": {}}, "spec.trigger needs exactly one member: set spec.trigger.processingTime"),
    "no key fields": ({"spec.key.fields": []}, "spec.key.fields"),
    "an empty key field": ({"spec.key.fields": [""]}, "spec.key.fields"),
    "an empty part": ({"spec.key.fields": ["a..b"]}, "spec.key.fields must hold paths"),
    "a key in quotes": ({"spec.key.fields": ["a`b"]}, "spec.key.fields must hold paths"),
    "a key in brackets": ({"spec.key.fields": ["a[0]"]}, "spec.key.fields must hold paths"),
    "a key twice": ({"spec.key.fields": ["a", "b", "a"]}, "spec.key.fields names a field twice"),
    "a key in a key": ({"spec.key.fields": ["order", "order.id"]}, "spec.key.fields names a field and a part of it"),
    "a time in a key": ({"spec.key.fields": ["meta"], "spec.eventTime.field": "meta.time"}, "spec.eventTime.field lies above or below"),
    "a key in a time": ({"spec.key.fields": ["a.b"], "spec.eventTime.field": "a"}, "spec.eventTime.field lies above or below"),
    "too many key fields": ({"spec.key.fields": [f"f{i}" for i in range(17)]}, "spec.key.fields: Too many"),
    "a time path with a space": ({"spec.eventTime.field": "a b"}, "spec.eventTime.field must be a path"),
    "a format misspelt": ({"spec.eventTime.format": "EpochMilis"}, "spec.eventTime.format must be Iso8601"),
    "two sinks": ({"spec.sink.console": {}}, "spec.sink needs exactly one member"),
    "an empty sink": ({"spec.sink": {}}, "spec.sink needs exactly one member"),
    "a size in words": ({"spec.checkpoint": {"claim": {"size": "big"}}}, "spec.checkpoint.claim.size must be a positive quantity"),
    "a size of zero": ({"spec.checkpoint": {"claim": {"size": "0Gi"}}}, "spec.checkpoint.claim.size must be a positive quantity"),
    "a size in thousandths": ({"spec.checkpoint": {"claim": {"size": "1m"}}}, "spec.checkpoint.claim.size is too little"),
    "a storage class": ({"spec.checkpoint": {"claim": {"storageClassName": "Not_A"}}}, "spec.checkpoint.claim.storageClassName must be"),
    "an access mode": ({"spec.checkpoint": {"claim": {"accessMode": "RWO"}}}, "spec.checkpoint.claim.accessMode: Unsupported value"),
    "a policy": ({"spec.checkpoint": {"reclaimPolicy": "Keep"}}, "spec.checkpoint.reclaimPolicy: Unsupported value"),
    "two triggers": ({"spec.trigger.availableNow": {}}, "spec.trigger needs exactly one member: set spec.trigger.processingTime or"),
    "a schedule of four fields": ({"spec.trigger": {"availableNow": {"schedule": "* * * *"}}}, "schedule must have five fields"),
    "a minute too many": ({"spec.trigger": {"availableNow": {"schedule": "60 * * * *"}}}, "schedule must have five fields"),
    "a month of words": ({"spec.trigger": {"availableNow": {"schedule": "* * * may-day *"}}}, "schedule must have five fields"),
    "an empty schedule": ({"spec.trigger": {"availableNow": {"schedule": ""}}}, "schedule must have five fields"),
    "two claims": (
        {"spec.checkpoint": {"claim": {}, "existing": {"claimName": "shared"}}},
        "spec.checkpoint takes at most one member: keep spec.checkpoint.claim or spec.checkpoint.existing",
    ),
    "a claim without a name": ({"spec.checkpoint": {"existing": {}}}, "spec.checkpoint.existing.claimName: Required value"),
    "a claim in capitals": ({"spec.checkpoint": {"existing": {"claimName": "Shared"}}}, "existing.claimName must be the name of a claim"),
    "a folder in a folder": ({"spec.checkpoint": {"existing": {"claimName": "a", "subPath": "b/c"}}}, "subPath must be one name"),
    "a folder above": ({"spec.checkpoint": {"existing": {"claimName": "a", "subPath": ".."}}}, "subPath must be one name"),
    "a shared claim that goes with the job": (
        {"spec.checkpoint": {"existing": {"claimName": "shared"}, "reclaimPolicy": "Delete"}},
        "spec.checkpoint.reclaimPolicy: Delete is not for existing",
    ),
    "changes that are not there yet": ({"spec.onIncompatibleChange": "WarmRestart"}, 'Unsupported value: "WarmRestart"'),
    "no parallelism": ({"spec.parallelism": 0}, "spec.parallelism"),
    "a negative nonce": ({"spec.restartNonce": -1}, "spec.restartNonce"),
    "memory in GB": (
        {"spec.driver.resources": {"limits": {"memory": "4GB"}}},
        "spec.driver.resources.limits.memory must be a positive quantity",
    ),
    "too little memory": (
        {"spec.driver.resources": {"limits": {"memory": "256Mi"}}},
        "spec.driver.resources.limits.memory is too little for a driver",
    ),
    "a request above the limit": (
        {"spec.driver.resources": {"requests": {"memory": "4Gi"}}},
        "spec.driver.resources.requests.memory must not be larger than limits.memory",
    ),
    "a default request above the limit": (
        {"spec.driver.resources": {"limits": {"cpu": "100m"}}},
        "spec.driver.resources.requests.cpu must not be larger than limits.cpu",
    ),
    "a long name": ({"metadata.name": "a" * 46}, "metadata.name is too long: use at most 45 characters"),
    "a name with a dot": ({"metadata.name": "a.b"}, "metadata.name must begin with a letter"),
    "a name with a digit first": ({"metadata.name": "2fast"}, "metadata.name must begin with a letter"),
    "a progress topic that is the source": (
        {**PREFIXED, "spec.source.topic": "shop-progress"},
        "spec.sink.kafka.transactionalIdPrefix gives the progress topic the name of the job's own source or sink",
    ),
    "a progress topic that is the sink": (
        {**PREFIXED, "spec.sink.kafka.topic": "shop-progress"},
        "spec.sink.kafka.transactionalIdPrefix gives the progress topic the name of the job's own source or sink",
    ),
    "a key without fields": ({"spec.key": {}}, "spec.key.fields is missing: name the fields of the payload"),
    "fields by name without any": ({"spec.key": {"from": "Fields"}}, "spec.key.fields is missing: name the fields of the payload"),
    "fields beside the Kafka key": ({"spec.key.from": "KafkaKey"}, "spec.key.fields is only for spec.key.from: Fields"),
    "fields beside the whole value": ({"spec.key.from": "ValueHash"}, "spec.key.fields is only for spec.key.from: Fields"),
    "a key from a header": ({"spec.key": {"from": "Header"}}, 'spec.key.from: Unsupported value: "Header"'),
    "a time without a field": ({"spec.eventTime": {"format": "EpochMillis"}}, "spec.eventTime.field is missing: name the field"),
    "a field by name without any": ({"spec.eventTime": {"from": "Field"}}, "spec.eventTime.field is missing: name the field"),
    "a field beside the Kafka timestamp": (
        {"spec.eventTime.from": "KafkaTimestamp"},
        "spec.eventTime.field is only for spec.eventTime.from: Field",
    ),
    "a field beside the arrival": ({"spec.eventTime.from": "Arrival"}, "spec.eventTime.field is only for spec.eventTime.from: Field"),
    "a time from a header": ({"spec.eventTime": {"from": "Header"}}, 'spec.eventTime.from: Unsupported value: "Header"'),
    "a skew of days": ({"spec.eventTime.maxFutureSkew": "1d"}, "spec.eventTime.maxFutureSkew is not a duration: write hours"),
    "an empty skew": ({"spec.eventTime.maxFutureSkew": ""}, "spec.eventTime.maxFutureSkew is not a duration"),
    "a negative skew": ({"spec.eventTime.maxFutureSkew": "-5m"}, "spec.eventTime.maxFutureSkew is not a duration"),
    "a skew of a number": ({"spec.eventTime.maxFutureSkew": 3600}, "spec.eventTime.maxFutureSkew: Invalid value"),
    "raw with key fields": ({**RAW, "spec.key": {"fields": ["eventId"]}}, "spec.format: Raw has no fields: set spec.key.from to KafkaKey"),
    "raw with a time field": (
        {**RAW, "spec.eventTime": {"field": "timestamp"}},
        "spec.format: Raw has no fields: set spec.eventTime.from to KafkaTimestamp",
    ),
    "late dead letters without a topic": ({"spec.onLate": "DeadLetter"}, "spec.deadLetter.topic is missing: spec.onLate or spec.onInvalid"),
    "invalid dead letters without a topic": ({"spec.onInvalid": "DeadLetter"}, "spec.deadLetter.topic is missing: spec.onLate or"),
    "dead letters without a topic": ({"spec.onLate": "DeadLetter", "spec.deadLetter": {}}, "spec.deadLetter.topic: Required value"),
    "dead letters beside the log": (
        {"spec.sink": {"console": {}}, "spec.onInvalid": "DeadLetter", "spec.deadLetter": {"topic": "user_events_dead"}},
        "spec.deadLetter needs a Kafka sink",
    ),
    "a pattern of dead letters": ({"spec.deadLetter": {"topic": "dead-*"}}, "spec.deadLetter.topic must be one literal topic name"),
    "dead letters into the source": (
        {"spec.deadLetter": {"topic": "user_events"}},
        "spec.deadLetter.topic must differ from spec.source.topic, spec.sink.kafka.topic and the progress topic",
    ),
    "dead letters into the sink": ({"spec.deadLetter": {"topic": "user_events_unique"}}, "spec.deadLetter.topic must differ from"),
    "dead letters among the markers": (
        {**PREFIXED, "spec.deadLetter": {"topic": "shop-progress"}},
        "spec.deadLetter.topic must differ from",
    ),
    "late records that stop the job": ({"spec.onLate": "Fail"}, 'spec.onLate: Unsupported value: "Fail"'),
    "invalid records that pass": ({"spec.onInvalid": "Emit"}, 'spec.onInvalid: Unsupported value: "Emit"'),
}


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_good_object_is_accepted(changes: dict[str, Any]) -> None:
    done = kubectl("apply", "--dry-run=server", "-f", "-", document=changed(changes))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_object_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    done = kubectl("apply", "--dry-run=server", "-f", "-", document=changed(changes))
    assert done.returncode != 0
    assert message in done.stderr


def test_defaults_are_filled_in() -> None:
    document = changed({"spec.trigger": None})
    done = kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", document=document)
    live = json.loads(done.stdout)
    assert live["status"] == {"observedGeneration": -1}
    spec = live["spec"]
    assert spec["trigger"] == {"processingTime": "5s"}
    assert spec["source"]["startingOffsets"] == "Earliest"
    assert spec["source"]["maxOffsetsPerTrigger"] == 200_000
    assert spec["format"] == "Json"
    assert spec["key"] == {"from": "Fields", "fields": ["eventId"]}
    assert spec["eventTime"] == {"from": "Field", "field": "timestamp", "format": "Iso8601", "maxFutureSkew": "1h"}
    assert (spec["onLate"], spec["onInvalid"]) == ("Drop", "Fail")
    assert "deadLetter" not in spec
    assert spec["checkpoint"] == {"claim": {"size": "10Gi", "accessMode": "ReadWriteOncePod"}, "reclaimPolicy": "Retain"}
    assert spec["driver"] == {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "2", "memory": "2Gi"}}}
    assert spec["onIncompatibleChange"] == "Block"
    assert spec["suspend"] is False
    assert "parallelism" not in spec


SIZE = "spec.checkpoint.claim.size cannot shrink, and is 10Gi when absent"
STORAGE_CLASS = "spec.checkpoint.claim.storageClassName cannot be changed, nor set or removed"
ACCESS_MODE = "spec.checkpoint.claim.accessMode cannot be changed, and is ReadWriteOncePod when absent"
PLACE = "spec.checkpoint.existing cannot be changed: the keys stay where they are"
FAST = {"claim": {"size": "20Gi", "storageClassName": "fast"}}
DEFAULT = {"claim": {"size": "10Gi", "accessMode": "ReadWriteOncePod"}}
MANY = {"claim": {"accessMode": "ReadWriteMany"}}
OWN = {"existing": {"claimName": "shared"}}

CHECKPOINTS: dict[str, tuple[dict[str, Any] | None, list[tuple[dict[str, Any] | None, tuple[str, ...]]]]] = {
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
    "a claim is not left out, to come back as another": (
        FAST,
        [
            ({"reclaimPolicy": "Retain"}, (SIZE, STORAGE_CLASS)),
            ({}, (SIZE, STORAGE_CLASS)),
            (None, (SIZE, STORAGE_CLASS)),
            ({**FAST, "reclaimPolicy": "Delete"}, ()),
        ],
    ),
    "nor is a mode": (MANY, [({"reclaimPolicy": "Delete"}, (ACCESS_MODE,)), ({"claim": {}}, (ACCESS_MODE,)), (None, (ACCESS_MODE,))]),
    "a claim that was left out is the default one": (
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
    "so is that of a job without a checkpoint": (
        None,
        [(MANY, (ACCESS_MODE,)), ({"reclaimPolicy": "Delete"}, ()), (DEFAULT, ()), ({"claim": {}}, ()), (OWN, (PLACE,)), (None, ())],
    ),
    "a claim that is less than the default one grows to it": ({"claim": {"size": "5Gi"}}, [({"reclaimPolicy": "Retain"}, ())]),
    "keys stay in the operator's claim": (FAST, [(OWN, (PLACE,)), ({**FAST, **OWN}, (PLACE,))]),
    "keys stay in a claim of one's own": (
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
"""The checkpoint of a new job, and edits one after the other, each with what it is refused by, or nothing."""


@pytest.mark.parametrize(("begun", "edits"), CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_a_checkpoint_stays_what_it_is(begun: dict[str, Any] | None, edits: list[tuple[dict[str, Any] | None, tuple[str, ...]]]) -> None:
    """Suspended, so that nothing is made of it."""
    fields = {"metadata.name": "transitions", "spec.suspend": True}
    done = kubectl("create", "-f", "-", document=changed(fields | ({"spec.checkpoint": begun} if begun is not None else {})))
    assert done.returncode == 0, done.stderr
    try:
        for checkpoint, messages in edits:
            edited = changed(fields | ({"spec.checkpoint": checkpoint} if checkpoint is not None else {}))
            done = kubectl("replace", "-f", "-", document=edited)
            assert (done.returncode == 0) == (not messages), f"{checkpoint}: {done.stderr}"
            found = {message for message in (SIZE, STORAGE_CLASS, ACCESS_MODE, PLACE) if message in done.stderr}
            assert found == set(messages), f"{checkpoint}: {done.stderr}"
    finally:
        kubectl("delete", "dedupjob", "transitions", "-n", NAMESPACE)


def test_every_field_is_explained() -> None:
    done = kubectl("explain", "dedupjob.spec", "--recursive")
    assert done.returncode == 0, done.stderr
    assert "maxOffsetsPerTrigger" in done.stdout
    watermark = kubectl("explain", "dedupjob.spec.watermark").stdout
    assert "Copies of an event closer together than this" in watermark


def test_the_short_name_and_the_columns() -> None:
    job = changed({"metadata.name": "columns", "spec.suspend": True})
    assert kubectl("apply", "-f", "-", document=job).returncode == 0
    narrow = kubectl("get", "dj", "-n", NAMESPACE).stdout.splitlines()
    assert narrow[0].split() == ["NAME", "READY", "REASON", "TOPIC", "WATERMARK", "DUPLICATES", "LAG", "AGE"]
    assert {"columns", "user_events", "10m"} <= set(narrow[1].split())
    wide = kubectl("get", "dj", "-n", NAMESPACE, "-o", "wide").stdout.splitlines()[0].split()
    assert set(wide) - set(narrow[0].split()) == {"DRIVER", "RESTARTS", "RATE", "LATE", "INVALID", "STATE"}
    kubectl("delete", "dedupjob", "columns", "-n", NAMESPACE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_accepted_as_it_stands(path: Path) -> None:
    done = kubectl("apply", "--dry-run=server", "-f", str(path))
    assert done.returncode == 0, done.stderr


def test_the_job_in_the_readme_is_the_smallest_example() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block in (ROOT / "docs" / "examples" / "user-events.yaml").read_text()
