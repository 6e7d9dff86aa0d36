"""All of it put together: what the fixture `plane` gives to tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dedup_api import names
from fault_injection.api import Api
from fault_injection.control_plane import ControlPlane
from fault_injection.drivers import Drivers
from fault_injection.environment import Stage, wait_until
from fault_injection.etcd import Etcd
from fault_injection.faults import OFTEN, Pace
from fault_injection.fork_server import KUBECONFIG
from fault_injection.node import Node
from fault_injection.object_counts import Census
from fault_injection.operators import ForkServer, Operator
from testbed.layout import CHECKOUT

CRD = CHECKOUT / "crds" / f"{names.CRD_NAME}.yaml"


@dataclass
class Plane:
    """The running control plane and its played node.

    A test takes a namespace of its own, starts an operator for it and works on objects with `api` (`create`, `get`, `find`, `list`,
    `patch`, `delete`) or on one DedupJob with `open_stage`. Pods run, are counted and end as on a node; `drivers.find_overlaps` and
    `census.count` tell what there ever was.
    """

    control: ControlPlane
    api: Api
    etcd: Etcd
    drivers: Drivers
    census: Census
    node: Node
    forks: ForkServer
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def kubeconfig(self) -> Path:
        """Of the cluster's administrator."""
        return self.control.layout.kubeconfig

    async def create_namespace(self) -> str:
        """All names are of one length: they stand in messages that are cut off at a length."""
        name = f"plane{next(self._numbers):05d}"
        await self.api.create("namespaces", None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def open_stage(self, namespace: str) -> Stage:
        return Stage(self.api, self.etcd, namespace)

    def prepare_operator(self, namespace: str, kubeconfig: str | None = None, pace: Pace = OFTEN) -> Operator:
        """Not started yet. `kubeconfig`: its content; without one the operator talks to the API server itself."""
        folder = self.control.layout.state / "operators" / namespace
        folder.mkdir(parents=True)
        (folder / KUBECONFIG).write_text(kubeconfig or self.kubeconfig.read_text())
        return Operator(self.forks, namespace, folder, pace)

    async def start_operator(self, namespace: str) -> Operator:
        """One that watches this namespace only. `kill` ends it; the end of the session does too."""
        operator = self.prepare_operator(namespace)
        await operator.start()
        return operator


@asynccontextmanager
async def open_plane() -> AsyncIterator[Plane]:
    """Starts everything, and ends it again whatever happens."""
    control = ControlPlane.prepare()
    async with AsyncExitStack() as stack:
        stack.callback(control.stop)
        control.start()
        api = await stack.enter_async_context(Api(control.server, control.build_ssl()))
        await _create_crd(api)
        control.start_controllers()
        drivers = await stack.enter_async_context(Drivers())
        census = Census(api)
        node = Node(api, drivers, census)
        await node.attach()
        forks = await stack.enter_async_context(ForkServer(control.layout.state))
        watching = asyncio.create_task(census.run())
        try:
            yield Plane(control, api, Etcd(control.etcd), drivers, census, node, forks)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await node.close()


async def _create_crd(api: Api) -> None:
    document: Any = yaml.safe_load(CRD.read_text())
    await api.create("customresourcedefinitions", None, document)

    async def is_served() -> bool:
        crd = await api.get("customresourcedefinitions", None, names.CRD_NAME)
        return any(c["type"] == "Established" and c["status"] == "True" for c in (crd.get("status") or {}).get("conditions") or [])

    await wait_until(is_served, "the CRD is served", 30)
