"""The list of the driver's exits in the status."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dedup_api.status import DedupJobStatus, DriverExit

MAX_EXITS = 5


def merge_exits(known: Sequence[DriverExit], seen: Iterable[DriverExit]) -> list[DriverExit]:
    """All exits without repetition, newest first, at most `MAX_EXITS`. Of two with the same end, the one in `known`
    stays. The time of the end identifies an exit, because two runs of one pod cannot end in the same second."""
    by_time = {exit.finished_at: exit for exit in [*seen, *known]}
    return [by_time[time] for time in sorted(by_time, reverse=True)][:MAX_EXITS]


def list_new_exits(before: DedupJobStatus, after: DedupJobStatus) -> list[DriverExit]:
    """The exits that only `after` has, oldest first."""
    known = {exit.finished_at for exit in before.driver.last_exits} if before.driver else set()
    seen = after.driver.last_exits if after.driver else []
    return [exit for exit in reversed(seen) if exit.finished_at not in known]
