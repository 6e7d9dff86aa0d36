"""Reads the source topic as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup_api.job_config import JobConfig
from dedup_api.spec import OnDataLoss, StartingOffsets
from dedup_job.kafka.client_settings import ClientSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_STARTING = {StartingOffsets.EARLIEST: "earliest", StartingOffsets.LATEST: "latest"}


def build_source_options(config: JobConfig, limit: int) -> dict[str, str]:
    """`limit`: how many offsets a batch may read."""
    source = config.source
    return {
        **ClientSettings(source.bootstrap_servers).build_spark_source(),
        "subscribe": source.topic,
        "startingOffsets": _STARTING[source.starting_offsets],
        "maxOffsetsPerTrigger": str(limit),
        "includeHeaders": "true",
        "failOnDataLoss": str(source.on_data_loss is OnDataLoss.FAIL).lower(),
        "fetchOffset.numRetries": "10",  # a query must survive the restart of a broker
        "fetchOffset.retryIntervalMs": "1000",
    }


def read_source(spark: SparkSession, config: JobConfig, limit: int) -> DataFrame:
    """The columns key, value, topic, partition, offset, timestamp, timestampType, headers. `limit`: how many offsets a batch
    may read."""
    return spark.readStream.format("kafka").options(**build_source_options(config, limit)).load()
