"""Parses records in static frames, for the tests of `parse`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dedup_api.job_config import JobConfig
from dedup_job.stream.parse import parse
from kafka.driver import build_config
from kafka.reference import encode_key, hash_text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOW = 1_700_000_000_000
"""Milliseconds; a time in the past."""
AT = "2024-05-06T07:08:09Z"


@dataclass(frozen=True)
class Parsed:
    key: bytes
    micros: int | None
    """The event time; None for a record with a fault."""
    fault: str | None
    detail: str | None


Headers = Sequence[tuple[str, bytes | None]]


def parse_records(
    spark: SparkSession,
    config: JobConfig,
    records: Sequence[tuple[bytes | None, bytes | None, int | None]],
    partition: int = 0,
    headers: Sequence[Headers | None] | None = None,
) -> list[Parsed]:
    """`records`: key, value and Kafka timestamp in milliseconds; None for the present. `headers`: of each record."""
    rows = [
        (None if key is None else bytearray(key), None if value is None else bytearray(value), of_record, partition, offset, stamp)
        for offset, ((key, value, stamp), of_record) in enumerate(zip(records, headers or [None] * len(records), strict=True))
    ]
    schema = "key binary, value binary, headers array<struct<key string, value binary>>, partition int, offset long, stamp long"
    frame = spark.createDataFrame(rows, schema).selectExpr(
        "key",
        "value",
        "partition",
        "offset",
        "headers",
        "coalesce(timestamp_millis(stamp), current_timestamp()) as timestamp",
    )
    found = parse(frame, config).selectExpr("dedup_key", "unix_micros(event_time) as micros", "fault.reason", "fault.detail").collect()
    for row in found:
        assert (row.reason is None) == (row.detail is None) and (row.reason is None or row.micros is None)
    return [Parsed(bytes(row.dedup_key), row.micros, row.reason, row.detail) for row in found]


def parse_values(spark: SparkSession, config: JobConfig, values: Sequence[bytes | None]) -> list[Parsed]:
    return parse_records(spark, config, [(b"k", value, None) for value in values])


def check_against_reference(spark: SparkSession, fields: list[str], values: Sequence[bytes | None]) -> None:
    config = build_config("b:1", "in", None, key={"fields": fields}, eventTime={"field": "at"})
    for offset, (value, row) in enumerate(zip(values, parse_values(spark, config, values), strict=True)):
        text = encode_key(value, fields)
        expected = hash_text(text if text is not None else f"x0:{offset}".encode())
        assert (row.micros is not None, row.key) == (text is not None, expected), ((value or b"")[:200], row.detail)


def micros(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
