"""Forgetting keys of a topic that has gone quiet. Pure.

Keys are removed at the end of a batch, and without records there is none. With `eventTime.from: Arrival` time passes all the same: the
driver moves the watermark up to the clock now and then, and Spark runs an empty batch that removes what has expired. With other event
times nobody knows what time it is on a topic that is silent.
"""

from __future__ import annotations

from datetime import timedelta

from dedup_api.job_config import JobConfig
from dedup_api.records import EventTimeFrom

TICKS = 10
"""In the time that a key lives: it is remembered for a tenth longer at most, and each tick costs a look through the whole state."""
SHORTEST = timedelta(seconds=1)


def build_tick_interval(config: JobConfig) -> timedelta | None:
    """None where the clock says nothing about event times."""
    if config.event_time.taken_from is not EventTimeFrom.ARRIVAL:
        return None
    return max(SHORTEST, config.trigger_interval, config.watermark_delay / TICKS)


def is_tick_due(interval: timedelta, watermark: int, now: float, state_rows: int) -> bool:
    """`watermark` in milliseconds, `now` in seconds. Nothing is due once there is nothing left to forget."""
    return state_rows > 0 and now * 1000 - watermark > interval.total_seconds() * 1000
