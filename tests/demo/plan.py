"""How many flights the demo sends, and when it kills the producer. Pure."""

from __future__ import annotations

from dataclasses import dataclass

ALL_FLIGHTS = 336_776
"""Flights that left New York City in 2013."""
KILLS = (4000, 6000, 8000, 5000, 7000, 9000, 4500, 6500)
"""One number for each kill. The demo kills the producer when so many stored events are not in the saved position: the
next producer sends each of them again."""
EVENTS_BETWEEN_KILLS = 35_000
SAVE_INTERVAL = 10_000
"""Events between two saves of the producer's position: eleven days of flights."""
FEWEST_FLIGHTS = EVENTS_BETWEEN_KILLS + SAVE_INTERVAL
"""With fewer flights the producer might end before the first kill."""


@dataclass(frozen=True)
class Plan:
    flights: int

    @property
    def kills(self) -> tuple[int, ...]:
        """The last one, too, has a whole interval between two saves in which it can happen."""
        return KILLS[: (self.flights - SAVE_INTERVAL) // EVENTS_BETWEEN_KILLS]

    @property
    def duplicates_needed(self) -> int:
        """A run with fewer duplicates shows nothing. The producer sends more than that even when kills come early."""
        return sum(self.kills) * 2 // 5
