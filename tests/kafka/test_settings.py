"""The settings of the session, compared with the defaults of this version of Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dedup_job.stream.session import FILE_FORMATS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHECKSUM_FILES = "spark.sql.streaming.checkpoint.fileChecksum.enabled"


def test_the_pinned_formats_are_those_of_volumes_that_exist(spark: SparkSession) -> None:
    """Version 0.1.0 used the defaults of Spark 4.2, so each of the two versions reads what the other wrote. Spark has no
    default for a misspelled setting."""
    jvm: Any = spark._jvm
    defaults = jvm.org.apache.spark.sql.internal.SQLConf()
    assert {name: defaults.getConfString(name) for name in FILE_FORMATS} == FILE_FORMATS | {CHECKSUM_FILES: "true"}
