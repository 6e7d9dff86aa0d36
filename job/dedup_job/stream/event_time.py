"""The event time: from a text or number in the payload to a timestamp, or null. Never an exception, whatever the text."""

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
"""Also keeps `1e-999999999` from the decimal parser, which would take hours over it."""
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what lies outside is no time, and later arithmetic cannot overflow."""
_SHORT_ISO = "yyyy-MM-dd['T'HH:mm]XXX"
"""Two forms of ISO 8601 that Spark's own parser lacks: without seconds, and a date with an offset."""


def build_event_time(text: Column, form: str) -> Column:
    """The payload's text, or digits of its number, as a timestamp."""
    match form:
        case "Iso8601":
            return _build_iso8601(text)
        case "EpochMillis":
            return _build_epoch(text, 1000)
        case "EpochSeconds":
            return _build_epoch(text, 1)
        case pattern:
            return _bound(F.call_function(f"{CATALOG}.parse_time", text, F.lit(pattern)))


def _build_iso8601(text: Column) -> Column:
    # Spark also takes "now", "12:30" (today) and "294247-01-10": a dash in fifth place leaves dates of four-digit years.
    parsed = F.coalesce(text.try_cast("timestamp"), F.try_to_timestamp(text, F.lit(_SHORT_ISO)))
    return F.when(F.substring(text, 5, 1) == "-", _bound(parsed))


def _build_epoch(text: Column, per_second: int) -> Column:
    number = F.when(text.rlike(_NUMBER), text.try_cast("decimal(38,6)"))
    inside = number.between(_FIRST_SECOND * per_second, _LAST_SECOND * per_second)
    micros = (number * (1_000_000 // per_second)).try_cast("bigint")
    return F.when(inside, F.timestamp_micros(micros))


def _bound(time: Column) -> Column:
    seconds = F.unix_seconds(time)
    return F.when(seconds.between(_FIRST_SECOND, _LAST_SECOND), time)


def validate_format(spark: SparkSession, form: str) -> None:
    """JobError when Spark refuses the pattern. Folding a constant is enough to ask it: no job runs."""
    if form in (ISO8601, EPOCH_MILLIS, EPOCH_SECONDS):
        return
    probe = spark.range(1).select(F.try_to_timestamp(F.lit("x"), F.lit(form)))
    try:
        probe._jdf.queryExecution().optimizedPlan()
    except PySparkException as error:
        reason = str(error).splitlines()[0]
        raise JobError(ExitCode.CONFIGURATION, f"spec.eventTime.format: Spark refuses the pattern {form!r}: {reason}") from error
