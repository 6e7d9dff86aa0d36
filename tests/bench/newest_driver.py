"""The driver with Spark's own rule for the watermark, which uses the newest event time of all partitions, also in a
backlog."""

from __future__ import annotations

import sys
from unittest.mock import patch

from dedup_job.main import main
from dedup_job.stream.watermark import BatchRange, PartitionTimes, decide_watermark


def decide_newest(before: int, delay: int, times: dict[int, PartitionTimes], batch: BatchRange, most: int) -> int:
    everything = BatchRange(batch.ends, batch.ends)
    return decide_watermark(before, delay, times, everything, most)


if __name__ == "__main__":
    with patch("dedup_job.stream.batch.decide_watermark", decide_newest):
        sys.exit(main())
