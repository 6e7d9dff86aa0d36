"""Decides when the driver asks Spark for an expiry batch: an empty micro-batch that removes expired keys. Pure.

Spark removes keys at the end of a batch, and a quiet topic has no batches. With `eventTime.from: Arrival`, the clock
alone says which keys have expired: the driver regularly moves the watermark to the current time, and Spark then runs an
empty batch. With any other event time, only new records can say how much time has passed.
"""

from __future__ import annotations

from datetime import timedelta

from dedup_api.job_config import JobConfig
from dedup_api.records import EventTimeFrom

BATCHES_PER_WATERMARK = 10
"""Expiry batches in the time of `spec.watermark`. A key then lives at most a tenth longer than that. More of them would
cost more: each one reads the whole state."""
SHORTEST_INTERVAL = timedelta(seconds=1)


def build_expiry_interval(config: JobConfig) -> timedelta | None:
    """The time between two expiry batches; None when the job has none, because its event times are not the clock's."""
    if config.event_time.taken_from is not EventTimeFrom.ARRIVAL:
        return None
    return max(SHORTEST_INTERVAL, config.trigger_interval, config.watermark_delay / BATCHES_PER_WATERMARK)


def is_expiry_batch_due(interval: timedelta, watermark: int, now: int, may_have_keys: bool) -> bool:
    """`watermark`, `now`: milliseconds, by the clock of arrival. An empty state needs no expiry batch."""
    return may_have_keys and now - watermark > interval.total_seconds() * 1000
