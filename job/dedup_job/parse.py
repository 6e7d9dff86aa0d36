"""From the records of the topic to what the deduplication needs: a key and an event time for each.

No record may stop a batch, whatever its bytes: what cannot be read is invalid, gets a key of its own and a null event
time, passes through the deduplication and is counted and left out behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_api.job_config import JobConfig
from dedup_job.event_time import build_event_time
from dedup_job.fields import build_paths, build_schema, build_tree
from dedup_job.keys import build_digest, build_key_text, build_own_key_text

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

KEY_COLUMN, TIME_COLUMN = "dedup_key", "event_time"
PASSED_COLUMNS = ("key", "value", "headers", "timestamp", "partition", "offset")
"""What goes on to the sink, untouched; partition and offset for the order."""

_JSON_OPTIONS = {
    "mode": "PERMISSIVE",
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
    "columnNameOfCorruptRecord": " ",  # no path can be named so: the default could be
}


def parse(records: DataFrame, config: JobConfig) -> DataFrame:
    """Columns PASSED_COLUMNS, `dedup_key` (16 bytes, never null) and `event_time` (null exactly for invalid records)."""
    text = F.col("value").cast("string")
    # Java would read bytes that are not UTF-8 as U+FFFD, and two different keys could become one.
    json = F.from_json(F.when(F.is_valid_utf8(text), text), build_schema(build_tree(build_paths(config))), _JSON_OPTIONS)
    read = records.select(*PASSED_COLUMNS, json.alias("json"))
    keys = [_leaf(path) for path in config.key.fields]
    found = read.select(
        *PASSED_COLUMNS,
        build_key_text(keys).alias("key_text"),
        build_event_time(_leaf(config.event_time.field), config.event_time.format).alias("time"),
    )
    valid = F.col("key_text").isNotNull() & F.col("time").isNotNull()
    own = build_own_key_text(F.col("partition"), F.col("offset"))
    return found.select(
        *PASSED_COLUMNS,
        build_digest(F.when(valid, F.col("key_text")).otherwise(own)).alias(KEY_COLUMN),
        F.when(valid, build_watermark_time(F.col("time"))).alias(TIME_COLUMN),
    )


def build_watermark_time(time: Column) -> Column:
    """Never later than the batch: a record dated 2099 must not move the watermark beyond now and make all others late."""
    return F.least(time, F.current_timestamp())


def _leaf(path: str) -> Column:
    column = F.col("json")
    for name in path.split("."):
        column = column.getField(name)
    return column
