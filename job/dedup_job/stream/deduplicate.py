"""Removes duplicates, and counts the records that remain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_api.faults import INVALID_FAULTS, Fault
from dedup_api.job_config import JobConfig
from dedup_api.records import OnInvalid
from dedup_job.stream.parse import FAULT_COLUMN, KEY_COLUMN, TIME_COLUMN

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

OBSERVATION, UNIQUE, FIRST_INVALID = "deduplicated", "unique", "first_invalid"


def deduplicate(parsed: DataFrame, config: JobConfig) -> DataFrame:
    """Keeps the first record of each key within the watermark. Spark's `dropDuplicates` would never forget a key.

    The observation has the number of unique records, the number of records with each fault, and the first invalid
    record that must stop the job (partition, offset, reason, detail).
    """
    delay = f"{int(config.watermark_delay.total_seconds())} seconds"
    failing = [fault for fault in INVALID_FAULTS if config.find_policy(fault) is OnInvalid.FAIL]
    unique = parsed.withWatermark(TIME_COLUMN, delay).dropDuplicatesWithinWatermark([KEY_COLUMN])
    reason = F.col(FAULT_COLUMN).getField("reason")
    invalid = F.struct("partition", "offset", reason.alias("reason"), F.col(FAULT_COLUMN).getField("detail").alias("detail"))
    return unique.observe(
        OBSERVATION,
        F.count_if(F.col(FAULT_COLUMN).isNull()).alias(UNIQUE),
        *(F.count_if(reason == fault).alias(fault) for fault in Fault),
        F.min(F.when(reason.isin(failing), invalid)).alias(FIRST_INVALID),
    )
