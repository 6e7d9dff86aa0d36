"""Turns the text or number of the event time into a timestamp, or into null. No text causes an exception.

`job/java/dev/streamdedup/EventTime.java` reads the texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from dedup_api.exits import ExitCode
from dedup_api.records import EPOCH_FORMATS, EventTime
from dedup_job.errors import JobError
from dedup_job.stream.session import CATALOG

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession


def call_time_function(name: str, text: Column, event_time: EventTime) -> Column:
    """Calls a function of `EventTimeFunctions.java`: `parse_time` gives the event time, or null for a text that is not
    one; `describe_time` says what such a text looks like; `is_zone_guessed` whether it was read as UTC for lack of a
    zone. `text`: the payload's string, or its number as text."""
    return F.call_function(f"{CATALOG}.{name}", text, F.lit(event_time.format), F.lit(event_time.time_zone or ""))


def validate_event_time(spark: SparkSession, event_time: EventTime) -> None:
    """JobError when Spark refuses the pattern, or Java does not know the time zone."""
    if event_time.time_zone is not None:
        _validate_zone(spark, event_time.time_zone)
    if event_time.format == "Iso8601" or event_time.format in EPOCH_FORMATS:
        return
    # Spark parses the pattern while it optimizes the query, so no Spark job runs.
    probe = spark.range(1).select(F.try_to_timestamp(F.lit("x"), F.lit(event_time.format)))
    try:
        probe._jdf.queryExecution().optimizedPlan()
    except PySparkException as error:
        reason = str(error).splitlines()[0]
        message = f"spec.eventTime.format: Spark refuses the pattern {event_time.format!r}: {reason}"
        raise JobError(ExitCode.CONFIGURATION, message) from error


def _validate_zone(spark: SparkSession, zone: str) -> None:
    jvm: Any = spark._jvm
    try:
        jvm.java.time.ZoneId.of(zone)
    except (PySparkException, Py4JJavaError) as error:
        message = f"spec.eventTime.timeZone: {zone} is not a name of the IANA time zone database, such as Europe/Berlin"
        raise JobError(ExitCode.CONFIGURATION, message) from error
