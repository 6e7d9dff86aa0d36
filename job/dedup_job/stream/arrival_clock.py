"""The clock of `eventTime.from: Arrival`. It never goes back and never stands still, whatever the system clock does.

It shows the system's time, unless that is behind what the clock has shown before. Then it runs on from there at its
normal speed. Example: the system clock jumps a day ahead and comes back. The watermark is then a day ahead. If the
records had to wait for the system clock to get there, no key would expire for a day.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedBatch:
    """The newest planned batch of the checkpoint."""

    watermark: int
    """Milliseconds, by this clock: not later than what it showed when the batch was planned."""
    time: int
    """Milliseconds since the epoch, by the system clock: when the batch was planned."""


def decide_start(now: int, committed: int, planned: PlannedBatch) -> int:
    """What the clock shows when a driver starts, in milliseconds. `now`: the system clock. `committed`: the watermark of
    the newest commit.

    While the system clock is behind the watermark, the time since the plan counts, as far as the system clock tells it.
    """
    if now > max(committed, planned.watermark):
        return now
    return max(committed, planned.watermark + max(0, now - planned.time))


class ArrivalClock:
    """All times are milliseconds since the epoch. Any thread may read it."""

    def __init__(self, start: int, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`start`: what the clock shows at least. `wall`, `monotonic`: seconds."""
        self._wall, self._monotonic = wall, monotonic
        self._lock = threading.Lock()
        self._shown, self._since = float(start), monotonic()

    def read(self) -> int:
        with self._lock:
            shown, _ = self._advance()
            return int(shown)

    def read_at(self, planned: int) -> int:
        """What the clock showed when the system clock showed `planned`, a short time ago."""
        with self._lock:
            shown, wall = self._advance()
            return min(int(shown), planned + int(shown - wall))  # the system clock may have been set back since the plan

    def _advance(self) -> tuple[float, float]:
        """What the clock shows, and what the system clock shows."""
        # A pause between the readings must not move the clock ahead: the earlier one ends the time that has passed, and
        # the later one begins the next.
        before, wall, after = self._monotonic(), self._wall() * 1000, self._monotonic()
        self._shown = max(wall, self._shown + max(0.0, before - self._since) * 1000)
        self._since = after
        return self._shown, wall
