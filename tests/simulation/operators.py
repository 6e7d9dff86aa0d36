"""An operator process: the real reconciler, work queue and relist, with a clock that may be wrong.

Only kopf's part is simulated: the watches, whose events may arrive late, twice, in another order or never, and the list
of all objects with which a new watch begins. When the process dies, its memory is lost.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dedup_api import names
from dedup_operator.__main__ import relist_periodically
from dedup_operator.adapters.events import Recorder
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.annotations import OWN_SELECTOR
from dedup_operator.domain.types import Key
from dedup_operator.handlers import CHILDREN
from dedup_operator.queue import WorkQueue
from dedup_operator.reconcile import Reconciler
from simulation.api_server import START_TIME, Change, Json, Kind
from simulation.faults import Fault
from simulation.loop import OWNER
from simulation.network import SimulatedDrivers, SimulatedKube, matches

if TYPE_CHECKING:
    from simulation.run import Simulation

WATCHED = {Kind.DEDUP_JOBS, *(Kind(plural) for _, _, plural in CHILDREN)}


class NoMetrics(Metrics):
    """Records nothing. Nobody reads the metrics here, and a Prometheus registry takes more CPU time than a
    reconciliation."""

    def __init__(self) -> None:
        """Creates no registry."""

    @contextmanager
    def measure_reconciliation(self) -> Iterator[None]:
        yield

    def set_reason(self, key: object, reason: str) -> None: ...

    def forget(self, key: object) -> None: ...


class OperatorProcess:
    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation, self.name = simulation, name
        self.dead = False
        self.clock_error = 0.0
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self.kube = SimulatedKube(simulation, self)
        self.reconciler = Reconciler(
            kube=self.kube,
            drivers=SimulatedDrivers(simulation),
            recorder=Recorder(self.kube),
            metrics=NoMetrics(),
            image=simulation.image,
            clock=self.read_clock,
            resync_seconds=simulation.resync_seconds,
        )
        self.queue = WorkQueue(self.reconciler.reconcile, workers=4)
        create = simulation.loop.create_task
        self._tasks = [
            create(self.queue.run(), name="dispatcher", context=self.context),
            create(relist_periodically(self.kube, self.queue, lambda: [None], asyncio.Event()), name="relist", context=self.context),
        ]
        simulation.log(f"{name} starts")
        simulation.loop.after(simulation.rng.uniform(0.05, 1.0), self._list_all)

    def read_clock(self) -> datetime:
        return START_TIME + timedelta(seconds=self.simulation.loop.now + self.clock_error)

    def crash(self) -> None:
        """Ends the process at once. Another process of the same name starts after some seconds."""
        if self.dead:
            return
        self.dead = True
        self.simulation.log(f"{self.name} dies")
        self.simulation.loop.after(self.simulation.rng.uniform(0.2, 15.0), self.simulation.start_operator, self.name)

    def on_change(self, change: Change) -> None:
        if change.address.kind not in WATCHED or self.dead:
            return
        body = change.new or change.old
        if body is None or (change.address.kind is not Kind.DEDUP_JOBS and not matches(body, OWN_SELECTOR)):
            return
        faults, rng, loop = self.simulation.faults, self.simulation.rng, self.simulation.loop
        if faults.occurs(Fault.WATCH_LOST):
            loop.after(rng.uniform(2.0, 30.0), self._list_all)
            return
        delay = rng.uniform(0.5, 6.0) if faults.occurs(Fault.WATCH_REORDERED) else rng.uniform(0.002, 0.1)
        loop.after(delay, self._deliver, change.address.kind, body)
        if faults.occurs(Fault.WATCH_REPEATED):
            loop.after(delay + rng.uniform(0.01, 3.0), self._deliver, change.address.kind, body)

    def _list_all(self) -> None:
        """Delivers every object that exists, as at the start of a watch. Deletions that happened before are not
        reported."""
        for address, body in self.simulation.server.list_all():
            if address.kind is Kind.DEDUP_JOBS or (address.kind in WATCHED and matches(body, OWN_SELECTOR)):
                self._deliver(address.kind, body)

    def _deliver(self, kind: Kind, body: Json) -> None:
        """Does what `dedup_operator.handlers` does with an event."""
        if self.dead:
            return
        metadata = body["metadata"]
        job = metadata["name"] if kind is Kind.DEDUP_JOBS else metadata.get("labels", {}).get(names.LABEL_JOB)
        if job is None:
            return
        key = Key(metadata["namespace"], job)
        if kind is Kind.PODS and "deletionTimestamp" in metadata:
            self.reconciler.record_pod_deletion(key, body)
        self.context.run(self.queue.add, key)
