"""Kubernetes Events about DedupJobs, written on transitions only.

kopf's own poster writes core/v1 events for log lines, without aggregation; this one writes few and means each.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from dedup_api import names
from dedup_api.reasons import Reason
from dedup_api.status import ConditionStatus, DedupJobStatus
from dedup_operator.adapters.kube import Kube, Resource
from dedup_operator.domain.errors import DedupOperatorError
from dedup_operator.domain.status import find_ready, list_new_exits

logger = logging.getLogger(__name__)

NOTE_LENGTH = 1024
"""The API's maximum."""


@dataclass(frozen=True)
class Note:
    reason: str
    message: str
    warning: bool


def list_notes(before: DedupJobStatus, after: DedupJobStatus) -> list[Note]:
    """What is worth an event between two states of a job: new exits, then a Ready that changed its status or its reason."""
    notes = [Note(exit.reason, f"Exit code {exit.exit_code}: {exit.message}", warning=True) for exit in list_new_exits(before, after)]
    old, new = find_ready(before), find_ready(after)
    if new is not None and (old is None or (old.status, old.reason) != (new.status, new.reason)):
        notes.append(Note(new.reason, new.message, warning=new.status is ConditionStatus.FALSE))
    return notes


@dataclass
class Recorder:
    kube: Kube

    async def record(self, resource: dict[str, Any], notes: list[Note], now: datetime) -> None:
        """An event that cannot be written is dropped: status says the same, and the job must not wait for it."""
        for note in notes:
            try:
                await self.kube.create(Resource.EVENTS, resource["metadata"]["namespace"], build_event(resource, note, now))
            except DedupOperatorError as error:
                logger.info("event %s is dropped: %s", note.reason, error)


def build_event(resource: dict[str, Any], note: Note, now: datetime) -> dict[str, Any]:
    metadata = resource["metadata"]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": f"{names.GROUP}/{names.MANAGER}",
        "reportingInstance": socket.gethostname()[:128],
        "action": "Stop" if note.reason in {Reason.SUSPENDING, Reason.SUSPENDED} else "Supervise",
        "reason": note.reason,
        "type": "Warning" if note.warning else "Normal",
        "note": note.message[:NOTE_LENGTH],
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
    }
