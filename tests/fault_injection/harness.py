"""Starts control plane, simulated node and fork server together, and ends them: what the fixture `harness` gives to
tests."""

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
from fault_injection.environment import Environment, wait_until
from fault_injection.etcd import Etcd
from fault_injection.faults import SHORT_INTERVALS, Intervals
from fault_injection.fork_server import KUBECONFIG
from fault_injection.node import Node
from fault_injection.object_counts import ObjectCounts
from fault_injection.operators import ForkServer, Operator
from testbed.layout import CHECKOUT

CRD = CHECKOUT / "crds" / f"{names.CRD_NAME}.yaml"


@dataclass
class Harness:
    """A running control plane with a simulated node.

    A test creates its own namespace, starts an operator for this namespace, and works on objects with `api` (`create`,
    `get`, `find`, `list`, `patch`, `delete`) or on one DedupJob with `open_environment`. The simulated node starts and
    ends pods. `drivers.find_overlaps` and `object_counts.count` say what ever existed in a namespace, also when it is
    deleted by now.
    """

    control: ControlPlane
    api: Api
    etcd: Etcd
    drivers: Drivers
    object_counts: ObjectCounts
    node: Node
    forks: ForkServer
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the cluster's administrator."""
        return self.control.layout.kubeconfig

    async def create_namespace(self) -> str:
        """All names have the same length: messages contain them and are cut off at a fixed length, and two runs compare
        messages."""
        name = f"fault{next(self._numbers):05d}"
        await self.api.create("namespaces", None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def open_environment(self, namespace: str) -> Environment:
        return Environment(self.api, self.etcd, namespace)

    def prepare_operator(self, namespace: str, kubeconfig: str | None = None, intervals: Intervals = SHORT_INTERVALS) -> Operator:
        """Returns an operator that is not started yet. `kubeconfig` is the content of the file; without it the operator
        talks to the API server directly."""
        folder = self.control.layout.state / "operators" / namespace
        folder.mkdir(parents=True)
        (folder / KUBECONFIG).write_text(kubeconfig or self.kubeconfig.read_text())
        return Operator(self.forks, namespace, folder, intervals)

    async def start_operator(self, namespace: str) -> Operator:
        """Starts an operator that watches only this namespace. It runs until `kill`, or until the test session ends."""
        operator = self.prepare_operator(namespace)
        await operator.start()
        return operator


@asynccontextmanager
async def open_harness() -> AsyncIterator[Harness]:
    """Starts everything, and ends everything also when the test fails."""
    control = ControlPlane.prepare()
    async with AsyncExitStack() as stack:
        stack.callback(control.stop)
        control.start()
        api = await stack.enter_async_context(Api(control.server, control.build_ssl()))
        await _create_crd(api)
        control.start_controllers()
        drivers = await stack.enter_async_context(Drivers())
        object_counts = ObjectCounts(api)
        node = Node(api, drivers, object_counts)
        await node.register()
        forks = await stack.enter_async_context(ForkServer(control.layout.state))
        watching = asyncio.create_task(object_counts.run())
        try:
            yield Harness(control, api, Etcd(control.etcd), drivers, object_counts, node, forks)
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
