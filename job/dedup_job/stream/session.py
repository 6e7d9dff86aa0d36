"""Spark's settings, and the session that uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup_api.job_config import JobConfig
from dedup_job.jvm.memory import MemoryPlan
from dedup_job.stream.expiry import build_expiry_interval

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CATALOG = "dedup"
"""The catalog of the driver's own SQL functions, see `job/java`."""
BATCHES_TO_RETAIN = 10
"""Spark's default of 100 keeps a hundred versions of each state partition on the volume. Ten are enough to investigate
a failure."""

_STORE = "spark.sql.streaming.stateStore"
FILE_FORMATS = {
    "spark.sql.streaming.offsetLog.formatVersion": "1",
    f"{_STORE}.checkpointFormatVersion": "1",
    f"{_STORE}.encodingFormat": "unsaferow",
    f"{_STORE}.compression.codec": "lz4",
    f"{_STORE}.rocksdb.formatVersion": "5",
    f"{_STORE}.rocksdb.mergeOperatorVersion": "2",
    f"{_STORE}.rowChecksum.enabled": "false",
    # Recovery checks the files itself. Spark's own checksums would be one more file beside each changelog, which a power
    # cut can tear, and four threads for each state partition.
    "spark.sql.streaming.checkpoint.fileChecksum.enabled": "false",
}
"""The formats that `checkpoint.file_formats` reads: the defaults of Spark 4.2, except for the checksum files. A later
Spark must not change them unasked: the version before could not read the volume after a rollback."""


def build_spark_conf(config: JobConfig, memory: MemoryPlan) -> dict[str, str]:
    """Every setting that differs from Spark's default."""
    return {
        "spark.app.name": f"{config.namespace}/{config.name}",
        "spark.master": f"local[{config.cpus}]",
        **_build_process_conf(),
        **_build_sql_conf(config),
        **_build_streaming_conf(config, memory),
        **FILE_FORMATS,
    }


def _build_process_conf() -> dict[str, str]:
    """Spark is a single process without open ports. It remembers little about finished work, because a driver runs for
    months."""
    return {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.retainedJobs": "10",
        "spark.ui.retainedStages": "10",
        "spark.ui.retainedTasks": "100",
        "spark.sql.ui.retainedExecutions": "5",
        "spark.ui.dagGraph.retainedRootRDDs": "5",
        "spark.cleaner.periodicGC.interval": "5min",  # Spark deletes shuffle files when their owner is garbage collected
    }


def _build_sql_conf(config: JobConfig) -> dict[str, str]:
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.caseSensitive": "true",  # JSON is case-sensitive: `id` and `ID` are two fields
        "spark.sql.shuffle.partitions": str(config.parallelism),
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.legacy.timeParserPolicy": "CORRECTED",  # an unreadable time is null, never an exception
        f"spark.sql.catalog.{CATALOG}": "dev.streamdedup.Functions",
    }


def _build_streaming_conf(config: JobConfig, memory: MemoryPlan) -> dict[str, str]:
    return {
        f"{_STORE}.providerClass": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        f"{_STORE}.rocksdb.changelogCheckpointing.enabled": "true",
        f"{_STORE}.rocksdb.boundedMemoryUsage": "true",
        f"{_STORE}.rocksdb.maxMemoryUsageMB": str(memory.rocksdb),
        f"{_STORE}.rocksdb.allowFAllocate": "false",  # RocksDB would reserve 74 MB of disk for each partition
        f"{_STORE}.rocksdb.trackTotalNumberOfRows": "false",  # counting rows makes writes two to three times slower
        # A batch without data only removes expired keys, and it reads the whole state for that.
        "spark.sql.streaming.noDataMicroBatches.enabled": str(build_expiry_interval(config) is not None).lower(),
        "spark.sql.streaming.minBatchesToRetain": str(BATCHES_TO_RETAIN),
        "spark.sql.streaming.numRecentProgressUpdates": "20",  # the driver reads them five times a second
    }


def start_session(conf: dict[str, str]) -> SparkSession:
    """Connects to the JVM that `jvm.process.connect_gateway` has put into the environment."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    for name, value in conf.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
