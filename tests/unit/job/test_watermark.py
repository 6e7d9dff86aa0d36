"""How far the watermark may go: the two rules as a table, what must hold for every stream as properties, and the ticks of quiet topics."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.job_config import JobConfig
from dedup_job.stream.expiry import build_tick_interval, is_tick_due
from dedup_job.stream.watermark import BatchRange, PartitionTimes, decide_arrival_watermark, decide_watermark, parse_times
from unit.job.test_session import DOCUMENT

DELAY = 1000
MOST = 100


def at(newest: int, middle: int) -> PartitionTimes:
    """From milliseconds."""
    return PartitionTimes(newest * 1000, middle * 1000)


@pytest.mark.parametrize(
    ("times", "starts", "ends", "watermark"),
    [
        # all was read: the newest time counts, wherever it is
        ({0: at(9000, 8000), 1: at(5000, 4000)}, {0: 0, 1: 0}, {0: 10, 1: 10}, 8000),
        # records are left: the slowest partition's middle counts
        ({0: at(9000, 8000), 1: at(5000, 4000)}, {0: 0, 1: 0}, {0: 90, 1: 10}, 3000),
        # of which one has nothing to read any more
        ({0: at(9000, 8000)}, {0: 0, 1: 10}, {0: 100, 1: 10}, 7000),
        # or nothing valid in what was read: nobody knows
        ({0: at(9000, 8000)}, {0: 0, 1: 0}, {0: 90, 1: 10}, 2000),
        # shares are rounded down
        ({0: at(9000, 8000), 1: at(5000, 4000)}, {0: 0, 1: 0}, {0: 89, 1: 9}, 3000),
        # a partition that is new begins at 0
        ({0: at(9000, 8000), 1: at(5000, 4000)}, {0: 100}, {0: 190, 1: 10}, 3000),
        # never back
        ({0: at(1500, 1500)}, {0: 0}, {0: 1}, 2000),
        ({}, {0: 0}, {0: 1}, 2000),
        # milliseconds are rounded down
        ({0: PartitionTimes(9_000_999, 0)}, {0: 0}, {0: 1}, 8000),
    ],
)
def test_the_two_rules(times: dict[int, PartitionTimes], starts: dict[int, int], ends: dict[int, int], watermark: int) -> None:
    assert decide_watermark(2000, DELAY, times, BatchRange(starts, ends), MOST) == watermark


def test_a_batch_that_was_planned_with_another_limit_counts_as_limited() -> None:
    times = {0: at(9000, 8000), 1: at(5000, 4000)}
    assert decide_watermark(2000, DELAY, times, BatchRange({0: 0, 1: 0}, {0: 10, 1: 10}), None) == 3000


Stream = dict[int, list[int]]
"""By partition: event times in milliseconds, in their order."""


@st.composite
def backlogs(draw: st.DrawFn) -> Stream:
    """Partitions of very different size, each in order but for a producer whose clock is ahead: one record in three at most."""
    stream: Stream = {}
    for partition in range(draw(st.integers(1, 5))):
        good = sorted(draw(st.lists(st.integers(0, 100_000), min_size=1, max_size=draw(st.sampled_from([3, 40, 300])))))
        every = draw(st.integers(3, 9))
        stream[partition] = [time + (5_000_000 if index % every == 1 else 0) for index, time in enumerate(good)]
    return stream


CARRIED = 15
"""Records before the batch that count to the middle."""


@given(backlogs(), st.integers(1, 60), st.integers(1, 3000))
def test_no_record_of_a_backlog_is_late_where_partitions_are_in_order(stream: Stream, most: int, delay: int) -> None:
    """However they are shared out, and whatever a minority of clocks says. Reads as Spark does."""
    position, watermark = dict.fromkeys(stream, 0), 0
    while any(position[partition] < len(times) for partition, times in stream.items()):
        ends = read_on(stream, position, most)
        seen: dict[int, PartitionTimes] = {}
        for partition, times in stream.items():
            read = times[position[partition] : ends[partition]]
            assert all(time > watermark or watermark == 0 for time in read), "late"
            if read:
                known = sorted(times[max(0, position[partition] - CARRIED) : ends[partition]])
                seen[partition] = at(max(read), known[(len(known) - 1) // 2])
        batch = BatchRange(position, ends)
        if not batch.is_limited(most):
            break  # caught up: from here on the newest time counts
        after = decide_watermark(watermark, delay, seen, batch, most)
        assert after >= watermark
        position, watermark = ends, after


def read_on(stream: Stream, position: dict[int, int], most: int) -> dict[int, int]:
    """The ends of the next batch: each partition's share of `most` is as large as its part of what is left, and at least one record."""
    left = {partition: len(times) - position[partition] for partition, times in stream.items()}
    shares = {partition: most * count / sum(left.values()) for partition, count in left.items()}
    return {
        partition: position[partition] + min(left[partition], 1 if 0 < share < 1 else int(share)) for partition, share in shares.items()
    }


def test_times_are_read_as_they_are_written() -> None:
    assert parse_times("0 -5 -7\n12 9 8\n") == {0: PartitionTimes(-5, -7), 12: PartitionTimes(9, 8)}
    assert parse_times("") == {}


def test_with_arrival_every_key_is_due_a_watermark_after_it_came() -> None:
    assert decide_arrival_watermark(0, 5000, 100) == 4999
    assert decide_arrival_watermark(4900, 5000, 100) == 4900, "no step yet"
    assert decide_arrival_watermark(4899, 5000, 100) == 4999
    assert decide_arrival_watermark(6000, 5000, 100) == 6000, "the clock was set back"


def build(**changes: Any) -> JobConfig:
    return JobConfig.model_validate({**DOCUMENT, **changes})


def test_ticks() -> None:
    assert build_tick_interval(build()) is None
    assert build_tick_interval(build(eventTime={"from": "KafkaTimestamp"})) is None
    assert build_tick_interval(build(eventTime={"from": "Arrival"})) == timedelta(minutes=1)
    assert build_tick_interval(build(eventTime={"from": "Arrival"}, watermark="10s", processingTime="0s")) == timedelta(seconds=1)
    assert build_tick_interval(build(eventTime={"from": "Arrival"}, watermark="10s", processingTime="1h")) == timedelta(hours=1)
    minute = timedelta(minutes=1)
    assert not is_tick_due(minute, 1_000_000, 1060.0, 5)
    assert is_tick_due(minute, 1_000_000, 1060.1, 5)
    assert not is_tick_due(minute, 1_000_000, 9999.0, 0), "nothing is left to forget"
