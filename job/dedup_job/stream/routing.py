"""Decides where each record goes after the deduplication: to the sink, to the dead letters, or nowhere. Pure.

`docs/records.md` describes the headers of dead letters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_api.faults import INVALID_FAULTS, Fault
from dedup_api.job_config import JobConfig
from dedup_api.records import OnInvalid, OnLate
from dedup_job.checkpoint.totals import BatchCounts, WrittenFaults
from dedup_job.stream.parse import FAULT_COLUMN

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ROUTED_COLUMNS = ("key", "value", "headers", "timestamp", "partition", "offset", "topic")
"""`topic` is null for records that go to the sink."""
RENAMED_PREFIX = "original-"
"""Before the name of a header of the source record that has the name of a header which the driver adds."""
LATE_HEADER = "dedup-late"
DEAD_LETTER_HEADERS = tuple(
    f"dedup-{name}" for name in ("reason", "detail", "source-topic", "source-partition", "source-offset", "event-time", "watermark")
)
"""A header without a value is left out: event-time for a record without one,
watermark until the job has one."""

_TIME_FORMAT = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"
_HEADERS_TYPE = "array<struct<key:string,value:binary>>"


def route(batch: DataFrame, config: JobConfig, late_up_to: str | None) -> DataFrame:
    """The columns ROUTED_COLUMNS of all records that are written.

    `late_up_to`: RFC 3339; records of this batch are late when their event time is not after it. None while there is no
    watermark.
    """
    reason = F.col(FAULT_COLUMN).getField("reason")
    is_late = F.coalesce(reason == Fault.LATE, F.lit(False))
    is_invalid = reason.isNotNull() & ~is_late
    is_emitted = is_late & (config.on_late is OnLate.EMIT)
    dead = [fault for fault in INVALID_FAULTS if config.find_policy(fault) is OnInvalid.DEAD_LETTER]
    is_dead_letter = (is_late & (config.on_late is OnLate.DEAD_LETTER)) | (is_invalid & reason.isin(dead))
    headers = F.when(is_emitted, _append_headers(_build_late_headers(), [LATE_HEADER])).when(
        is_dead_letter, _append_headers(_build_dead_letter_headers(config, late_up_to), list(DEAD_LETTER_HEADERS))
    )
    return batch.filter(reason.isNull() | is_emitted | is_dead_letter).select(
        "key",
        "value",
        headers.otherwise(F.col("headers")).alias("headers"),
        "timestamp",
        "partition",
        "offset",
        F.when(is_dead_letter, F.lit(config.dead_letter_topic)).cast("string").alias("topic"),
    )


def decide_written(config: JobConfig, counts: BatchCounts) -> WrittenFaults:
    """How many late and invalid records of a batch `route` keeps."""
    late_dead = counts.late if config.on_late is OnLate.DEAD_LETTER else 0
    invalid_dead = sum(count for fault, count in counts.invalid_by_reason.items() if config.find_policy(fault) is OnInvalid.DEAD_LETTER)
    return WrittenFaults(emitted=counts.late if config.on_late is OnLate.EMIT else 0, dead=late_dead + invalid_dead)


def _append_headers(more: Column, names: list[str]) -> Column:
    """The record's own headers, then those of the driver, which have these names. A reader of the driver's headers must not
    take one that the record already had, so that one gets another name."""
    own = F.transform(F.coalesce(F.col("headers"), F.array().cast(_HEADERS_TYPE)), lambda header: _rename(header, names))
    return F.concat(own, more.cast(_HEADERS_TYPE))


def _rename(header: Column, names: list[str]) -> Column:
    name = header.getField("key")
    renamed = F.when(name.isin(names), F.concat(F.lit(RENAMED_PREFIX), name)).otherwise(name)
    return F.struct(renamed.alias("key"), header.getField("value").alias("value"))


def _build_late_headers() -> Column:
    return F.array(_build_header(LATE_HEADER, F.lit("true")))


def _build_dead_letter_headers(config: JobConfig, late_up_to: str | None) -> Column:
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
    headers = F.array(*(_build_header(name, value) for name, value in zip(DEAD_LETTER_HEADERS, values, strict=True)))
    return F.filter(headers, lambda header: header.getField("value").isNotNull())


def _build_header(name: str, value: Column) -> Column:
    return F.struct(F.lit(name).alias("key"), value.cast("binary").alias("value"))
