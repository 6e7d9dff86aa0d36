"""Which of several replicas works: the one that holds the Lease.

Two operators at once are safe, see docs/decisions/0009; they would only do everything twice. So the Lease is no fence, it saves work and
noise: whoever does not hold it looks at nothing, and a holder whose renewal is overdue sends nothing until it has renewed.
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
"""A standby takes over when the Lease has not changed for this long by its own clock; the clocks of the two need not agree."""
OVERDUE_SECONDS = 10.0
"""Before the others take over, with a request's time to spare."""
RENEW_SECONDS = 3.0

logger = logging.getLogger(__name__)


@dataclass
class Lease:
    kube: Kube
    namespace: str
    name: str
    identity: str
    """Of this process: another one, also one started later in its place, has another."""
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    on_start: Callable[[], None]
    """This replica works from now on."""
    _renewed: float | None = None
    """When the request that renewed it last was begun; None while another holds it."""
    _seen: tuple[str, float] = field(default=("", 0.0))
    """The Lease's version, and since when it stands."""

    def is_held(self) -> bool:
        return self._renewed is not None and self.monotonic() - self._renewed < OVERDUE_SECONDS

    def check(self) -> None:
        """Before each write. Raises ApiUnavailable."""
        if not self.is_held():
            raise ApiUnavailable("another replica of the operator may be at work: the lease is not renewed")

    async def run(self) -> None:
        """Until cancelled; then gives the Lease back, so that nobody waits for it to expire."""
        try:
            while True:
                try:
                    await self.renew()
                except Exception:
                    logger.exception("lease %s", self.name)  # it is tried again, and until then it counts as overdue
                await asyncio.sleep(RENEW_SECONDS)
        finally:
            with contextlib.suppress(DedupOperatorError, asyncio.TimeoutError):
                await asyncio.wait_for(self._release(), RENEW_SECONDS)

    async def renew(self) -> None:
        """One step: make, take, renew, or leave it to who has it."""
        begun = self.monotonic()
        try:
            held = await self._write(await self.kube.get(Resource.LEASES, self.namespace, self.name))
        except ApiConflict:
            held = False  # somebody was faster
        except DedupOperatorError as error:
            logger.warning("lease %s: %s", self.name, error)
            return
        was = self.is_held()  # not whether it was, some time ago: what came up since was forgotten
        self._renewed = begun if held else None
        if held and not was:
            logger.info("this replica works: it holds lease %s", self.name)
            self.on_start()
        elif was and not held:
            logger.warning("another replica holds lease %s: this one stands by", self.name)

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
