"""Reads a key and an event time from each record of the source topic.

No record may stop a batch, whatever its bytes are. A record whose key or time cannot be read, or that is late, is not
deduplicated: it gets a unique key and no event time, and passes through the deduplication together with its fault.
`routing.py` then sends it where the spec says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_api.faults import Fault
from dedup_api.job_config import JobConfig
from dedup_api.records import EventTimeFrom
from dedup_job.stream.event_time import build_event_time
from dedup_job.stream.keys import build_unique_key
from dedup_job.stream.session import CATALOG

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

KEY_COLUMN, TIME_COLUMN = "dedup_key", "event_time"
FAULT_COLUMN = "fault"
"""Null for a record that is deduplicated. Otherwise a struct of `reason` (a Fault), `detail`, and `time` (the event
time, or null)."""
PASSED_COLUMNS = ("key", "value", "headers", "timestamp", "partition", "offset")
"""The columns that reach the sink unchanged. The sink orders records by partition and offset."""


def build_read_plan(config: JobConfig) -> str:
    """The text that `ReadPlan.java` describes."""
    time = config.event_time.field if config.event_time.taken_from is EventTimeFrom.FIELD else None
    return "\n".join([config.key.taken_from, config.format, time or "", *(config.key.fields or [])])


def parse(records: DataFrame, config: JobConfig) -> DataFrame:
    """The columns PASSED_COLUMNS, KEY_COLUMN (16 bytes, never null), TIME_COLUMN and FAULT_COLUMN.

    In each row either TIME_COLUMN or FAULT_COLUMN is null. The last call of `BatchTimes.begin` decides which records
    are late.
    """
    record = F.call_function(f"{CATALOG}.read_record", F.col("value"), F.col("key"), F.lit(build_read_plan(config)))
    # One step for each column, because each column uses the one before.
    with_record = records.select(*PASSED_COLUMNS, record.alias("record"))
    with_time = with_record.select(*PASSED_COLUMNS, "record", _build_time(config).alias("time"))
    with_reason = with_time.select(*PASSED_COLUMNS, "record", "time", _build_reason(config).alias("reason"))
    is_late = F.when(F.col("reason").isNull(), _build_is_late(config))
    reason = F.when(is_late, F.lit(Fault.LATE)).otherwise(F.col("reason"))
    with_late = with_reason.select(*PASSED_COLUMNS, "record", "time", reason.alias("reason"))
    is_valid = F.col("reason").isNull()
    detail = F.coalesce("record.detail", _build_detail(config))
    fault = F.struct(F.col("reason"), detail.alias("detail"), F.col("time"))
    return with_late.select(
        *PASSED_COLUMNS,
        F.when(is_valid, F.col("record.key")).otherwise(build_unique_key(F.col("partition"), F.col("offset"))).alias(KEY_COLUMN),
        F.when(is_valid, F.col("time")).alias(TIME_COLUMN),
        F.when(~is_valid, fault).alias(FAULT_COLUMN),
    )


def _build_time(config: JobConfig) -> Column:
    match config.event_time.taken_from:
        case EventTimeFrom.FIELD:
            return build_event_time(F.col("record.time"), config.event_time.format)
        case EventTimeFrom.KAFKA_TIMESTAMP:
            return F.when(F.unix_millis("timestamp") >= 0, F.col("timestamp"))  # -1 means that the record has no timestamp
        case EventTimeFrom.ARRIVAL:
            return F.call_function(f"{CATALOG}.arrival", F.current_timestamp())


def _build_latest_plausible_time() -> Column:
    """The earlier one of the record's Kafka timestamp and the time at which it is read: an event happens before both.

    A timestamp of 0 counts as missing: a client that does not set the timestamp sends 0.
    """
    stored = F.when(F.unix_millis("timestamp") > 0, F.col("timestamp"))
    return F.least(F.current_timestamp(), stored)  # ignores null


def _build_reason(config: JobConfig) -> Column:
    """The record's first fault other than lateness; null when it has none."""
    missing = Fault.TIME_UNREADABLE if config.event_time.taken_from is EventTimeFrom.FIELD else Fault.TIME_MISSING
    chain = F.when(F.col("record.fault").isNotNull(), F.col("record.fault")).when(F.col("time").isNull(), F.lit(missing))
    if config.event_time.taken_from is EventTimeFrom.ARRIVAL:
        return chain
    skew = int(config.max_future_skew.total_seconds())
    return chain.when(F.col("time") > _build_latest_plausible_time() + F.make_dt_interval(secs=F.lit(skew)), F.lit(Fault.TIME_IN_FUTURE))


def _build_is_late(config: JobConfig) -> Column:
    """Whether the record is late. `is_late` also records the event time for the watermark, at most the latest plausible
    time."""
    is_arrival = config.event_time.taken_from is EventTimeFrom.ARRIVAL
    watermark_time = F.col("time") if is_arrival else F.least(F.col("time"), _build_latest_plausible_time())
    return F.call_function(f"{CATALOG}.is_late", F.col("partition"), F.col("time"), watermark_time)


def _build_detail(config: JobConfig) -> Column:
    """The detail of faults that `read_record` does not find. It contains no part of the record, because logs and
    conditions show it."""
    field = f"the event time field {config.event_time.field}"
    reason = F.col("reason")
    return (
        F.when(reason == Fault.TIME_UNREADABLE, F.lit(f"{field} is not a time in the format {config.event_time.format}"))
        .when(reason == Fault.TIME_MISSING, F.lit("the record has no Kafka timestamp"))
        .when(
            reason == Fault.TIME_IN_FUTURE,
            F.lit(
                f"the event time is more than {config.event_time.max_future_skew} after the record's Kafka timestamp "
                "or after the time at which the record was read"
            ),
        )
        .when(reason == Fault.LATE, F.lit("the event time is behind the watermark"))
    )
