"""Builds the class-data archive: `python -m dedup_job.jvm.class_archive ARCHIVE`, once for each image.

Loading some twenty thousand classes is a third of the work of a driver's start. The JVM can map classes from an archive
file instead, and it writes that file at the end of a run that has loaded them. This module is such a run: it runs a
query like the driver's on generated records, without a broker. A driver without the archive works the same and starts
later; see `docs/decisions/0005-start-up.md`.

The module must import very little of the driver: the image builds the archive in a layer of its own, and a change of
any file that this module imports rebuilds that layer.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dedup_job.jvm.memory import build_memory_plan
from dedup_job.jvm.process import connect_gateway, start_jvm

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CPUS, MEMORY = 2, 2 * 1024**3
BATCHES = 4
"""The first batch loads most classes, the second removes expired keys, and the others give background threads time."""
DUMP_SECONDS = 300.0
"""Time limit of the query, and again of the JVM to write the archive and end."""

_STORE = "spark.sql.streaming.stateStore"
_CONF = {
    "spark.app.name": "warm-up",
    "spark.master": f"local[{CPUS}]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": str(CPUS),
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.catalog.dedup": "dev.streamdedup.Functions",
    f"{_STORE}.providerClass": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    f"{_STORE}.rocksdb.changelogCheckpointing.enabled": "true",
    f"{_STORE}.rocksdb.boundedMemoryUsage": "true",
}
_RECORD_SQL = """format_string('{"id":"%d","n":%d,"at":"2024-05-06T07:08:09Z"}', value, value)"""
_NO_HEADERS = "cast(null as array<struct<key: string, value: binary>>)"
_READ_PLAN = json.dumps(
    {
        "keyFrom": "Fields",
        "isJson": True,
        "isFramed": False,
        "tombstone": "",
        "fields": [{"path": name, "steps": [name]} for name in ("id", "n")],
        "headers": [],
        "timeField": {"path": "at", "steps": ["at"]},
    }
)
"""See `ReadPlan.java`."""


def main() -> int:
    archive = Path(sys.argv[1])
    # The folder must outlive the JVM: tasks of the stopped query write into it until the JVM has ended.
    with tempfile.TemporaryDirectory(prefix="dedup-warm-up-") as checkpoint:
        jvm, connection_file = start_jvm(build_memory_plan(MEMORY), CPUS, dump_archive=archive)
        try:
            connect_gateway(jvm, connection_file)
            spark = _start_session()
            run_pipeline(spark, Path(checkpoint))
            load_kafka_clients(spark)
        finally:
            jvm.end(DUMP_SECONDS)
    return 0 if archive.exists() else 1


def _start_session() -> SparkSession:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    for name, value in _CONF.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def build_pipeline(spark: SparkSession) -> DataFrame:
    """A query with the operators and SQL functions that the driver's query has."""
    from pyspark.sql import functions as F

    records = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1000).load()
    return (
        records.selectExpr(f"cast({_RECORD_SQL} as binary) as text", "value as offset")
        .selectExpr("text", "offset", f"dedup.read_record(text, null, {_NO_HEADERS}, '{_READ_PLAN}') as record")
        .selectExpr("*", "dedup.parse_time(record.time, 'Iso8601', '') as time")
        .selectExpr("*", "dedup.is_late(0, time, least(time, current_timestamp())) as late")
        .selectExpr(
            "text as value",
            "case when late then unhex(substring(sha2(cast(offset as string), 256), 1, 32)) else record.key end as k",
            "case when not late then time end as at",
            "case when late then struct(record.fault, record.detail, time) end as fault",
        )
        .withWatermark("at", "1 second")
        .dropDuplicatesWithinWatermark(["k"])
        .observe("warm-up", F.count_if(F.col("fault").isNull()).alias("unique"))
    )


def run_pipeline(spark: SparkSession, checkpoint: Path) -> None:
    """Runs at least BATCHES batches; RuntimeError when the query ends early or takes too long."""

    def write(batch: DataFrame, number: int) -> None:
        batch.filter("at is not null").select("value").write.format("noop").mode("overwrite").save()

    writer = build_pipeline(spark).writeStream.foreachBatch(write)
    query = writer.option("checkpointLocation", checkpoint.as_uri()).start()
    deadline = time.monotonic() + DUMP_SECONDS
    while not (checkpoint / "commits" / str(BATCHES - 1)).exists():
        if not query.isActive or time.monotonic() > deadline:
            raise RuntimeError(f"the warm-up query did not commit {BATCHES} batches: {query.exception()}")
        time.sleep(0.1)
    query.stop()


def load_kafka_clients(spark: SparkSession) -> None:
    """Opens and closes each kind of Kafka client. Opening one needs no broker."""
    jvm: Any = spark._jvm
    settings = jvm.java.util.HashMap()
    settings.put("bootstrap.servers", "127.0.0.1:9")
    for kind in ("key", "value"):
        settings.put(f"{kind}.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer")
        settings.put(f"{kind}.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer")
    no_wait = jvm.java.time.Duration.ZERO
    jvm.org.apache.kafka.clients.admin.AdminClient.create(settings).close(no_wait)
    jvm.org.apache.kafka.clients.producer.KafkaProducer(settings).close(no_wait)
    jvm.org.apache.kafka.clients.consumer.KafkaConsumer(settings).close(no_wait)
    spark.read.format("kafka").options(**{"kafka.bootstrap.servers": "127.0.0.1:9", "subscribe": "none"}).load()


if __name__ == "__main__":
    sys.exit(main())
