"""`job.json`: the driver's settings. The operator writes the file and the driver reads it, both with this model.

The file holds only what the driver needs. A change that does not concern the driver, such as spec.suspend, the reclaim
policy or the operator's version, therefore does not change the file and does not restart the driver.
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from typing import Literal

from dedup_api.durations import parse_duration
from dedup_api.faults import INVALID_FAULTS, Fault
from dedup_api.model import ApiModel
from dedup_api.quantities import parse_quantity
from dedup_api.records import EPOCH_FORMATS, DeadLetter, EventTime, EventTimeFrom, Format, Framing, Key, OnInvalid, OnLate, OnTombstone
from dedup_api.spec import MAX_PARALLELISM, DedupJobSpec, Sink, Source
from dedup_api.topics import DEAD_LETTER, PROGRESS, SINK, SOURCE, find_topic_conflict


class JobConfig(ApiModel):
    config_version: Literal[1, 2] = 1
    """2 when the file has a field that decides how records are read and that a driver of version 0.1.0 does not know: it
    would misread the file, and refuses it instead. Increase it when a field changes its meaning."""
    namespace: str
    name: str
    generation: int = 1
    """Checkpoint generation: the driver uses the folder of this number on the volume."""
    source: Source
    format: Format
    framing: Framing | None = None
    key: Key
    event_time: EventTime
    watermark: str
    on_late: OnLate = OnLate.DROP
    on_invalid: OnInvalid = OnInvalid.FAIL
    on_tombstone: OnTombstone | None = None
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

    def find_policy(self, fault: Fault) -> OnInvalid:
        """What happens to a record with this fault, which is not lateness."""
        if fault is Fault.TOMBSTONE and self.on_tombstone is not None and self.on_tombstone is not OnTombstone.PASS:
            return OnInvalid(self.on_tombstone)
        return self.on_invalid

    @property
    def reads_time(self) -> bool:
        """Whether the event time is a text or number that stands in the record."""
        return self.event_time.taken_from in {EventTimeFrom.FIELD, EventTimeFrom.HEADER}

    @property
    def wants_dead_letters(self) -> bool:
        return self.on_late is OnLate.DEAD_LETTER or any(self.find_policy(fault) is OnInvalid.DEAD_LETTER for fault in INVALID_FAULTS)

    @property
    def dead_letter_topic(self) -> str | None:
        """None if no record can go there, even if spec.deadLetter names a topic."""
        return self.dead_letter.topic if self.wants_dead_letters and self.dead_letter else None

    @property
    def output_topics(self) -> list[str]:
        """The topics that records are written to; empty for the console."""
        return [topic for topic in (self.sink.kafka and self.sink.kafka.topic, self.dead_letter_topic) if topic]

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

    @property
    def topic_conflict(self) -> str | None:
        """The message for the user when two of the job's topics are one."""
        topics = {SOURCE: self.source.topic}
        if self.sink.kafka is not None:
            topics |= {SINK: self.sink.kafka.topic, PROGRESS: self.progress_topic}
        if self.dead_letter is not None:
            topics[DEAD_LETTER] = self.dead_letter.topic
        return find_topic_conflict(topics)


def _leave_out_defaults(spec: DedupJobSpec) -> DedupJobSpec:
    """A field that says what its absence says must not change `job.json`."""
    time_zone = None if spec.event_time.time_zone == "UTC" else spec.event_time.time_zone
    framing = None if spec.framing is Framing.NONE else spec.framing
    return spec.model_copy(update={"framing": framing, "event_time": spec.event_time.model_copy(update={"time_zone": time_zone})})


def _reads_in_a_new_way(spec: DedupJobSpec) -> bool:
    """Whether the spec uses what a driver of version 0.1.0 does not know, see `JobConfig.config_version`."""
    paths = [*(spec.key.fields or []), spec.event_time.field or ""]
    given = (spec.framing, spec.on_tombstone, spec.key.headers, spec.event_time.header, spec.event_time.time_zone)
    new_format = spec.event_time.format in set(EPOCH_FORMATS) - {"EpochMillis", "EpochSeconds"}
    return any(value is not None for value in given) or new_format or any("[" in path for path in paths)


def build_job_config(namespace: str, name: str, spec: DedupJobSpec) -> JobConfig:
    """The driver's settings for a valid spec. The same spec always gives the same file."""
    spec = _leave_out_defaults(spec)
    limits = spec.driver.resources.limits
    cpus = max(1, ceil(parse_quantity(limits.cpu)))
    return JobConfig(
        namespace=namespace,
        name=name,
        source=spec.source,
        config_version=2 if _reads_in_a_new_way(spec) else 1,
        format=spec.format,
        framing=spec.framing,
        key=spec.key,
        event_time=spec.event_time,
        watermark=spec.watermark,
        on_late=spec.on_late,
        on_invalid=spec.on_invalid,
        on_tombstone=spec.on_tombstone,
        dead_letter=spec.dead_letter,
        processing_time=spec.trigger.processing_time or "0s",
        available_now=spec.trigger.available_now is not None,
        sink=spec.sink,
        parallelism=spec.parallelism or min(cpus, MAX_PARALLELISM),
        cpus=cpus,
        memory_bytes=int(parse_quantity(limits.memory)),
    )
