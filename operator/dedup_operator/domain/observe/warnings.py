"""Warning events about the driver's objects: when it helps to read them, and what they say."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.observe.pod import DriverPod
from dedup_operator.domain.observe.workload import find_replicas, job_has_ended
from dedup_operator.domain.times import parse_time
from dedup_operator.domain.types import Json

NORMAL_DELAY = timedelta(seconds=3)
"""A controller creates a pod within a second. After this time the
operator reads the events to find out why the pod is missing."""


def list_pod_creators(stateful_set: Json | None, runs: Iterable[Json]) -> list[Json]:
    """The StatefulSet and the Kubernetes Jobs that should have a pod now."""
    found = [raw for raw in (stateful_set, *runs) if raw is not None and find_replicas(raw) > 0]
    return [raw for raw in found if raw["kind"] != Kind.JOB or not job_has_ended(raw)]


def may_have_warnings(creators: list[Json], pod: DriverPod | None, now: datetime) -> bool:
    """Whether there should be a driver and its pod is missing or does not start."""
    if not creators:
        return False
    if pod is None:
        return any(now - parse_time(creator["metadata"]["creationTimestamp"]) > NORMAL_DELAY for creator in creators)
    return pod.started_at is None and not pod.exits and now - pod.created_at > NORMAL_DELAY


def find_warning(events: Iterable[Json], kinds: Collection[str], reasons: Collection[str]) -> str | None:
    """The message of the newest matching event. The API server stores events without a reason and without the kind of
    their object too, because anybody may create events."""
    matching = [event for event in events if _find_kind(event) in kinds and event.get("reason") in reasons]
    if not matching:
        return None
    newest = max(matching, key=_find_time)
    return str(newest.get("message", "")).strip() or None


def _find_kind(event: Json) -> str:
    return str((event.get("involvedObject") or {}).get("kind", ""))


def _find_time(event: Json) -> datetime:
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(text or event["metadata"]["creationTimestamp"])
