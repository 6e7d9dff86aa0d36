"""A controller that changes the StatefulSet after each write of the operator: its pod template, as a policy controller
does, or its replicas, as an autoscaler does. The operator must not answer each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulation.api_server import Change, Event, Json, Kind
from simulation.faults import Fault

if TYPE_CHECKING:
    from simulation.run import Simulation

CONTROLLER_ACTOR = "fighting controller"
ANNOTATION = "by-controller"


class FightingController:
    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.replicas = simulation.extra_rng.choice((None, None, 0, 2))
        """What it scales to. None if it changes the pod template."""
        self._written: set[tuple[str, int]] = set()
        """UID and generation of what it has written."""

    def on_change(self, change: Change) -> None:
        simulation = self.simulation
        is_write = change.event is Event.MODIFIED and change.actor in simulation.operators and change.old is not None
        if not simulation.faults.has(Fault.FIGHTING_CONTROLLER) or change.address.kind is not Kind.STATEFUL_SETS or not is_write:
            return
        assert change.old is not None and change.new is not None
        if change.old["spec"] != change.new["spec"] and change.new["spec"]["replicas"] > 0:
            simulation.loop.after(simulation.extra_rng.uniform(0.01, 2.0), self._change, change)

    def _change(self, change: Change) -> None:
        simulation = self.simulation
        if not simulation.faults.has(Fault.FIGHTING_CONTROLLER):
            return
        changed = simulation.server.change(*change.address, self._edit, CONTROLLER_ACTOR)
        if changed is None:
            return
        simulation.faults.record(Fault.FIGHTING_CONTROLLER)
        self._written.add((changed["metadata"]["uid"], changed["metadata"]["generation"]))
        for user in simulation.users:
            user.changed_workloads.append(changed["metadata"]["uid"])

    def _edit(self, body: Json) -> None:
        if self.replicas is not None:
            body["spec"]["replicas"] = self.replicas
        else:
            body["spec"]["template"]["metadata"].setdefault("annotations", {})[ANNOTATION] = "true"

    def has_written(self, stateful_set: Json) -> bool:
        """Whether the present spec of the object is its own."""
        return (stateful_set["metadata"]["uid"], stateful_set["metadata"]["generation"]) in self._written
