"""The rows of a batch as Kafka records: their order, their timestamp, their topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_api.spec import Ordering

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def order(rows: DataFrame, ordering: Ordering, partitions: int) -> DataFrame:
    """With PerKey, one task gets all rows of a Kafka key, in the order of the source.

    Rows without a key have no order to keep.
    """
    if ordering is Ordering.NONE:
        return rows
    together = F.when(F.col("key").isNotNull(), F.xxhash64("key")).otherwise(F.xxhash64("partition", "offset"))
    return rows.repartition(partitions, together).sortWithinPartitions("partition", "offset")


def build_timestamp() -> Column:
    """Milliseconds, as in the source record; null where that has none. The producer refuses negative numbers."""
    millis = F.unix_millis("timestamp")
    return F.when(millis >= 0, millis)


def build_topic(default: str) -> Column:
    """The row's topic, or the output's. Spark's own writer refuses null."""
    return F.coalesce("topic", F.lit(default)).alias("topic")
