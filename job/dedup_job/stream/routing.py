"""Where each record that comes out of the deduplication goes: to the sink, to the dead letters, or nowhere. Pure.

The headers of dead letters are told in `docs/records.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_api.faults import Fault
from dedup_api.job_config import JobConfig
from dedup_api.records import OnInvalid, OnLate
from dedup_job.checkpoint.totals import BatchCounts, Written
from dedup_job.stream.parse import FAULT_COLUMN

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ROUTED_COLUMNS = ("key", "value", "headers", "timestamp", "partition", "offset", "topic")
"""`topic` is null for the sink."""
LATE_HEADER = "dedup-late"
DEAD_LETTER_HEADERS = ("reason", "detail", "source-topic", "source-partition", "source-offset", "event-time", "watermark")
"""Each with `dedup-` before it; event-time only where there is one, watermark only where it has begun."""

_TIME_FORMAT = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"
_HEADERS_TYPE = "array<struct<key:string,value:binary>>"


def route(batch: DataFrame, config: JobConfig, late_up_to: str | None) -> DataFrame:
    """ROUTED_COLUMNS of all records that are written. `late_up_to`: the watermark that records of this batch are late by, RFC 3339."""
    reason = F.col(FAULT_COLUMN).getField("reason")
    is_late = F.coalesce(reason == Fault.LATE, F.lit(False))
    is_invalid = reason.isNotNull() & ~is_late
    emitted = is_late & (config.on_late is OnLate.EMIT)
    dead = (is_late & (config.on_late is OnLate.DEAD_LETTER)) | (is_invalid & (config.on_invalid is OnInvalid.DEAD_LETTER))
    headers = F.when(emitted, _add(_build_late_headers())).when(dead, _add(_build_dead_headers(config, late_up_to)))
    return batch.filter(reason.isNull() | emitted | dead).select(
        "key",
        "value",
        headers.otherwise(F.col("headers")).alias("headers"),
        "timestamp",
        "partition",
        "offset",
        F.when(dead, F.lit(config.dead_letter_topic)).cast("string").alias("topic"),
    )


def decide_written(config: JobConfig, counts: BatchCounts) -> Written:
    """How many of a batch's faulty records `route` keeps."""
    late_dead = counts.late if config.on_late is OnLate.DEAD_LETTER else 0
    invalid_dead = counts.invalid if config.on_invalid is OnInvalid.DEAD_LETTER else 0
    return Written(emitted=counts.late if config.on_late is OnLate.EMIT else 0, dead=late_dead + invalid_dead)


def _add(more: Column) -> Column:
    return F.concat(F.coalesce(F.col("headers"), F.array().cast(_HEADERS_TYPE)), more.cast(_HEADERS_TYPE))


def _build_late_headers() -> Column:
    return F.array(_build_header(LATE_HEADER, F.lit("true")))


def _build_dead_headers(config: JobConfig, late_up_to: str | None) -> Column:
    fault = F.col(FAULT_COLUMN)
    values = (
        fault.getField("reason"),
        fault.getField("detail"),
        F.lit(config.source.topic),
        F.col("partition").cast("string"),
        F.col("offset").cast("string"),
        F.date_format(fault.getField("time"), _TIME_FORMAT),
        F.lit(late_up_to).cast("string"),
    )
    headers = F.array(*(_build_header(f"dedup-{name}", value) for name, value in zip(DEAD_LETTER_HEADERS, values, strict=True)))
    return F.filter(headers, lambda header: header.getField("value").isNotNull())


def _build_header(name: str, value: Column) -> Column:
    return F.struct(F.lit(name).alias("key"), value.cast("binary").alias("value"))
