"""Reads a key and an event time from each record of the source topic.

No record may stop a batch, whatever its bytes are. A record whose key or time cannot be read, or that is late, is not
deduplicated: it gets a unique key and no event time, and passes through the deduplication together with its fault.
`routing.py` then sends it where the spec says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from dedup_api.faults import Fault
from dedup_api.job_config import JobConfig
from dedup_api.paths import parse_path
from dedup_api.records import EventTimeFrom, Format, Framing, OnTombstone
from dedup_job.stream.event_time import call_time_function
from dedup_job.stream.keys import build_unique_key
from dedup_job.stream.session import CATALOG

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

KEY_COLUMN, TIME_COLUMN = "dedup_key", "event_time"
FAULT_COLUMN = "fault"
"""Null for a record that is deduplicated. Otherwise a struct of `reason` (a Fault), `detail`, and `time` (the event
time, or null)."""
FIRST_KAFKA_MILLIS = 946_684_800_000
"""2000-01-01. Kafka is younger, so an earlier Kafka timestamp is in a wrong unit."""
PASSED_COLUMNS = ("key", "value", "headers", "timestamp", "partition", "offset")
"""The columns that reach the sink unchanged. The sink orders records by partition and offset."""


def build_read_plan(config: JobConfig) -> str:
    """The JSON that `ReadPlan.java` describes."""
    passes = {None: "", OnTombstone.PASS: "pass"}
    field = config.event_time.field
    plan = {
        "keyFrom": config.key.taken_from,
        "isJson": config.format is Format.JSON,
        "isFramed": config.framing is Framing.SCHEMA_REGISTRY,
        "tombstone": passes.get(config.on_tombstone, "invalid"),
        "timeField": _build_field(field) if field is not None else None,
        "timeHeader": config.event_time.header,
        "fields": [_build_field(path) for path in config.key.fields or []],
        "headers": config.key.headers or [],
    }
    return json.dumps(plan)


def _build_field(path: str) -> dict[str, Any]:
    return {"path": path, "steps": parse_path(path)}


def parse(records: DataFrame, config: JobConfig) -> DataFrame:
    """The columns PASSED_COLUMNS, KEY_COLUMN (16 bytes, never null), TIME_COLUMN and FAULT_COLUMN.

    In each row either TIME_COLUMN or FAULT_COLUMN is null. The last call of `BatchTimes.begin` decides which records are
    late.
    """
    plan = F.lit(build_read_plan(config))
    record = F.call_function(f"{CATALOG}.read_record", F.col("value"), F.col("key"), F.col("headers"), plan)
    # One step for each column, because each column uses the one before.
    passed = [
        F.call_function(f"{CATALOG}.note_stored", "timestamp", "partition").alias(name) if name == "timestamp" else name
        for name in PASSED_COLUMNS
    ]
    with_record = records.select(*passed, record.alias("record"))
    time = F.when(_build_passes(config), _build_passed_time()).otherwise(_build_time(config))
    with_time = with_record.select(*PASSED_COLUMNS, "record", time.alias("time"))
    with_reason = with_time.select(*PASSED_COLUMNS, "record", "time", _build_reason(config).alias("reason"))
    is_event = F.col("reason").isNull() & ~_build_passes(config)
    is_late = F.when(is_event, _build_is_late(config))
    reason = F.when(is_late, F.lit(Fault.LATE)).otherwise(F.col("reason"))
    with_late = with_reason.select(*PASSED_COLUMNS, "record", "time", reason.alias("reason"))
    detail = F.coalesce("record.detail", _build_detail(config))
    fault = F.struct(F.col("reason"), detail.alias("detail"), F.col("time"))
    return with_late.select(
        *PASSED_COLUMNS,
        F.when(is_event, F.col("record.key")).otherwise(build_unique_key(F.col("partition"), F.col("offset"))).alias(KEY_COLUMN),
        F.when(F.col("reason").isNull(), F.col("time")).alias(TIME_COLUMN),
        F.when(F.col("reason").isNotNull(), fault).alias(FAULT_COLUMN),
    )


def _build_passes(config: JobConfig) -> Column:
    """Whether the record is a tombstone that is written to the sink, whatever its key and time are."""
    return F.col("value").isNull() if config.on_tombstone is OnTombstone.PASS else F.lit(False)


def _build_passed_time() -> Column:
    """The Kafka timestamp of a tombstone that passes, but after the time up to which records are late: Spark would drop it
    otherwise."""
    return F.call_function(f"{CATALOG}.arrival", _build_latest_plausible_time())


def _build_time(config: JobConfig) -> Column:
    match config.event_time.taken_from:
        case EventTimeFrom.FIELD | EventTimeFrom.HEADER:
            return call_time_function("parse_time", F.col("record.time"), config.event_time)
        case EventTimeFrom.KAFKA_TIMESTAMP:
            return F.when(F.unix_millis("timestamp") >= 0, F.col("timestamp"))  # -1 means that the record has no timestamp
        case EventTimeFrom.ARRIVAL:
            return F.call_function(f"{CATALOG}.arrival", F.current_timestamp())


def _build_latest_plausible_time() -> Column:
    """The earlier one of the record's Kafka timestamp and the time at which it is read: an event happens before both.

    A timestamp before 2000 counts as missing: a client that does not set it sends 0, and one that writes seconds sends a
    time in 1970.
    """
    stored = F.when(F.unix_millis("timestamp") >= FIRST_KAFKA_MILLIS, F.col("timestamp"))
    return F.least(F.current_timestamp(), stored)  # ignores null


def _build_reason(config: JobConfig) -> Column:
    """The record's first fault other than lateness; null when it has none."""
    missing = Fault.TIME_UNREADABLE if config.reads_time else Fault.TIME_MISSING
    chain = F.when(F.col("record.fault").isNotNull(), F.col("record.fault")).when(F.col("time").isNull(), F.lit(missing))
    if config.event_time.taken_from is EventTimeFrom.ARRIVAL:
        return chain
    skew = int(config.max_future_skew.total_seconds())
    latest = _build_latest_plausible_time() + F.make_dt_interval(secs=F.lit(skew))
    return chain.when(~_build_passes(config) & (F.col("time") > latest), F.lit(Fault.TIME_IN_FUTURE))


