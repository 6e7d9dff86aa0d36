"""The sinks: each writes one batch in exactly one Spark action that reads every row of every partition.

A second action would run the deduplication again on changed state; one that stops early would leave it half done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from dedup_api.job_config import JobConfig
from dedup_job.parse import PASSED_COLUMNS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Sink = Callable[["DataFrame", int], None]
"""Writes the rows of a batch; returns when they are written."""

CONSOLE_ROWS = 20
CONSOLE_CHARACTERS = 2000
"""Of each field: a log line is to be read."""

_MAX_RECORD = 100 * 1024 * 1024
"""Bytes. The producer must not refuse what the source topic took; what the sink topic takes is the broker's to say."""


def build_sink(config: JobConfig) -> Sink:
    if config.sink.kafka is not None:
        return build_kafka_sink(build_sink_options(config.source.bootstrap_servers, config.sink.kafka.topic))
    return write_console


def build_sink_options(bootstrap_servers: str, topic: str) -> dict[str, str]:
    return {
        "kafka.bootstrap.servers": bootstrap_servers,
        "topic": topic,
        "kafka.compression.type": "lz4",
        "kafka.linger.ms": "20",
        "kafka.batch.size": str(256 * 1024),
        "kafka.max.request.size": str(_MAX_RECORD),
    }


def build_kafka_sink(options: dict[str, str]) -> Sink:
    def write_kafka(batch: DataFrame, number: int) -> None:
        batch.select(*PASSED_COLUMNS).write.format("kafka").options(**options).save()

    return write_kafka


def write_console(batch: DataFrame, number: int) -> None:
    """Prints up to 20 rows as JSON lines. The index of a row in its partition picks them, so that all rows are still read."""
    index_in_partition = F.monotonically_increasing_id().bitwiseAND(F.lit((1 << 33) - 1))
    picked = batch.select(*PASSED_COLUMNS, index_in_partition.alias("index")).agg(
        F.collect_list(F.when(F.col("index") < CONSOLE_ROWS, F.struct(*PASSED_COLUMNS)))
    )
    for row in picked.collect()[0][0][:CONSOLE_ROWS]:
        print(json.dumps(build_console_row(number, row["key"], row["value"], row["headers"]), ensure_ascii=False), flush=True)


def build_console_row(number: int, key: bytes | None, value: bytes | None, headers: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"batch": number, "key": _readable(key), "value": _readable(value)}
    if headers:
        document["headers"] = {header["key"]: _readable(header["value"]) for header in headers}
    return document


def _readable(content: bytes | None) -> str | None:
    return None if content is None else bytes(content).decode("utf-8", "replace")[:CONSOLE_CHARACTERS]
