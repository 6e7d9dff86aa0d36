"""A controller that changes the pod template of a StatefulSet after each write of the operator, as an autoscaler or a
policy controller may do. The operator must not answer each time."""

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

    def on_change(self, change: Change) -> None:
        simulation = self.simulation
        is_write = change.event is Event.MODIFIED and change.actor in simulation.operators and change.old is not None
        if not simulation.faults.has(Fault.FIGHTING_CONTROLLER) or change.address.kind is not Kind.STATEFUL_SETS or not is_write:
            return
        assert change.old is not None and change.new is not None
        if change.old["spec"] != change.new["spec"]:
            simulation.loop.after(simulation.extra_rng.uniform(0.01, 2.0), self._change, change)

    def _change(self, change: Change) -> None:
        simulation = self.simulation
        if not simulation.faults.has(Fault.FIGHTING_CONTROLLER):
            return
        simulation.faults.record(Fault.FIGHTING_CONTROLLER)
        for user in simulation.users:
            user.changed_workloads.append(change.new["metadata"]["uid"] if change.new is not None else "")
        simulation.server.change(*change.address, _edit, CONTROLLER_ACTOR)


def _edit(body: Json) -> None:
    body["spec"]["template"]["metadata"].setdefault("annotations", {})[ANNOTATION] = "true"


def is_changed_by_controller(stateful_set: Json) -> bool:
    return ANNOTATION in stateful_set["spec"]["template"]["metadata"].get("annotations", {})
