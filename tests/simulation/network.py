"""The network between the operator and the cluster: requests take time, fail, arrive late, or return old objects.

The operator gets `SimulatedKube` and `SimulatedDrivers` in place of its clients. Each request becomes one event in the
loop. So everything else can happen between any two requests of a reconciliation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dedup_api.driver_status import DriverStatus
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.kube import Kube, Resource
from dedup_operator.domain.errors import ApiConflict, ApiRefused, ApiUnavailable, DedupOperatorError
from simulation.api_server import Address, Json, Kind, copy_body
from simulation.faults import Fault
from simulation.writes import Write

if TYPE_CHECKING:
    from simulation.operators import OperatorProcess
    from simulation.run import Simulation

COUNTED_BY_QUOTA = {Kind.CLAIMS, Kind.CONFIG_MAPS, Kind.STATEFUL_SETS, Kind.JOBS, Kind.CRON_JOBS}


KINDS: dict[Resource, Kind] = {
    resource: Kind.CORE_EVENTS if resource is Resource.CORE_EVENTS else Kind(resource.value[1])
    for resource in Resource
    if resource not in {Resource.LEASES, Resource.EVENTS}
}


@lru_cache
def _split(selector: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (part.partition("=") for part in selector.split(","))]


def matches(body: Json, selector: str) -> bool:
    labels = body["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in _split(selector))


class SimulatedKube(Kube):
    """The API client of one operator process."""

    def __init__(self, simulation: Simulation, process: OperatorProcess) -> None:
        super().__init__(api=None)
        self.simulation, self.process = simulation, process
        self.last_reads: dict[Address, Json | None] = {}
        """By address: the object that this process read last. The invariants judge a write by what the process could
        know."""
        self.previous_reads: dict[Address, Json | None] = {}
        self.read_versions: dict[tuple[str, str], int] = {}

    def _read(self, moment: float, address: Address) -> Json | None:
        body = self.simulation.server.peek_at(*address, moment)
        if address.kind is Kind.DEDUP_JOBS:
            self.previous_reads[address] = self.last_reads.get(address)
        self.last_reads[address] = body
        if body is not None:
            self._record_version(body)
        return body

    def _read_all(self, moment: float, kind: Kind, namespace: str | None, query: dict[str, str]) -> list[Json]:
        server = self.simulation.server
        if kind is Kind.CORE_EVENTS:
            uid = query["fieldSelector"].partition("=")[2].partition(",")[0]
            return [body for body in server.scan(kind, namespace) if body["involvedObject"]["uid"] == uid]
        items = server.scan_at(kind, namespace, moment) if namespace is not None else server.scan(kind)
        chosen = [body for body in items if "labelSelector" not in query or matches(body, query["labelSelector"])]
        for body in chosen:
            self.last_reads[Address(kind, body["metadata"]["namespace"], body["metadata"]["name"])] = body
            self._record_version(body)
        return chosen

    def _record_version(self, body: Json) -> None:
        """Remembers every version, not only the last: two reconciliations may read an object at the same time, and each
        may write what it read."""
        metadata = body["metadata"]
        self.read_versions.setdefault((metadata["uid"], metadata["resourceVersion"]), len(self.read_versions))

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        found: Json | None = await self._send(self._serve_read, self._read, Address(KINDS[resource], namespace, name))
        return found

    async def list(self, resource: Resource, namespace: str | None, **query: str) -> list[Json]:
        found: list[Json] = await self._send(self._serve_read, self._read_all, KINDS[resource], namespace, query)
        return found

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        if resource is Resource.EVENTS:
            return await self._write(self._issue("report", None, body), dict)
        address = Address(KINDS[resource], namespace, body["metadata"]["name"])
        sent, name = copy_body(body), self.process.name
        write = self._issue("create", address, sent)
        return await self._write(write, lambda: self.simulation.server.create(address.kind, namespace, sent, name))

    async def replace(self, resource: Resource, body: Json, subresource: str = "") -> Json:
        kind, sent, name = KINDS[resource], copy_body(body), self.process.name
        address = Address(kind, body["metadata"]["namespace"], body["metadata"]["name"])
        write = self._issue("status" if subresource else "replace", address, sent)
        return await self._write(write, lambda: self.simulation.server.replace(kind, sent, subresource, name))

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, *, version: str | None = None, foreground: bool = False
    ) -> None:
        kind = KINDS[resource]

        def act() -> Json:
            self.simulation.server.delete(kind, namespace, name, uid=uid, version=version, foreground=foreground, actor=self.process.name)
            return {}

        preconditions = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": version}
        await self._write(self._issue("delete", Address(kind, namespace, name), preconditions), act)

    def _issue(self, verb: str, address: Address | None, body: Json) -> Write:
        return Write(verb, address, body, dict(self.last_reads), dict(self.previous_reads), self.read_versions, len(self.read_versions))

    async def _send(self, serve: Callable[..., None], *request: Any) -> Any:
        simulation = self.simulation
        future = simulation.loop.create_future()
        delay = simulation.rng.uniform(0.5, 8.0) if simulation.faults.occurs(Fault.SLOW_ANSWERS) else simulation.rng.uniform(0.001, 0.05)
        simulation.loop.after(delay, self._arrive, future, serve, request)
        return await future

    def _arrive(self, future: asyncio.Future[Any], serve: Callable[..., None], request: tuple[Any, ...]) -> None:
        if not self.process.dead and not future.done():
            serve(future, *request)

    def _serve_read(self, future: asyncio.Future[Any], read: Callable[..., Any], *request: Any) -> None:
        faults, moment = self.simulation.faults, self.simulation.loop.now
        if faults.occurs(Fault.READ_ERROR):
            future.set_exception(ApiUnavailable("HTTP 503"))
            return
        if faults.occurs(Fault.STALE_READ):
            moment -= self.simulation.rng.uniform(0.1, 4.0)
        future.set_result(read(moment, *request))

    async def _write(self, write: Write, act: Callable[[], Json]) -> Json:
        if self.simulation.faults.occurs(Fault.CRASH_BEFORE_WRITE, write.weight):
            self.simulation.record_crash(write, "before")
            self.process.crash()
        found: Json = await self._send(self._serve_write, write, act)
        return found

    def _serve_write(self, future: asyncio.Future[Any], write: Write, act: Callable[[], Json]) -> None:
        faults, rng, loop = self.simulation.faults, self.simulation.rng, self.simulation.loop
        error = self._draw_error(write)
        if error is not None:
            self.simulation.log(f"{self.process.name}: {write} fails: {error or type(error).__name__}")
            future.set_exception(error)
            return
        if faults.occurs(Fault.LATE_WRITE, write.weight):
            loop.after(rng.uniform(1.0, 40.0), self._apply, None, write, act)
            loop.after(30.0, self._fail, future)
            self.simulation.log(f"{self.process.name}: {write} is delayed")
            return
        if faults.occurs(Fault.CRASH_AFTER_WRITE, write.weight):
            self._apply(None, write, act)
            self.simulation.record_crash(write, "after")
            self.process.crash()
        elif faults.occurs(Fault.ANSWER_LOST, write.weight):
            self._apply(None, write, act)
            loop.after(rng.choice((0.1, 30.0)), self._fail, future)
        else:
            self._apply(future, write, act)

    def _draw_error(self, write: Write) -> DedupOperatorError | None:
        faults = self.simulation.faults
        if faults.occurs(Fault.CONFLICT):
            return ApiConflict("HTTP 409")
        if faults.occurs(Fault.TOO_MANY_REQUESTS):
            return ApiUnavailable("HTTP 429", float(self.simulation.rng.randint(1, 5)))
        if faults.occurs(Fault.SERVER_ERROR):
            return ApiUnavailable("HTTP 500")
        is_counted = write.verb == "create" and write.address is not None and write.address.kind in COUNTED_BY_QUOTA
        if is_counted and faults.has(Fault.QUOTA_EXCEEDED) and self.simulation.loop.now < self.simulation.quota_exceeded_until:
            faults.record(Fault.QUOTA_EXCEEDED)
            return ApiRefused("exceeded quota")
        return None

    def _apply(self, future: asyncio.Future[Any] | None, write: Write, act: Callable[[], Json]) -> None:
        """The moment at which the API server applies the write."""
        before = self.simulation.begin_write(self.process, write)
        try:
            answer = act()
        except DedupOperatorError as error:
            self.simulation.log(f"{self.process.name}: {write} is refused: {error}")
            if future is not None:
                future.set_exception(error)
            return
        self.simulation.end_write(self.process, write, before, answer)
        if future is not None:
            if "metadata" in answer:
                self._record_version(answer)
            future.set_result(copy_body(answer) if write.verb == "replace" else answer)  # the operator changes the answer of a replace

    def _fail(self, future: asyncio.Future[Any]) -> None:
        if not self.process.dead and not future.done():
            future.set_exception(ApiUnavailable("the API server does not answer"))


class SimulatedDrivers(Drivers):
    """Simulates only the request. The operator's own code decides what a missing answer means."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(session=None)  # type: ignore[arg-type]
        self.simulation = simulation

    async def _get(self, address: str) -> DriverStatus:
        loop, rng = self.simulation.loop, self.simulation.rng
        future = loop.create_future()
        loop.after(rng.uniform(0.001, 0.02), self._answer, address, future)
        answer: DriverStatus = await future
        return answer

    def _answer(self, address: str, future: asyncio.Future[DriverStatus]) -> None:
        if future.done():
            return
        process = self.simulation.nodes.find_process(address)
        if process is None:
            future.set_exception(ConnectionRefusedError("connection refused"))
        elif not process.answers:
            self.simulation.loop.after(2.0, self._give_up, future)
        else:
            future.set_result(process.describe())

    def _give_up(self, future: asyncio.Future[DriverStatus]) -> None:
        if not future.done():
            future.set_exception(TimeoutError("no answer"))
