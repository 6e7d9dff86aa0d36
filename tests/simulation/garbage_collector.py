"""The controllers that delete objects: the garbage collector, which follows owner references, and the one that protects
a claim until no pod uses it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup_operator.domain.errors import ApiConflict
from simulation.api_server import FOREGROUND, KINDS, PROTECTION, Address, Change, Event, Json, Kind
from simulation.checkpoint_location import find_claim_name

if TYPE_CHECKING:
    from simulation.run import Simulation

GC_ACTOR = "gc"
OWNERS = {Kind.DEDUP_JOBS, Kind.STATEFUL_SETS, Kind.JOBS, Kind.CRON_JOBS}


class GarbageCollector:
    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation

    def on_change(self, change: Change) -> None:
        address, rng = change.address, self.simulation.rng
        if change.event is Event.DELETED and change.old is not None:
            if address.kind in OWNERS:
                self._check_children_later(change.old)
            if change.old["metadata"].get("ownerReferences"):
                self._finish_owners_later(change.old)
        elif change.new is not None:
            may_be_orphan = change.event is Event.ADDED or change.actor not in {GC_ACTOR, "kubelet"}
            if may_be_orphan and change.new["metadata"].get("ownerReferences"):
                self._check_later(rng.uniform(0.05, 3.0), address)
            if FOREGROUND in change.new["metadata"].get("finalizers", ()):
                self._check_children_later(change.new)
                self.simulation.loop.after(rng.uniform(0.05, 1.0), self._finish_foreground, address)
        if address.kind in {Kind.PODS, Kind.CLAIMS}:
            namespace = address.namespace
            name = find_claim_name(change.old or change.new or {}) if address.kind is Kind.PODS else address.name
            if change.new is None or "deletionTimestamp" in change.new["metadata"]:
                self.simulation.loop.after(rng.uniform(0.05, 0.5), self._release_claim, namespace, name)

    def _check_later(self, delay: float, address: Address) -> None:
        self.simulation.loop.after(delay, self._delete_orphan, address)

    def _check_children_later(self, owner: Json) -> None:
        uid = owner["metadata"]["uid"]
        for address, body in self.simulation.server.list_all():
            if any(reference["uid"] == uid for reference in body["metadata"].get("ownerReferences", ())):
                self._check_later(self.simulation.rng.uniform(0.02, 2.0), address)

    def _finish_owners_later(self, child: Json) -> None:
        for reference in child["metadata"]["ownerReferences"]:
            address = Address(KINDS[reference["kind"]], child["metadata"]["namespace"], reference["name"])
            self.simulation.loop.after(self.simulation.rng.uniform(0.02, 0.5), self._finish_foreground, address)

    def _find_owner(self, namespace: str, reference: Json) -> Json | None:
        owner = self.simulation.server.peek(KINDS[reference["kind"]], namespace, reference["name"])
        return owner if owner is not None and owner["metadata"]["uid"] == reference["uid"] else None

    def _delete_orphan(self, address: Address) -> None:
        server = self.simulation.server
        body = server.peek(address.kind, address.namespace, address.name)
        if body is None:
            return
        references = body["metadata"].get("ownerReferences", ())
        owners = [self._find_owner(address.namespace, reference) for reference in references]
        if not references or any(owner is not None and not _waits_for_children(owner) for owner in owners):
            return
        try:
            server.delete(address.kind, address.namespace, address.name, uid=body["metadata"]["uid"], actor=GC_ACTOR)
        except ApiConflict:
            return

    def _finish_foreground(self, address: Address) -> None:
        server = self.simulation.server
        owner = server.peek(address.kind, address.namespace, address.name)
        if owner is None or not _waits_for_children(owner):
            return
        uid = owner["metadata"]["uid"]
        for _, body in server.list_all():
            references = body["metadata"].get("ownerReferences", ())
            if any(reference["uid"] == uid and reference.get("blockOwnerDeletion") for reference in references):
                return

        def release(found: Json) -> None:
            found["metadata"]["finalizers"].remove(FOREGROUND)

        server.change(address.kind, address.namespace, address.name, release, GC_ACTOR)

    def _release_claim(self, namespace: str, name: str) -> None:
        server = self.simulation.server
        claim = server.peek(Kind.CLAIMS, namespace, name)
        if claim is None or "deletionTimestamp" not in claim["metadata"]:
            return
        if any(find_claim_name(pod) == name for pod in server.scan(Kind.PODS, namespace)):
            return

        def release(body: Json) -> None:
            body["metadata"]["finalizers"] = [entry for entry in body["metadata"].get("finalizers", []) if entry != PROTECTION]

        server.change(Kind.CLAIMS, namespace, name, release, GC_ACTOR)


def _waits_for_children(owner: Json) -> bool:
    return FOREGROUND in owner["metadata"].get("finalizers", ()) and "deletionTimestamp" in owner["metadata"]
