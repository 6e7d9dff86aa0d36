"""Records which objects exist and which ever existed in each namespace, from the API server's own watches."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from dedup_api import names
from fault_injection.api import Api, Json

COUNTED = (names.PLURAL, "statefulsets", "services", "configmaps", "persistentvolumeclaims", "pods", "jobs", "cronjobs")
Listener = Callable[[str, Json], None]
"""Takes ADDED, MODIFIED or DELETED, and the object."""


@dataclass
class ObjectCounts:
    api: Api
    listeners: dict[str, list[Listener]] = field(default_factory=lambda: defaultdict(list))
    _seen: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """By namespace and plural: the UIDs of all objects that ever existed."""
    _present: dict[str, dict[str, Json]] = field(default_factory=lambda: defaultdict(dict))
    """By namespace, then by `plural/name`: the objects that exist."""
    _not_ready_reasons: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By namespace: every reason that a condition Ready with status False ever had."""

    async def run(self) -> None:
        """Watches until it is cancelled."""
        await asyncio.gather(*(self._watch(plural) for plural in COUNTED))

    async def _watch(self, plural: str) -> None:
        async for kind, item in self.api.watch(plural):
            self._record_event(plural, kind, item)
            for listener in self.listeners[plural]:
                listener(kind, item)

    def _record_event(self, plural: str, kind: str, item: Json) -> None:
        metadata = item["metadata"]
        self._seen[metadata["namespace"], plural].add(metadata["uid"])
        present, path = self._present[metadata["namespace"]], f"{plural}/{metadata['name']}"
        if kind == "DELETED":
            present.pop(path, None)
        else:
            present[path] = item
        if plural == names.PLURAL:
            conditions = (item.get("status") or {}).get("conditions", [])
            ready = (condition for condition in conditions if (condition["type"], condition["status"]) == ("Ready", "False"))
            self._not_ready_reasons[metadata["namespace"]] |= {condition["reason"] for condition in ready}

    def list_present(self, namespace: str) -> dict[str, Json]:
        """By `plural/name`: the objects that exist. This sends no request; the watches may be a moment late."""
        return dict(self._present[namespace])

    def list_not_ready_reasons(self, namespace: str) -> set[str]:
        """Every reason that the condition Ready of a DedupJob ever had with status False."""
        return set(self._not_ready_reasons[namespace])

    def count(self, namespace: str) -> dict[str, int]:
        """How many objects of each kind ever existed in a namespace. A kind without objects is absent."""
        counts = {plural: len(self._seen[namespace, plural]) for plural in COUNTED if (namespace, plural) in self._seen}
        return {plural: number for plural, number in counts.items() if number}
