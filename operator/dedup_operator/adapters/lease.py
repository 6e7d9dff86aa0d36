"""Decides which of several replicas of the operator is active: the one that holds the Lease.

Two active operators do no harm, see docs/decisions/0009, but they do everything twice. The Lease is therefore no fence;
it avoids this work. A standby reconciles nothing, and a replica that could not renew its Lease in time writes nothing
until it has renewed the Lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from dedup_operator.adapters.kube import AlreadyExists, Kube, Resource
from dedup_operator.domain.errors import ApiConflict, ApiUnavailable, DedupOperatorError
from dedup_operator.domain.types import Json

DURATION_SECONDS = 15
"""A standby takes over when the Lease has not changed for this
long by its own clock. The replicas' clocks need not agree."""
OVERDUE_SECONDS = 10.0
"""After this time without a renewal the replica stops writing.
It leaves time for one request before a standby takes over."""
RENEW_SECONDS = 3.0

logger = logging.getLogger(__name__)


@dataclass
class Lease:
    kube: Kube
    namespace: str
    name: str
    identity: str
    """Identifies this process. A process that replaces it has another identity."""
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    on_start: Callable[[], None]
    """Called when this replica becomes active."""
    _renewed: float | None = None
    """When the last successful renewal was sent. None when another replica holds the Lease."""
    _problem: str = ""
    """Why the last renewal failed."""
    _seen: tuple[str, float] = field(default=("", 0.0))
    """The resourceVersion of the Lease, and when this replica saw it first."""

    def is_held(self) -> bool:
        return self._renewed is not None and self.monotonic() - self._renewed < OVERDUE_SECONDS

    def list_problems(self) -> list[str]:
        """Why this replica may never work, as sentences. A standby has no problem."""
        return [f"the operator cannot renew the Lease {self.name}: {self._problem}"] if self._problem and not self.is_held() else []

    def check(self) -> None:
        """Called before each write. Raises ApiUnavailable when this replica does not hold the Lease."""
        if not self.is_held():
            raise ApiUnavailable("this replica has not renewed its Lease in time, so another replica may be active")

    async def run(self) -> None:
        """Renews the Lease until cancelled.

        Then it releases the Lease, so that a standby need not wait until it expires.
        """
        try:
            while True:
                try:
                    await self.renew()
                except Exception:
                    logger.exception("cannot renew the Lease %s; the operator retries", self.name)
                await asyncio.sleep(RENEW_SECONDS)
        finally:
            with contextlib.suppress(DedupOperatorError, asyncio.TimeoutError):
                await asyncio.wait_for(self._release(), RENEW_SECONDS)

    async def renew(self) -> None:
        """One step: creates the Lease, takes it, renews it, or leaves it to the replica that holds it."""
        sent = self.monotonic()
        try:
            held = await self._write(await self.kube.get(Resource.LEASES, self.namespace, self.name))
        except ApiConflict:
            held = False  # another replica was faster
        except DedupOperatorError as error:
            logger.warning("cannot renew the Lease %s: %s", self.name, error)
            self._problem = str(error)
            return
        self._problem = ""
        # False also after an overdue renewal: meanwhile this replica has dropped DedupJobs from its queue.
        was = self.is_held()
        self._renewed = sent if held else None
        if held and not was:
            logger.info("this replica is active: it holds the Lease %s", self.name)
            self.on_start()
        elif was and not held:
            logger.warning("this replica is a standby: another replica holds the Lease %s", self.name)

    async def _write(self, lease: Json | None) -> bool:
        now = self.clock().isoformat(timespec="microseconds").replace("+00:00", "Z")
        mine = {"holderIdentity": self.identity, "leaseDurationSeconds": DURATION_SECONDS, "acquireTime": now, "renewTime": now}
        if lease is None:
            metadata = {"name": self.name, "namespace": self.namespace}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": mine}
            with contextlib.suppress(AlreadyExists):
                await self.kube.create(Resource.LEASES, self.namespace, body)
                return True
            return False
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") == self.identity:
            mine["acquireTime"] = spec.get("acquireTime", now)
        elif spec.get("holderIdentity") and not self._has_expired(lease["metadata"]["resourceVersion"]):
            return False
        await self.kube.replace(Resource.LEASES, {**lease, "spec": {**spec, **mine}})
        return True

    def _has_expired(self, version: str) -> bool:
        now = self.monotonic()
        if self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] > DURATION_SECONDS

    async def _release(self) -> None:
        if self._renewed is None:
            return
        self._renewed = None
        lease = await self.kube.get(Resource.LEASES, self.namespace, self.name)
        if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
            await self.kube.replace(Resource.LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": ""}})
