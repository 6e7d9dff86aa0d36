"""From the records of the topic to what the deduplication needs: a key and an event time for each.

No record may stop a batch, whatever its bytes: what has no readable key or time, or comes too late, gets a key of its own and no
event time, passes through the deduplication with its fault beside it, and goes behind it wherever the spec wants it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_api.faults import Fault
from dedup_api.job_config import JobConfig
from dedup_api.records import EventTimeFrom
from dedup_job.stream.event_time import build_event_time
from dedup_job.stream.keys import build_own_key
from dedup_job.stream.session import CATALOG

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

KEY_COLUMN, TIME_COLUMN = "dedup_key", "event_time"
FAULT_COLUMN = "fault"
"""Null for a record that is deduplicated; otherwise a struct of `reason` (a Fault), `detail` and `time` (the event time where there is
one)."""
PASSED_COLUMNS = ("key", "value", "headers", "timestamp", "partition", "offset")
"""What goes on to the sink, untouched; partition and offset for the order."""


def build_read_plan(config: JobConfig) -> str:
    """The text of `ReadPlan.java`."""
    time = config.event_time.field if config.event_time.taken_from is EventTimeFrom.FIELD else None
    return "\n".join([config.key.taken_from, config.format, time or "", *(config.key.fields or [])])


def parse(records: DataFrame, config: JobConfig) -> DataFrame:
    """Columns PASSED_COLUMNS, KEY_COLUMN (16 bytes, never null), TIME_COLUMN (null exactly where there is a fault), FAULT_COLUMN.

    Which records are late is what `BatchTimes.begin` was told last.
    """
    record = F.call_function(f"{CATALOG}.read_record", F.col("value"), F.col("key"), F.lit(build_read_plan(config)))
    read = records.select(*PASSED_COLUMNS, record.alias("record"))
    timed = read.select(*PASSED_COLUMNS, "record", _build_time(config).alias("time"))
    judged = timed.select(*PASSED_COLUMNS, "record", "time", _build_fault(config).alias("reason"))
    late = F.when(F.col("reason").isNull(), _build_late(config))
    weighed = judged.select(*PASSED_COLUMNS, "record", "time", F.when(late, F.lit(Fault.LATE)).otherwise(F.col("reason")).alias("reason"))
    good = F.col("reason").isNull()
    detail = F.coalesce("record.detail", _build_detail(config))
    fault = F.struct(F.col("reason"), detail.alias("detail"), F.col("time"))
    return weighed.select(
        *PASSED_COLUMNS,
        F.when(good, F.col("record.key")).otherwise(build_own_key(F.col("partition"), F.col("offset"))).alias(KEY_COLUMN),
        F.when(good, F.col("time")).alias(TIME_COLUMN),
        F.when(~good, fault).alias(FAULT_COLUMN),
    )


def _build_time(config: JobConfig) -> Column:
    match config.event_time.taken_from:
        case EventTimeFrom.FIELD:
            return build_event_time(F.col("record.time"), config.event_time.format)
        case EventTimeFrom.KAFKA_TIMESTAMP:
            return F.when(F.unix_millis("timestamp") >= 0, F.col("timestamp"))  # -1 where there is none
        case EventTimeFrom.ARRIVAL:
            return F.call_function(f"{CATALOG}.arrival", F.current_timestamp())


def _build_latest() -> Column:
    """The time at which the record is known to have been there: when it is read and, by its producer or broker, when it was stored.

    A timestamp of 0 is one that a client did not set.
    """
    stored = F.when(F.unix_millis("timestamp") > 0, F.col("timestamp"))
    return F.least(F.current_timestamp(), stored)  # passes over null


def _build_fault(config: JobConfig) -> Column:
    """The first fault, but for lateness; null for none."""
    missing = Fault.TIME_UNREADABLE if config.event_time.taken_from is EventTimeFrom.FIELD else Fault.TIME_MISSING
    chain = F.when(F.col("record.fault").isNotNull(), F.col("record.fault")).when(F.col("time").isNull(), F.lit(missing))
    if config.event_time.taken_from is EventTimeFrom.ARRIVAL:
        return chain
    skew = int(config.max_future_skew.total_seconds())
    return chain.when(F.col("time") > _build_latest() + F.make_dt_interval(secs=F.lit(skew)), F.lit(Fault.TIME_IN_FUTURE))


def _build_late(config: JobConfig) -> Column:
    """Also notes the time for the watermark: never more than the record's own storage and reading prove to have passed."""
    is_arrival = config.event_time.taken_from is EventTimeFrom.ARRIVAL
    seen = F.col("time") if is_arrival else F.least(F.col("time"), _build_latest())
    return F.call_function(f"{CATALOG}.is_late", F.col("partition"), F.col("time"), seen)


def _build_detail(config: JobConfig) -> Column:
    """For faults that `read_record` cannot see. Nothing of the record itself: it goes to logs and conditions."""
    field = f"the event time field {config.event_time.field}"
    reason = F.col("reason")
    return (
        F.when(reason == Fault.TIME_UNREADABLE, F.lit(f"{field} is not {config.event_time.format}"))
        .when(reason == Fault.TIME_MISSING, F.lit("the record has no Kafka timestamp"))
        .when(
            reason == Fault.TIME_IN_FUTURE,
            F.lit(f"the event time is more than {config.event_time.max_future_skew} ahead of the record's reading or Kafka timestamp"),
        )
        .when(reason == Fault.LATE, F.lit("the event time is behind the watermark"))
    )
