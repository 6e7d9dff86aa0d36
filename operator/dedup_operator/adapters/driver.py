"""Asks a driver how it is: GET /status on its pod."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import aiohttp
from pydantic import ValidationError

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_operator.domain.observe import Silence

TIMEOUT = aiohttp.ClientTimeout(total=4, connect=2)
"""The driver answers from memory; what takes longer counts as silence, and a round must not wait for it."""
LARGEST_ANSWER = 1 << 20


@dataclass
class Drivers:
    session: aiohttp.ClientSession
    _silent_since: dict[str, datetime] = field(default_factory=dict)
    """By pod UID. Begun anew when the operator starts: that only delays a report."""

    async def fetch_status(self, uid: str, address: str, now: datetime) -> DriverStatus | Silence:
        """Never raises: a driver that does not answer is an answer too."""
        try:
            answer = await self._get(address)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            text = str(error) or type(error).__name__
            return Silence(self._silent_since.setdefault(uid, now), text.splitlines()[0])
        self._silent_since.pop(uid, None)
        return answer

    async def _get(self, address: str) -> DriverStatus:
        host = f"[{address}]" if ":" in address else address
        async with self.session.get(f"http://{host}:{names.HTTP_PORT}/status", timeout=TIMEOUT, allow_redirects=False) as response:
            response.raise_for_status()
            return DriverStatus.model_validate_json(await response.content.read(LARGEST_ANSWER))

    def forget(self, uid: str) -> None:
        self._silent_since.pop(uid, None)
