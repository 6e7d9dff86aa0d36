"""Turns the text or number of the event time into a timestamp, or into null. No text causes an exception."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.stream.session import CATALOG

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

ISO8601, EPOCH_MILLIS, EPOCH_SECONDS = "Iso8601", "EpochMillis", "EpochSeconds"

_NUMBER = r"^-?[0-9]{1,15}(\.[0-9]{1,20})?([eE]\+?[0-9]{1,2})?$"
"""Also refuses `1e-999999999`, which would keep Spark's decimal parser busy for hours."""
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z. Times outside of this range become null, so that no later sum
overflows."""
_SHORT_ISO = "yyyy-MM-dd['T'HH:mm]XXX"
"""Two forms of ISO 8601 that Spark's own parser does not accept: without seconds, and a date with an offset."""


def build_event_time(text: Column, time_format: str) -> Column:
    """The event time as a timestamp; null when `text` does not fit the format. `text`: the payload's string, or its
    number as text."""
    match time_format:
        case "Iso8601":
            return _build_iso8601(text)
        case "EpochMillis":
            return _build_epoch(text, 1000)
        case "EpochSeconds":
            return _build_epoch(text, 1)
        case pattern:
            return _build_bounded(F.call_function(f"{CATALOG}.parse_time", text, F.lit(pattern)))


def _build_iso8601(text: Column) -> Column:
    # Spark also accepts "now", "12:30" (today) and "294247-01-10". A dash as the fifth character requires a year of
    # four digits.
    parsed = F.coalesce(text.try_cast("timestamp"), F.try_to_timestamp(text, F.lit(_SHORT_ISO)))
    return F.when(F.substring(text, 5, 1) == "-", _build_bounded(parsed))


def _build_epoch(text: Column, per_second: int) -> Column:
    number = F.when(text.rlike(_NUMBER), text.try_cast("decimal(38,6)"))
    is_in_range = number.between(_FIRST_SECOND * per_second, _LAST_SECOND * per_second)
    micros = (number * (1_000_000 // per_second)).try_cast("bigint")
    return F.when(is_in_range, F.timestamp_micros(micros))


def _build_bounded(time: Column) -> Column:
    """Null for a time outside of the range."""
    seconds = F.unix_seconds(time)
    return F.when(seconds.between(_FIRST_SECOND, _LAST_SECOND), time)


def validate_format(spark: SparkSession, time_format: str) -> None:
    """JobError when Spark refuses the pattern. Spark parses it while it optimizes the query below, so no Spark job
    runs."""
    if time_format in (ISO8601, EPOCH_MILLIS, EPOCH_SECONDS):
        return
    probe = spark.range(1).select(F.try_to_timestamp(F.lit("x"), F.lit(time_format)))
    try:
        probe._jdf.queryExecution().optimizedPlan()
    except PySparkException as error:
        reason = str(error).splitlines()[0]
        message = f"spec.eventTime.format: Spark refuses the pattern {time_format!r}: {reason}"
        raise JobError(ExitCode.CONFIGURATION, message) from error
