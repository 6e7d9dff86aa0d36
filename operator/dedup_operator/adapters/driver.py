"""Asks a driver how it is: GET /status on its pod."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import aiohttp
from pydantic import ValidationError

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_operator.domain.observe.pod import DriverUnreachable

TIMEOUT = aiohttp.ClientTimeout(total=4, connect=2)
"""The driver answers from memory; what takes longer counts as silence, and a round must not wait for it."""
MAX_RESPONSE_BYTES = 1 << 20
MAX_REMEMBERED = 1000
FORGET_AFTER = timedelta(hours=1)
"""Pods come and go without a word; one that is still silent is only noted anew."""


@dataclass
class Drivers:
    session: aiohttp.ClientSession
    _unreachable: dict[str, DriverUnreachable] = field(default_factory=dict)
    """By pod UID: how its silence began. Forgotten when the operator ends: that only delays a report."""

    async def fetch_status(self, uid: str, address: str, now: datetime) -> DriverStatus | DriverUnreachable:
        """Never raises: a driver that does not answer is an answer too."""
        if len(self._unreachable) > MAX_REMEMBERED:
            self._unreachable = {uid: silence for uid, silence in self._unreachable.items() if now - silence.since < FORGET_AFTER}
        try:
            answer = await self._get(address)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            text = str(error) or type(error).__name__
            # The first error stays: a message that alternates would be a write in every round.
            return self._unreachable.setdefault(uid, DriverUnreachable(now, text.splitlines()[0]))
        self._unreachable.pop(uid, None)
        return answer

    async def _get(self, address: str) -> DriverStatus:
        host = f"[{address}]" if ":" in address else address
        async with self.session.get(f"http://{host}:{names.HTTP_PORT}/status", timeout=TIMEOUT, allow_redirects=False) as response:
            response.raise_for_status()
            return DriverStatus.model_validate_json(await response.content.read(MAX_RESPONSE_BYTES))
