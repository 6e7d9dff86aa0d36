"""Chooses the sink that the spec names. Each sink has a module of its own beside this one."""

from __future__ import annotations

from collections.abc import Callable

from dedup_job.sink.console import ConsoleOpening
from dedup_job.sink.kafka_opening import KafkaOpening
from dedup_job.sink.sink import SinkContext, SinkOpening

OPENINGS: dict[str, Callable[[SinkContext], SinkOpening]] = {"kafka": KafkaOpening, "console": ConsoleOpening}
"""By the member of `spec.sink`. A valid spec has exactly one member."""


def build_opening(context: SinkContext) -> SinkOpening:
    member = next(name for name in OPENINGS if getattr(context.config.sink, name) is not None)
    return OPENINGS[member](context)
