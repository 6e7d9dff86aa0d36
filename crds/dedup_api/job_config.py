"""`job.json`: what the driver is told. The operator renders it, the driver reads it, both through this model.

It holds what the driver needs and nothing else, so that a change which does not concern the driver (suspend, the reclaim
policy, the operator's own version) does not change the file and restarts nothing.
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from typing import Literal

from dedup_api.durations import parse_duration
from dedup_api.model import ApiModel
from dedup_api.quantities import parse_quantity
from dedup_api.records import DeadLetter, EventTime, Format, Key, OnInvalid, OnLate
from dedup_api.spec import MAX_PARALLELISM, DedupJobSpec, Sink, Source


class JobConfig(ApiModel):
    config_version: Literal[1] = 1
    """Raised when a field changes its meaning, so that a driver refuses a file it would misread."""
    namespace: str
    name: str
    generation: int = 1
    source: Source
    format: Format
    key: Key
    event_time: EventTime
    watermark: str
    on_late: OnLate = OnLate.DROP
    on_invalid: OnInvalid = OnInvalid.FAIL
    dead_letter: DeadLetter | None = None
    processing_time: str
    available_now: bool = False
    """Take what the topic holds at the start, and end; `processing_time` then means nothing."""
    sink: Sink
    parallelism: int
    """State partitions."""
    cpus: int
    """Cores that Spark may use at once."""
    memory_bytes: int
    """The pod's memory limit."""

    @property
    def watermark_delay(self) -> timedelta:
        return parse_duration(self.watermark)

    @property
    def max_future_skew(self) -> timedelta:
        return parse_duration(self.event_time.max_future_skew)

    @property
    def wants_dead_letters(self) -> bool:
        return self.on_late is OnLate.DEAD_LETTER or self.on_invalid is OnInvalid.DEAD_LETTER

    @property
    def dead_letter_topic(self) -> str | None:
        """None where no record goes there, also when one is named."""
        return self.dead_letter.topic if self.wants_dead_letters and self.dead_letter else None

    @property
    def trigger_interval(self) -> timedelta:
        return parse_duration(self.processing_time)

    @property
    def default_name(self) -> str:
        """What names at the brokers begin with. A namespace holds no dot, so no two jobs share it."""
        return f"dedup.{self.namespace}.{self.name}"

    @property
    def consumer_group(self) -> str:
        return self.source.consumer_group or self.default_name

    @property
    def transactional_id_prefix(self) -> str:
        chosen = self.sink.kafka.transactional_id_prefix if self.sink.kafka else None
        return chosen or self.default_name

    @property
    def progress_topic(self) -> str:
        """Compacted; holds the markers of the job's transactions."""
        return f"{self.transactional_id_prefix}-progress"


def build_job_config(namespace: str, name: str, spec: DedupJobSpec) -> JobConfig:
    """The driver's settings for a valid spec. Deterministic: the same spec gives the same file."""
    limits = spec.driver.resources.limits
    cpus = max(1, ceil(parse_quantity(limits.cpu)))
    return JobConfig(
        namespace=namespace,
        name=name,
        source=spec.source,
        format=spec.format,
        key=spec.key,
        event_time=spec.event_time,
        watermark=spec.watermark,
        on_late=spec.on_late,
        on_invalid=spec.on_invalid,
        dead_letter=spec.dead_letter,
        processing_time=spec.trigger.processing_time or "0s",
        available_now=spec.trigger.available_now is not None,
        sink=spec.sink,
        parallelism=spec.parallelism or min(cpus, MAX_PARALLELISM),
        cpus=cpus,
        memory_bytes=int(parse_quantity(limits.memory)),
    )
