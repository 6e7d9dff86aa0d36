"""Event times on static frames: formats, zones, times in the future, and times in a wrong unit."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from dedup_api.exits import ExitCode
from dedup_api.records import EventTime
from dedup_job.errors import JobError
from dedup_job.stream.event_time import validate_event_time
from kafka.driver import build_config
from kafka.parsing import NOW, micros, parse_records, parse_values

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HOUR = 3_600_000

pytestmark = pytest.mark.xdist_group("spark-session")


TIMES: dict[str, list[tuple[Any, str | None]]] = {
    "Iso8601": [
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06 07:08:09", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09.123456Z", "2024-05-06T07:08:09.123456+00:00"),
        ("2024-05-06T07:08:09.123456789Z", "2024-05-06T07:08:09.123456+00:00"),
        ("2024-05-06T07:08:09+02:00", "2024-05-06T05:08:09+00:00"),
        ("2024-05-06T07:08:09-0330", "2024-05-06T10:38:09+00:00"),
        ("2024-05-06T07:08Z", "2024-05-06T07:08:00+00:00"),
        ("2024-05-06", "2024-05-06T00:00:00+00:00"),
        ("2024-05-06Z", "2024-05-06T00:00:00+00:00"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000+00:00"),
        *((text, None) for text in ("", "now", "today", "epoch", "07:08:09", "T07:08", "2024", "2024-02-30", "1715000000", "2024-0506")),
        ("2024-05-06T07:08:09,123Z", "2024-05-06T07:08:09.123+00:00"),
        ("20240506T070809Z", "2024-05-06T07:08:09+00:00"),
        ("20240506T070809.5+0200", "2024-05-06T05:08:09.500000+00:00"),
        ("20240506T0708Z", "2024-05-06T07:08:00+00:00"),
        ("2024-05-06t07:08:09z", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09+02:00[Europe/Berlin]", "2024-05-06T05:08:09+00:00"),
        ("2024-05-06T07:08:09[Europe/Berlin]", "2024-05-06T05:08:09+00:00"),
        ("2024-05-06T07:08+02:00", "2024-05-06T05:08:00+00:00"),
        *((text, None) for text in ("2024-05-06T07:08:09[Europe/Atlantis]", "2024-05-06T07:08:60Z", "2024-05-06T24:00:00Z", "2024-127")),
        *((text, None) for text in ("294247-01-10T04:00:54Z", "2024-05-06T25:00:00Z", "2024-05-06T07:08:09+99:00", "x" * 1000)),
        (1715000000, None),
        *((text, None) for text in ("2024-05-06-10", "20240506", "20240506-10", "2024-05-06+0530", "2024-05-06[Europe/Berlin]")),
        ("2024-05-06+02:00", "2024-05-05T22:00:00+00:00"),
        (20240506, None),
    ],
    "EpochMillis": [
        ("1714979289123\n", "2024-05-06T07:08:09.123+00:00"),
        (1714979289123, "2024-05-06T07:08:09.123+00:00"),
        ("1714979289123", "2024-05-06T07:08:09.123+00:00"),
        (1714979289123.5, "2024-05-06T07:08:09.123500+00:00"),
        (-1, "1969-12-31T23:59:59.999+00:00"),
        *((value, None) for value in ("", "x", "NaN", "1e-999999999", "9" * 30, 10**17, -(10**17), True, "2024-05-06T07:08:09Z")),
    ],
    "EpochSeconds": [
        (1714979289, "2024-05-06T07:08:09+00:00"),
        ("1714979289.25", "2024-05-06T07:08:09.250000+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        *((value, None) for value in (1714979289123, "", "1 2", "--1")),
    ],
    "EpochMicros": [
        (1714979289123456, "2024-05-06T07:08:09.123456+00:00"),
        ("1714979289123456.9", "2024-05-06T07:08:09.123456+00:00"),
        *((value, None) for value in (253402300800000001, 1714979289123456789, "")),
    ],
    "EpochNanos": [
        (1714979289123456789, "2024-05-06T07:08:09.123456+00:00"),
        (-1500, "1969-12-31T23:59:59.999999+00:00"),
        *((value, None) for value in (10**22, "1714979289123456789x")),
    ],
    "dd.MM.yyyy HH:mm:ss": [
        ("06.05.2024 07:08:09", "2024-05-06T07:08:09+00:00"),
        *((f"06.05.+{year} 07:08:09", None) for year in ("10000", "294248", "999999999")),
        *((value, None) for value in ("6.5.2024 7:8:9", "31.02.2024 00:00:00", "06.05.2024", "", 5, "06.05.2024 07:08:09 x")),
    ],
    "yyyy-MM-dd": [
        ("2024-05-06", "2024-05-06T00:00:00+00:00"),
        *((text, None) for text in ("+294248-01-01", "+999999999-01-01", "2024-02-30")),
    ],
    "yyyyMMdd": [(20240506, "2024-05-06T00:00:00+00:00"), ("20240506", "2024-05-06T00:00:00+00:00")],
}


@pytest.mark.parametrize("form", TIMES)
def test_event_times(spark: SparkSession, form: str) -> None:
    cases = TIMES[form]
    config = build_config("b:1", "in", None, eventTime={"field": "meta.at", "format": form})
    rows = parse_values(spark, config, [json.dumps({"id": 1, "meta": {"at": value}}).encode() for value, _ in cases])
    found = {str(value): row.micros for (value, _), row in zip(cases, rows, strict=True)}
    assert found == {str(value): None if expected is None else micros(expected) for value, expected in cases}


@pytest.mark.parametrize(
    ("time", "stamp", "valid"),
    [
        (NOW + HOUR, NOW, True),
        (NOW + HOUR + 1, NOW, False),
        (NOW - 1000 * HOUR, NOW, True),
        (NOW + HOUR + 1, -1, True),  # without a timestamp nobody knows when the record was stored
        (NOW + HOUR + 1, 0, True),
        (4_070_908_800_000, 4_070_908_800_000, False),  # 2099, with a Kafka timestamp of 2099
    ],
)
def test_a_time_in_the_future_is_a_fault(spark: SparkSession, time: int, stamp: int, valid: bool) -> None:
    config = build_config("b:1", "in", None, eventTime={"field": "at", "format": "EpochMillis", "maxFutureSkew": "1h"})
    [row] = parse_records(spark, config, [(None, json.dumps({"id": 1, "at": time}).encode(), stamp)])
    assert (row.fault, row.micros) == ((None, time * 1000) if valid else ("TimeInFuture", None))


def test_no_time_after_the_kafka_timestamp_moves_the_watermark(spark: SparkSession) -> None:
    times: Any = spark._jvm.dev.streamdedup.BatchTimes  # type: ignore[union-attr]
    times.begin((NOW - HOUR) * 1000, 0)
    config = build_config("b:1", "in", None, eventTime={"field": "at", "format": "EpochMillis", "maxFutureSkew": "2h"})
    offered = [NOW - HOUR, NOW - HOUR + 1, NOW + HOUR, NOW + HOUR]
    records = [(None, json.dumps({"id": 1, "at": time}).encode(), NOW) for time in offered]
    rows = parse_records(spark, config, records, partition=77)
    assert [row.fault for row in rows] == ["Late", None, None, None]
    assert times.describe() == f"77 {NOW * 1000} {(NOW - HOUR + 1) * 1000}\n"
    times.begin(-(1 << 63), 0)


@pytest.mark.parametrize("pattern", ["yyyy-QQQQQQ", "yyyy b'", "YYYY-MM-dd", "uuuu-nope"])
def test_a_bad_pattern_is_a_configuration_error(spark: SparkSession, pattern: str) -> None:
    with pytest.raises(JobError, match=r"spec\.eventTime\.format") as caught:
        validate_event_time(spark, EventTime(field="at", format=pattern))
    assert caught.value.code is ExitCode.CONFIGURATION


def test_good_patterns_pass(spark: SparkSession) -> None:
    for pattern in ("Iso8601", "yyyy-MM-dd HH:mm:ss", "EpochNanos", "dd/MM/yyyy'T'HH:mm:ss.SSSXXX"):
        validate_event_time(spark, EventTime(field="at", format=pattern, time_zone="Europe/Berlin"))


def test_an_unknown_time_zone_is_a_configuration_error(spark: SparkSession) -> None:
    with pytest.raises(JobError, match=r"spec\.eventTime\.timeZone: Europe/Atlantis") as caught:
        validate_event_time(spark, EventTime(field="at", time_zone="Europe/Atlantis"))
    assert caught.value.code is ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("Iso8601", "2024-05-06T07:08:09", "2024-05-06T05:08:09+00:00"),
        ("Iso8601", "20240506T070809", "2024-05-06T05:08:09+00:00"),
        ("Iso8601", "2024-05-06T07:08:09Z", "2024-05-06T07:08:09+00:00"),
        ("Iso8601", "2024-10-27T02:30:00", "2024-10-27T00:30:00+00:00"),  # the hour that occurs twice counts as summer time
        ("yyyy-MM-dd HH:mm:ss", "2024-10-27 02:30:00", "2024-10-27T00:30:00+00:00"),
        ("yyyy-MM-dd HH:mm:ss", "2024-01-06 07:08:09", "2024-01-06T06:08:09+00:00"),
        ("yyyy-MM-dd HH:mm:ssXXX", "2024-05-06 07:08:09-01:00", "2024-05-06T08:08:09+00:00"),
    ],
)
def test_a_time_without_an_offset_is_read_in_the_time_zone(spark: SparkSession, form: str, text: str, expected: str) -> None:
    config = build_config("b:1", "in", None, eventTime={"field": "at", "format": form, "timeZone": "Europe/Berlin"})
    [row] = parse_values(spark, config, [json.dumps({"id": 1, "at": text}).encode()])
    assert row.micros == micros(expected)


@pytest.mark.parametrize(
    ("form", "value", "hint"),
    [
        ("EpochMillis", 1714979289123456, "looks like microseconds since 1970: is spec.eventTime.format EpochMicros?"),
        ("EpochMillis", "1714979289123456789", "looks like nanoseconds"),
        ("EpochSeconds", 1714979289123, "looks like milliseconds"),
        ("EpochMicros", 1714979289123456789, "looks like nanoseconds"),
        ("Iso8601", 1714979289, "looks like seconds"),
        ("yyyy-MM-dd HH:mm:ss", "1714979289123", "looks like milliseconds"),
        ("yyyy-MM-dd HH:mm:ss", "2024-05-06T07:08:09Z", "looks like ISO 8601"),
        ("EpochMillis", "2024-05-06T07:08:09Z", "looks like ISO 8601"),
        ("EpochMillis", "soon", "a text, and this format is a number"),
        ("Iso8601", "2024-05-06T07:08:60Z", "the second 60 is not supported"),
        ("Iso8601", "2024-05-06T24:00:00Z", "the hour 24 is not supported"),
        ("Iso8601", "2024-127T07:08:09Z", "ordinal dates"),
        ("Iso8601", "0060." * 100, "it is longer than any time"),
        ("EpochMillis", "1" * 65, "it is longer than any time"),
    ],
)
def test_the_detail_says_what_a_text_that_is_no_time_looks_like(spark: SparkSession, form: str, value: Any, hint: str) -> None:
    config = build_config("b:1", "in", None, eventTime={"field": "at", "format": form})
    [row] = parse_values(spark, config, [json.dumps({"id": 1, "at": value}).encode()])
    assert row.fault == "TimeUnreadable" and row.detail is not None
    assert row.detail.startswith(f"the event time field at is not a time in the format {form}; ") and hint in row.detail
    assert str(value) not in row.detail, "the detail must hold no part of the record"


@pytest.mark.parametrize(
    ("event_time", "text", "asks"),
    [
        ({"format": "yyyy-MM-dd HH:mm:ss"}, "2023-11-15 00:13:20", True),
        ({}, "2023-11-15T00:13:20", True),
        ({}, "2023-11-15T00:13:20Z", False),
        ({"timeZone": "Etc/UTC"}, "2023-11-15T00:13:20", False),
        ({"format": "yyyy-MM-dd HH:mm:ssXXX"}, "2023-11-15 00:13:20Z", False),
        ({"format": "EpochMillis"}, NOW + 2 * HOUR, False),
        ({}, "2023-11-15 00:13:20 Europe/London", False),
        ({}, "2023-11-16", True),
        ({}, "2023-11-16Z", False),
    ],
)
def test_the_detail_of_a_time_in_the_future_asks_for_the_zone(
    spark: SparkSession, event_time: dict[str, str], text: Any, asks: bool
) -> None:
    """A local time of UTC+2 is two hours ahead when it is read as UTC."""
    config = build_config("b:1", "in", None, eventTime={"field": "at", **event_time})
    [row] = parse_records(spark, config, [(None, json.dumps({"id": 1, "at": text}).encode(), NOW)])
    assert row.fault == "TimeInFuture" and row.detail is not None
    assert ("is spec.eventTime.timeZone missing?" in row.detail) is asks


def test_a_hostile_text_of_a_megabyte_costs_no_time(spark: SparkSession) -> None:
    """A search with backtracking would take minutes. It is compared with a short text, because machines differ."""
    config = build_config("b:1", "in", None, eventTime={"field": "at"})

    def measure(text: str) -> float:
        started = time.monotonic()
        [row] = parse_values(spark, config, [json.dumps({"id": 1, "at": text}).encode()])
        assert row.fault == "TimeUnreadable"
        return time.monotonic() - started

    measure("warm-up")
    assert measure("0060." * 200_000 + "\nx") < 20 * measure("soon") + 10


def test_a_kafka_timestamp_in_seconds_does_not_condemn_a_record(spark: SparkSession) -> None:
    config = build_config("b:1", "in", None, eventTime={"field": "at", "format": "EpochMillis", "maxFutureSkew": "1h"})
    [row] = parse_records(spark, config, [(None, json.dumps({"id": 1, "at": NOW}).encode(), NOW // 1000)])
    assert (row.fault, row.micros) == (None, NOW * 1000)


@pytest.mark.parametrize(
    ("form", "times", "stamp", "expected"),
    [
        ("EpochMillis", [NOW // 1000] * 3, NOW, "3 0 0"),  # seconds
        ("EpochMillis", [NOW, NOW, -1], NOW, "0 0 0"),
        ("EpochMillis", [NOW * 1000, NOW * 1000, NOW], NOW, "0 2 0"),
        ("EpochMillis", [NOW] * 3, NOW // 1000, "0 0 3"),
        ("EpochMillis", [NOW * 10, NOW, NOW], NOW * 1000, "0 0 3"),  # also records with a fault
    ],
)
def test_times_in_a_wrong_unit_are_counted(spark: SparkSession, form: str, times: list[int], stamp: int, expected: str) -> None:
    jvm: Any = spark._jvm
    jvm.dev.streamdedup.BatchTimes.begin(-(1 << 63), 0)
    config = build_config("b:1", "in", None, eventTime={"field": "at", "format": form})
    parse_records(spark, config, [(None, json.dumps({"id": 1, "at": time}).encode(), stamp) for time in times])
    assert jvm.dev.streamdedup.Plausibility.describe() == expected
    jvm.dev.streamdedup.BatchTimes.begin(-(1 << 63), 0)
