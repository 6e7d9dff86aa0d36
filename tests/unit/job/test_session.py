"""The settings of Spark, of its Kafka source and of the JVM that the driver derives from a configuration."""

from pathlib import Path
from typing import Any

import pytest

from dedup_api.job_config import JobConfig
from dedup_job.jvm.memory import build_memory_plan
from dedup_job.jvm.process import build_archive_option, build_jvm_command, list_jars
from dedup_job.stream.session import build_spark_conf
from dedup_job.stream.source import build_source_options

DOCUMENT: dict[str, Any] = {
    "namespace": "shop",
    "name": "orders",
    "source": {"bootstrapServers": "kafka:9092", "topic": "orders", "startingOffsets": "Latest", "maxOffsetsPerTrigger": 7},
    "format": "Json",
    "key": {"fields": ["id"]},
    "eventTime": {"field": "at"},
    "watermark": "10m",
    "processingTime": "5s",
    "sink": {"console": {}},
    "parallelism": 3,
    "cpus": 2,
    "memoryBytes": 2 * 1024**3,
}
CONFIG = JobConfig.model_validate(DOCUMENT)
MEMORY = build_memory_plan(CONFIG.memory_bytes)
STORE = "spark.sql.streaming.stateStore"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spark.app.name", "shop/orders"),
        ("spark.master", "local[2]"),
        ("spark.ui.enabled", "false"),
        ("spark.sql.shuffle.partitions", "3"),
        ("spark.sql.session.timeZone", "UTC"),
        ("spark.sql.caseSensitive", "true"),
        (f"{STORE}.providerClass", "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"),
        (f"{STORE}.rocksdb.changelogCheckpointing.enabled", "true"),
        (f"{STORE}.rocksdb.boundedMemoryUsage", "true"),
        (f"{STORE}.rocksdb.maxMemoryUsageMB", str(MEMORY.rocksdb)),
        (f"{STORE}.rocksdb.allowFAllocate", "false"),
        (f"{STORE}.rocksdb.trackTotalNumberOfRows", "false"),
        ("spark.sql.streaming.noDataMicroBatches.enabled", "false"),
        ("spark.sql.streaming.checkpoint.fileChecksum.enabled", "false"),
        ("spark.sql.streaming.offsetLog.formatVersion", "1"),
        (f"{STORE}.checkpointFormatVersion", "1"),
        (f"{STORE}.encodingFormat", "unsaferow"),
    ],
)
def test_the_settings_that_the_design_needs(name: str, value: str) -> None:
    assert build_spark_conf(CONFIG, MEMORY)[name] == value


def test_only_arrival_times_turn_batches_without_data_on() -> None:
    arrival = JobConfig.model_validate({**DOCUMENT, "eventTime": {"from": "Arrival"}})
    assert build_spark_conf(arrival, MEMORY)["spark.sql.streaming.noDataMicroBatches.enabled"] == "true"


def test_the_options_of_the_source() -> None:
    options = build_source_options(CONFIG, 7)
    assert options["subscribe"] == "orders"
    assert (options["startingOffsets"], options["maxOffsetsPerTrigger"]) == ("latest", "7")
    assert (options["failOnDataLoss"], options["includeHeaders"]) == ("true", "true")
    assert options["kafka.isolation.level"] == "read_committed"
    assert options["kafka.allow.auto.create.topics"] == "false"


def test_the_command_of_the_jvm() -> None:
    command = build_jvm_command("/jars/a.jar", MEMORY, 1, [])
    assert f"-Xmx{MEMORY.heap}m" in command and "-XX:+UseSerialGC" in command and "-XX:+ExitOnOutOfMemoryError" in command
    assert "-XX:+UseParallelGC" in build_jvm_command("/jars/a.jar", MEMORY, 2, [])


def test_the_jvm_loads_or_writes_the_class_archive() -> None:
    assert build_archive_option(None, None) == []
    assert build_archive_option(None, Path("/a.jsa")) == ["-XX:SharedArchiveFile=/a.jsa"]
    assert build_archive_option(Path("/new.jsa"), Path("/a.jsa")) == ["-XX:ArchiveClassesAtExit=/new.jsa"]


def test_the_jars_are_always_in_the_same_order(tmp_path: Path) -> None:
    (tmp_path / "jars").mkdir()
    (tmp_path / "more").mkdir()
    for name in ("jars/b.jar", "jars/a.jar", "jars/readme", "more/a.jar"):
        (tmp_path / name).write_text("")
    assert [str(jar.relative_to(tmp_path)) for jar in list_jars(tmp_path, tmp_path / "more")] == ["jars/a.jar", "jars/b.jar", "more/a.jar"]
