"""When the operator reads the warning events about the driver's objects."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dedup_operator.domain.observe.pod import DriverPod
from dedup_operator.domain.observe.warnings import find_warning, list_pod_creators, may_have_warnings
from dedup_operator.domain.times import render_time
from dedup_operator.domain.types import Json
from unit.operator.samples import CRASHED, NOW, POD

ENDED = {"conditions": [{"type": "Failed", "status": "True"}]}
STATEFUL_SET: Json = {"kind": "StatefulSet", "spec": {"replicas": 1}}
SCALED_DOWN: Json = {"kind": "StatefulSet", "spec": {"replicas": 0}}
RUN: Json = {"kind": "Job", "spec": {}}


def test_a_workload_creates_pods_unless_it_is_scaled_down_or_has_ended() -> None:
    assert list_pod_creators(STATEFUL_SET, [RUN]) == [STATEFUL_SET, RUN]
    assert list_pod_creators(SCALED_DOWN, [{**RUN, "spec": {"suspend": True}}, {**RUN, "status": ENDED}]) == []
    assert list_pod_creators(None, []) == []


NEW, OLD = (NOW - timedelta(seconds=seconds) for seconds in (2, 4))
STARTING = replace(POD, started_at=None)


@pytest.mark.parametrize(
    ("created_at", "pod", "reads"),
    [
        (None, None, False),
        (None, replace(STARTING, created_at=OLD), False),
        (NEW, None, False),
        (OLD, None, True),
        (OLD, replace(STARTING, created_at=NEW), False),
        (OLD, replace(STARTING, created_at=OLD), True),
        (OLD, replace(STARTING, created_at=OLD, exits=(CRASHED,)), False),
        (OLD, replace(POD, created_at=OLD), False),
    ],
    ids=[
        "no driver is wanted",
        "an unwanted pod does not start",
        "just created",
        "no pod",
        "a new pod",
        "the pod does not start",
        "the exit says more",
        "running",
    ],
)
def test_events_are_read_only_when_a_wanted_pod_is_missing_or_does_not_start(created_at: Any, pod: DriverPod | None, reads: bool) -> None:
    creators = [] if created_at is None else [{"metadata": {"creationTimestamp": render_time(created_at)}}]
    assert may_have_warnings(creators, pod, NOW) is reads


def test_events_that_lack_a_reason_or_the_kind_of_their_object_are_skipped() -> None:
    metadata = {"creationTimestamp": render_time(NOW)}
    odd: list[Json] = [
        {"metadata": metadata, "involvedObject": {}},
        {"metadata": metadata, "involvedObject": {"kind": "Pod"}},
        {"metadata": metadata, "reason": "FailedMount"},
        {"metadata": metadata, "involvedObject": None, "reason": None},
    ]
    good: Json = {"metadata": metadata, "involvedObject": {"kind": "Pod"}, "reason": "FailedMount", "message": "no volume"}
    assert find_warning(odd, {"Pod"}, {"FailedMount"}) is None
    assert find_warning([*odd, good], {"Pod"}, {"FailedMount"}) == "no volume"
