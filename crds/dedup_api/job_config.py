"""`job.json`: the driver's settings. The operator writes the file and the driver reads it, both with this model.

The file holds only what the driver needs. A change that does not concern the driver, such as spec.suspend, the reclaim
policy or the operator's version, therefore does not change the file and does not restart the driver.
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
    """Increase it when a field changes its meaning, so that an older driver refuses a file that it would misread."""
    namespace: str
    name: str
    generation: int = 1
    """Checkpoint generation: the driver uses the folder of this number on the volume."""
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
    """The driver processes what the topic holds at the start, and ends; it then ignores `processing_time`."""
    sink: Sink
    parallelism: int
    """Number of state partitions."""
    cpus: int
    """Number of cores that Spark may use."""
    memory_bytes: int
    """Memory limit of the pod."""

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
        """None if no record can go there, even if spec.deadLetter names a topic."""
        return self.dead_letter.topic if self.wants_dead_letters and self.dead_letter else None

    @property
    def trigger_interval(self) -> timedelta:
        return parse_duration(self.processing_time)

    @property
    def default_name(self) -> str:
        """Default prefix of the job's names at the brokers. A namespace has no dot, so two jobs never have the same
        prefix."""
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
        """Compacted topic for the markers of the job's transactions."""
        return f"{self.transactional_id_prefix}-progress"


def build_job_config(namespace: str, name: str, spec: DedupJobSpec) -> JobConfig:
    """The driver's settings for a valid spec. The same spec always gives the same file."""
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
