"""What there is and what there ever was, by kind and namespace: told by the API server's watches, not by who made it."""

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
class Census:
    api: Api
    listeners: dict[str, list[Listener]] = field(default_factory=lambda: defaultdict(list))
    _seen: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """UIDs by namespace and plural."""
    _present: dict[str, dict[str, Json]] = field(default_factory=lambda: defaultdict(dict))
    """By namespace, then by `plural/name`."""
    _troubles: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By namespace."""

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(*(self._watch(plural) for plural in COUNTED))

    async def _watch(self, plural: str) -> None:
        async for kind, item in self.api.watch(plural):
            self._note(plural, kind, item)
            for listener in self.listeners[plural]:
                listener(kind, item)

    def _note(self, plural: str, kind: str, item: Json) -> None:
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
            self._troubles[metadata["namespace"]] |= {condition["reason"] for condition in ready}

    def list_present(self, namespace: str) -> dict[str, Json]:
        """By `plural/name`. Reading it costs the API server nothing, and it is a moment behind."""
        return dict(self._present[namespace])

    def list_troubles(self, namespace: str) -> set[str]:
        """Every reason for which a DedupJob ever was not ready."""
        return set(self._troubles[namespace])

    def count(self, namespace: str) -> dict[str, int]:
        """How many objects of each kind there ever were in a namespace; kinds without any are absent."""
        counts = {plural: len(self._seen[namespace, plural]) for plural in COUNTED if (namespace, plural) in self._seen}
        return {plural: number for plural, number in counts.items() if number}
