"""Reads the status of a driver: GET /status on its pod."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import aiohttp
from pydantic import ValidationError

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_operator.domain.observe.pod import DriverUnreachable

TIMEOUT = aiohttp.ClientTimeout(total=4, connect=2)
"""The driver answers from memory, so a healthy driver is faster. A reconciliation must not wait longer."""
MAX_RESPONSE_BYTES = 1 << 20
MAX_REMEMBERED = 1000
"""Unreachable drivers. With more of them, those of deleted pods are forgotten."""
FORGET_AFTER = timedelta(hours=1)
"""Nothing tells this class that a pod is gone. If the pod still exists, its next failure starts a new record."""


@dataclass
class Drivers:
    session: aiohttp.ClientSession
    _unreachable: dict[str, DriverUnreachable] = field(default_factory=dict)
    """By pod UID: the first failed request. It is lost when the operator restarts, which only delays a report."""

    async def fetch_status(self, uid: str, address: str, now: datetime) -> DriverStatus | DriverUnreachable:
        """Never raises. A failed request gives DriverUnreachable."""
        if len(self._unreachable) > MAX_REMEMBERED:
            self._unreachable = {uid: found for uid, found in self._unreachable.items() if now - found.since < FORGET_AFTER}
        try:
            driver_status = await self._get(address)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            # The first error stays. A message that alternates would cause a write of the status in every
            # reconciliation.
            return self._unreachable.setdefault(uid, _describe_failure(error, now))
        self._unreachable.pop(uid, None)
        return driver_status

    async def _get(self, address: str) -> DriverStatus:
        host = f"[{address}]" if ":" in address else address
        async with self.session.get(f"http://{host}:{names.HTTP_PORT}/status", timeout=TIMEOUT, allow_redirects=False) as response:
            response.raise_for_status()
            return DriverStatus.model_validate_json(await _read_all(response.content))


def _describe_failure(error: Exception, now: datetime) -> DriverUnreachable:
    if isinstance(error, aiohttp.ClientResponseError):
        return DriverUnreachable(now, f"HTTP {error.status} {error.message}".strip(), answered=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        return DriverUnreachable(now, str(error), answered=True)
    if isinstance(error, ValidationError):
        return DriverUnreachable(now, "the answer is not the status of a driver", answered=True)
    return DriverUnreachable(now, (str(error) or type(error).__name__).splitlines()[0])


async def _read_all(content: aiohttp.StreamReader) -> bytes:
    """The whole body, which may come in many TCP segments: `content.read(n)` returns the first one."""
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > MAX_RESPONSE_BYTES:
            raise aiohttp.ClientPayloadError(f"the answer is larger than {MAX_RESPONSE_BYTES} bytes")
    return bytes(body)
