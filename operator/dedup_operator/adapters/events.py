"""Writes Kubernetes Events about DedupJobs.

kopf's own events are core/v1 events for log lines, without aggregation. This module writes events only on transitions.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from dedup_api import names
from dedup_api.reasons import Reason
from dedup_operator.adapters.kube import Kube, Resource
from dedup_operator.domain.errors import DedupOperatorError
from dedup_operator.domain.event_notes import EventNote
from dedup_operator.domain.types import Json

logger = logging.getLogger(__name__)

MAX_NOTE_BYTES = 1024
"""Bytes in UTF-8. The API server refuses a longer note."""


@dataclass
class Recorder:
    kube: Kube

    async def record(self, resource: Json, notes: list[EventNote], now: datetime) -> None:
        """Drops an event that cannot be written.

        The status says the same, and the DedupJob must not wait for an event.
        """
        for note in notes:
            try:
                await self.kube.create(Resource.EVENTS, resource["metadata"]["namespace"], build_event(resource, note, now))
            except DedupOperatorError as error:
                logger.info("cannot write the event %s, so it is dropped: %s", note.reason, error)


def cut_bytes(text: str, limit: int) -> str:
    """`text`, cut to at most `limit` bytes in UTF-8 and never within a character."""
    return text.encode()[:limit].decode(errors="ignore")


def build_event(resource: Json, note: EventNote, now: datetime) -> Json:
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
        "note": cut_bytes(note.message, MAX_NOTE_BYTES),
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
    }
