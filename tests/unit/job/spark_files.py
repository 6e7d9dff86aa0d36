"""Writes the files of a checkpoint as Spark leaves them, for tests."""

from __future__ import annotations

import json

from dedup_job.checkpoint.layout import CheckpointLayout

METADATA = '{"batchWatermarkMs":1,"batchTimestampMs":2,"conf":{}}'


def write_batch(layout: CheckpointLayout, batch: int, offsets: str, commit: str) -> None:
    """Plans and commits a batch."""
    for log, content in ((layout.offset_log, f"v1\n{METADATA}\n{offsets}"), (layout.commit_log, f"v1\n{commit}")):
        log.mkdir(parents=True, exist_ok=True)
        (log / str(batch)).write_text(content)
        (log / f".{batch}.crc").write_text("")


def build_entry(ends: dict[int, int], watermark: int = 1000, clock: int = 2000) -> str:
    """An entry of the offset log for the topic `orders`."""
    metadata = {"batchWatermarkMs": watermark, "batchTimestampMs": clock, "conf": {"spark.sql.shuffle.partitions": "3"}}
    return f"v1\n{json.dumps(metadata)}\n{json.dumps({'orders': {str(partition): end for partition, end in ends.items()}})}"


class Volume(CheckpointLayout):
    """A checkpoint of a job that reads the topic `orders`."""

    def start(self, starts: dict[int, int]) -> None:
        self.source_start_file.parent.mkdir(parents=True)
        self.source_start_file.write_bytes(b"\0v1\n" + json.dumps({"orders": starts}).encode())
        self.source_start_file.with_name(".0.crc").write_text("checksum")

    def add(self, batch: int, ends: dict[int, int], committed: bool = True, watermark: int = 5000) -> None:
        """Plans a batch, and commits it unless `committed` is False."""
        write_batch(self, batch, "", f'{{"nextBatchWatermarkMs":{watermark}}}')
        (self.offset_log / str(batch)).write_text(build_entry(ends))
        if not committed:
            (self.commit_log / str(batch)).unlink()
