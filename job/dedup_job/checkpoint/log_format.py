"""The format of the entries in Spark's logs: a version line, then JSON documents, one per line. Pure, reads no file.

The format is that of Spark 4.2. `file_formats` tells whether a file of a log is whole; this module reads what it says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError

LOG_VERSION = "v1"
"""The first line of an entry."""
NO_PARTITION = "{}"
"""The offsets of a source that has no partition."""
_OFFSET_LOG_LINES = 3
"""Version, metadata, and the offsets of the only source."""


@dataclass(frozen=True)
class BatchPlan:
    """What an entry of the offset log says about a micro-batch."""

    watermark: int
    """Milliseconds: the watermark when Spark planned the batch. Keys expire by it."""
    time: int
    """Milliseconds since the epoch: when Spark planned the batch."""
    ends: dict[int, int]
    """By partition: the first offset that the batch does not read."""


def parse_log(text: str, name: str) -> list[dict[str, Any]]:
    """Returns the JSON documents of an entry. ValueError, with `name`, for a text without a version line."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("v"):
        raise ValueError(f"{name} does not begin with a version")
    return [json.loads(line) for line in lines[1:] if line.strip() and line.strip() != "-"]


def parse_plan(entry: str, topic: str) -> BatchPlan:
    metadata, offsets = parse_log(entry, "the entry")[:2]
    watermark, time = int(metadata.get("batchWatermarkMs", 0)), int(metadata.get("batchTimestampMs", 0))
    return BatchPlan(watermark, time, _parse_partitions(offsets.get(topic, {})))


def parse_end_offsets(entry: str, topic: str) -> dict[int, int]:
    """Returns, by partition, the first offset that the batch of this entry does not read."""
    return parse_plan(entry, topic).ends


def parse_source_start(text: str, topic: str) -> dict[int, int]:
    """Returns, by partition, the offset at which batch 0 starts. ValueError for another format."""
    version, _, offsets = text.partition("\n")
    if version != LOG_VERSION:
        raise ValueError(version)
    found: dict[str, dict[str, int]] = json.loads(offsets)
    return _parse_partitions(found.get(topic, {}))


def _parse_partitions(offsets: dict[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in offsets.items()}


def parse_next_watermark(commit: str, name: str) -> int:
    """Milliseconds, from an entry of the commit log; 0 before there was a watermark."""
    return int(parse_log(commit, name)[0].get("nextBatchWatermarkMs", 0))


def build_first_commit() -> str:
    return f"{LOG_VERSION}\n{json.dumps({'nextBatchWatermarkMs': 0})}"


def build_empty_source_start() -> bytes:
    """A start without partitions, after the zero byte that old readers of Spark expect."""
    return f"\0{LOG_VERSION}\n{NO_PARTITION}".encode()


def build_empty_batch_entry(previous: str, watermark_ms: int, now_ms: int) -> str:
    """Returns the entry after `previous` for a batch that reads nothing and ends at no partition.

    Neither the watermark nor the clock of the new entry is lower than that of `previous`.
    """
    metadata, _ = _split_entry(previous)
    return _build_next_entry(metadata, watermark_ms, max(now_ms, metadata["batchTimestampMs"]), NO_PARTITION)


def build_repeated_entry(previous: str, watermark_ms: int, now_ms: int) -> str:
    """Returns the entry after `previous` for a batch that reads nothing and ends where `previous` ends.

    The watermark of the new entry is not lower than that of `previous`. Its clock is `now_ms`.
    """
    metadata, offsets = _split_entry(previous)
    return _build_next_entry(metadata, watermark_ms, now_ms, offsets)


def _split_entry(entry: str) -> tuple[dict[str, Any], str]:
    """The metadata and the line with the offsets. JobError with INTERNAL for another form."""
    lines = entry.splitlines()
    if len(lines) != _OFFSET_LOG_LINES or lines[0] != LOG_VERSION:
        message = f"an entry of the offset log does not have the form {LOG_VERSION} with one source: {entry[:100]!r}"
        raise JobError(ExitCode.INTERNAL, message)
    return json.loads(lines[1]), lines[2]


def _build_next_entry(previous: dict[str, Any], watermark_ms: int, clock_ms: int, offsets: str) -> str:
    """`previous`: the metadata of the entry before."""
    times = {"batchWatermarkMs": max(watermark_ms, previous["batchWatermarkMs"]), "batchTimestampMs": clock_ms}
    return "\n".join([LOG_VERSION, json.dumps({**previous, **times}, separators=(",", ":")), offsets])
