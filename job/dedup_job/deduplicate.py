"""The deduplication itself, and the count of what comes out of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_job.parse import KEY_COLUMN, TIME_COLUMN

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

OBSERVATION, VALID, INVALID = "deduplicated", "valid", "invalid"


def deduplicate(parsed: DataFrame, watermark: timedelta) -> DataFrame:
    """The first copy of each key within the watermark; not `dropDuplicates`, which would never forget a key."""
    delay = f"{int(watermark.total_seconds())} seconds"
    unique = parsed.withWatermark(TIME_COLUMN, delay).dropDuplicatesWithinWatermark([KEY_COLUMN])
    return unique.observe(
        OBSERVATION,
        F.count_if(F.col(TIME_COLUMN).isNotNull()).alias(VALID),
        F.count_if(F.col(TIME_COLUMN).isNull()).alias(INVALID),
    )
