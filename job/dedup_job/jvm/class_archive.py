"""Makes the class-data archive that drivers start from: `python -m dedup_job.jvm.class_archive ARCHIVE`, once per image.

A third of the work of a driver's start is the loading of some twenty thousand classes. The JVM can map them from a file
instead, which it writes at the end of a run that has loaded them. This is that run: a pipeline of the driver's kind on
made-up records, no broker needed. Without the archive everything works the same, later; see
`docs/decisions/0005-start-up.md`.

It imports almost nothing of the driver, so that the image's archive layer is not made anew with every change of the source.
"""

from __future__ import annotations

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
"""The first loads most classes, the second evicts state; the others are for threads that come late."""
DUMP_SECONDS = 300.0

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
_RECORD = """format_string('{"id":"%d","n":%d,"at":"2024-05-06T07:08:09Z"}', value, value)"""
_PLAN = r"Fields\nJson\nat\nid\nn"


def main() -> int:
    archive = Path(sys.argv[1])
    # The folder goes last: tasks of the query that was stopped write into it until the JVM has ended.
    with tempfile.TemporaryDirectory(prefix="dedup-warm-up-") as checkpoint:
        jvm, info = start_jvm(build_memory_plan(MEMORY), CPUS, dump_archive=archive)
        try:
            connect_gateway(jvm, info)
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
    from pyspark.sql import functions as F

    records = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1000).load()
    return (
        records.selectExpr(f"cast({_RECORD} as binary) as text", "value as offset")
        .selectExpr("text", "offset", f"dedup.read_record(text, null, '{_PLAN}') as record")
        .selectExpr("*", "coalesce(try_cast(record.time as timestamp), try_to_timestamp(cast(offset as string), 'yyyy')) as time")
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
    def write(batch: DataFrame, number: int) -> None:
        batch.filter("at is not null").select("value").write.format("noop").mode("overwrite").save()

    writer = build_pipeline(spark).writeStream.foreachBatch(write)
    query = writer.option("checkpointLocation", checkpoint.as_uri()).start()
    deadline = time.monotonic() + DUMP_SECONDS
    while not (checkpoint / "commits" / str(BATCHES - 1)).exists():
        if not query.isActive or time.monotonic() > deadline:
            raise RuntimeError(f"the warm-up query ended early: {query.exception()}")
        time.sleep(0.1)
    query.stop()


def load_kafka_clients(spark: SparkSession) -> None:
    """Opens each client once; none of them needs a broker to be opened."""
    jvm: Any = spark._jvm
    settings = jvm.java.util.HashMap()
    settings.put("bootstrap.servers", "127.0.0.1:9")
    for kind in ("key", "value"):
        settings.put(f"{kind}.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer")
        settings.put(f"{kind}.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer")
    now = jvm.java.time.Duration.ZERO
    jvm.org.apache.kafka.clients.admin.AdminClient.create(settings).close(now)
    jvm.org.apache.kafka.clients.producer.KafkaProducer(settings).close(now)
    jvm.org.apache.kafka.clients.consumer.KafkaConsumer(settings).close(now)
    spark.read.format("kafka").options(**{"kafka.bootstrap.servers": "127.0.0.1:9", "subscribe": "none"}).load()


if __name__ == "__main__":
    sys.exit(main())
