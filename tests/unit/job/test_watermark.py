"""How far the watermark moves: the two rules as a table, a property that must hold for every stream, and when a quiet
topic gets an expiry batch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.job_config import JobConfig
from dedup_job.stream.expiry import build_expiry_interval, is_expiry_batch_due
from dedup_job.stream.watermark import (
    BatchRange,
    PartitionTimes,
    decide_arrival_watermark,
    decide_watermark,
    find_partitions_without_records,
    parse_record_counts,
    parse_times,
)
from unit.job.test_session import DOCUMENT

DELAY = 1000
LIMIT = 100


def at(newest: int, median: int) -> PartitionTimes:
    """`newest`, `median`: milliseconds."""
    return PartitionTimes(newest * 1000, median * 1000)


@pytest.mark.parametrize(
    ("times", "starts", "ends", "watermark"),
    [
        # the batch has read everything: the newest time of all partitions counts
        ({0: at(9000, 8000), 1: at(5000, 4000)}, {0: 0, 1: 0}, {0: 10, 1: 10}, 8000),
        # the batch may have left records: the oldest median of a partition counts
        ({0: at(9000, 8000), 1: at(5000, 4000)}, {0: 0, 1: 0}, {0: 90, 1: 10}, 3000),
        # a partition that the batch has not read does not count
        ({0: at(9000, 8000)}, {0: 0, 1: 10}, {0: 100, 1: 10}, 7000),
        # a partition without a valid record: the watermark stays
        ({0: at(9000, 8000)}, {0: 0, 1: 0}, {0: 90, 1: 10}, 2000),
        # Spark rounds each partition's share of the limit down
        ({0: at(9000, 8000), 1: at(5000, 4000)}, {0: 0, 1: 0}, {0: 89, 1: 9}, 3000),
        # a new partition starts at offset 0
        ({0: at(9000, 8000), 1: at(5000, 4000)}, {0: 100}, {0: 190, 1: 10}, 3000),
        # the watermark never moves back
        ({0: at(1500, 1500)}, {0: 0}, {0: 1}, 2000),
        ({}, {0: 0}, {0: 1}, 2000),
        # microseconds are rounded down to milliseconds
        ({0: PartitionTimes(9_000_999, 0)}, {0: 0}, {0: 1}, 8000),
    ],
)
def test_the_watermark_follows_the_two_rules(
    times: dict[int, PartitionTimes], starts: dict[int, int], ends: dict[int, int], watermark: int
) -> None:
    assert decide_watermark(2000, DELAY, times, BatchRange(starts, ends), LIMIT) == watermark


def test_a_batch_with_an_unknown_limit_may_have_left_records() -> None:
    times = {0: at(9000, 8000), 1: at(5000, 4000)}
    assert decide_watermark(2000, DELAY, times, BatchRange({0: 0, 1: 0}, {0: 10, 1: 10}), None) == 3000


def test_while_catching_up_a_partition_without_records_counts_with_its_last_time() -> None:
    """Behind its markers, it may have records that are as old as those that the job has read of it last."""
    times, full = {0: at(9000, 8000)}, BatchRange({0: 0, 1: 0}, {0: LIMIT, 1: 1}, frozenset({1}))
    assert decide_watermark(2000, DELAY, times, full, LIMIT, {1: at(5000, 4000)}) == 3000
    assert decide_watermark(2000, DELAY, times, full, LIMIT) == 2000, "no time of partition 1 is known"


def test_a_partition_without_any_record_does_not_hold_the_watermark() -> None:
    """Its range holds only markers of transactions, aborted records or gaps of a compacted topic. A partition with
    invalid records alone holds it."""
    times, starts, ends = {0: at(9000, 8000)}, {0: 0, 1: 0}, {0: 90, 1: 10}
    for counts, watermark in (({0: 90}, 7000), ({0: 90, 1: 0}, 7000), ({0: 85, 1: 5}, 2000), ({0: 80}, 2000)):
        without_records = find_partitions_without_records(ends, counts, 90)
        assert decide_watermark(2000, DELAY, times, BatchRange(starts, ends, without_records), None) == watermark


Stream = dict[int, list[int]]
"""By partition: the event times of its records in milliseconds, in the order of their offsets."""


@st.composite
def backlogs(draw: st.DrawFn) -> Stream:
    """Partitions of very different sizes. The event times of each are in order, apart from those of a producer whose
    clock is ahead, which has written at most every third record."""
    stream: Stream = {}
    for partition in range(draw(st.integers(1, 5))):
        in_order = sorted(draw(st.lists(st.integers(0, 100_000), min_size=1, max_size=draw(st.sampled_from([3, 40, 300])))))
        every = draw(st.integers(3, 9))
        stream[partition] = [time + (5_000_000 if index % every == 1 else 0) for index, time in enumerate(in_order)]
    return stream


CARRIED = 15
"""How many records before the batch count towards the median."""


@given(backlogs(), st.integers(1, 60), st.integers(1, 3000))
def test_no_record_of_a_backlog_is_late_where_partitions_are_in_order(stream: Stream, limit: int, delay: int) -> None:
    """This holds for every division among partitions and for a minority of wrong clocks. The test reads in batches as
    Spark does."""
    position, watermark = dict.fromkeys(stream, 0), 0
    while any(position[partition] < len(times) for partition, times in stream.items()):
        ends = plan_batch(stream, position, limit)
        batch_times: dict[int, PartitionTimes] = {}
        for partition, times in stream.items():
            read = times[position[partition] : ends[partition]]
            assert all(time > watermark or watermark == 0 for time in read), "the record is late"
            if read:
                sample = sorted(times[max(0, position[partition] - CARRIED) : ends[partition]])
                batch_times[partition] = at(max(read), sample[(len(sample) - 1) // 2])
        batch = BatchRange(position, ends)
        if not batch.may_leave_records(limit):
            break  # the job has caught up: from here on, the other rule holds
        after = decide_watermark(watermark, delay, batch_times, batch, limit)
        assert after >= watermark
        position, watermark = ends, after


def plan_batch(stream: Stream, position: dict[int, int], limit: int) -> dict[int, int]:
    """The ends of the next batch. Spark divides `limit` among the partitions by their unread records, at least one for
    each."""
    left = {partition: len(times) - position[partition] for partition, times in stream.items()}
    shares = {partition: limit * count / sum(left.values()) for partition, count in left.items()}
    return {
        partition: position[partition] + min(left[partition], 1 if 0 < share < 1 else int(share)) for partition, share in shares.items()
    }


def test_the_lines_of_batch_times_are_parsed() -> None:
    assert parse_times("0 -5 -7\n12 9 8\n") == {0: PartitionTimes(-5, -7), 12: PartitionTimes(9, 8)}
    assert parse_times("") == {}
    assert parse_record_counts("0 5\n12 0\n") == {0: 5, 12: 0}


def test_with_arrival_times_the_watermark_is_the_time_of_the_batch() -> None:
    assert decide_arrival_watermark(0, 5000, 100) == 4999
    assert decide_arrival_watermark(4900, 5000, 100) == 4900, "the step is shorter than the interval"
    assert decide_arrival_watermark(4899, 5000, 100) == 4999
    assert decide_arrival_watermark(6000, 5000, 100) == 6000, "the clock was set back: the watermark stays"


def build_config(**changes: Any) -> JobConfig:
    return JobConfig.model_validate({**DOCUMENT, **changes})


def test_the_interval_of_expiry_batches() -> None:
    assert build_expiry_interval(build_config()) is None
    assert build_expiry_interval(build_config(eventTime={"from": "KafkaTimestamp"})) is None
    assert build_expiry_interval(build_config(eventTime={"from": "Arrival"})) == timedelta(minutes=1)
    assert build_expiry_interval(build_config(eventTime={"from": "Arrival"}, watermark="10s", processingTime="0s")) == timedelta(seconds=1)
    assert build_expiry_interval(build_config(eventTime={"from": "Arrival"}, watermark="10s", processingTime="1h")) == timedelta(hours=1)


def test_when_an_expiry_batch_is_due() -> None:
    minute = timedelta(minutes=1)
    assert not is_expiry_batch_due(minute, 1_000_000, 1_060_000, True)
    assert is_expiry_batch_due(minute, 1_000_000, 1_060_100, True)
    assert not is_expiry_batch_due(minute, 1_000_000, 9_999_000, False), "an empty state needs no expiry batch"