def _build_is_late(config: JobConfig) -> Column:
    """Whether the record is late. `is_late` also records the event time for the watermark, at most the latest plausible
    time."""
    is_arrival = config.event_time.taken_from is EventTimeFrom.ARRIVAL
    watermark_time = F.col("time") if is_arrival else F.least(F.col("time"), _build_latest_plausible_time())
    return F.call_function(f"{CATALOG}.is_late", F.col("partition"), F.col("time"), watermark_time)


def _build_detail(config: JobConfig) -> Column:
    """The detail of faults that `read_record` does not find. It contains no part of the record, because logs and
    conditions show it."""
    where = f"field {config.event_time.field}" if config.event_time.field else f"header {config.event_time.header}"
    reason, text = F.col("reason"), F.col("record.time")
    unreadable = F.lit(f"the event time {where} is not a time in the format {config.event_time.format}")
    is_guessed = call_time_function("is_zone_guessed", text, config.event_time) if config.reads_time else F.lit(False)
    zone = "; it has no offset and was read as UTC: is spec.eventTime.timeZone missing?"
    return (
        F.when(reason == Fault.TIME_UNREADABLE, F.concat(unreadable, call_time_function("describe_time", text, config.event_time)))
        .when(reason == Fault.TIME_MISSING, F.lit("the record has no Kafka timestamp"))
        .when(
            reason == Fault.TIME_IN_FUTURE,
            F.concat(
                F.lit(
                    f"the event time is more than {config.event_time.max_future_skew} after the record's Kafka timestamp "
                    "or after the time at which the record was read"
                ),
                F.when(is_guessed, F.lit(zone)).otherwise(F.lit("")),
            ),
        )
        .when(reason == Fault.LATE, F.lit("the event time is behind the watermark"))
    )
