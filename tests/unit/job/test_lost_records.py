"""Which records count as lost, that each counts once, and the file that holds them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.lost_records import (
    KEPT,
    NAMED,
    LostRange,
    LostRecords,
    LostRecordsFile,
    describe_lost,
    find_lost,
    find_unreadable,
)

OFFSETS = st.dictionaries(st.integers(0, 4), st.integers(0, 60))


def lost(batch: int, partition: int, start: int, end: int) -> LostRange:
    return LostRange(batch=batch, partition=partition, start=start, end=end)


@pytest.mark.parametrize(
    ("starts", "ends", "earliest", "found"),
    [
        ({}, {}, {}, []),
        ({0: 10}, {0: 20}, {0: 0}, []),
        ({0: 10}, {0: 20}, {0: 10}, []),
        ({0: 10}, {0: 20}, {0: 13}, [(0, 10, 13)]),
        ({0: 10}, {0: 20}, {0: 20}, [(0, 10, 20)]),
        ({0: 10}, {0: 20}, {0: 99}, [(0, 10, 20)]),  # later offsets belong to the next batch
        ({0: 10, 1: 5}, {0: 20, 1: 9}, {0: 12, 1: 6}, [(0, 10, 12), (1, 5, 6)]),
        ({0: 10}, {0: 10, 1: 9}, {0: 0, 1: 0}, []),  # a partition that was added to the topic
        ({0: 10}, {0: 10, 1: 9}, {0: 0, 1: 4}, [(1, 0, 4)]),  # an added partition that lost records
        ({0: 10}, {0: 20}, {}, []),
        ({0: 10}, {0: 3}, {0: 15}, []),  # a range that runs backwards holds no records
        ({0: 10, 1: 7}, {0: 20}, {0: 0, 1: 30}, []),
    ],
)
def test_the_lost_range_is_the_part_before_the_earliest_offset(
    starts: dict[int, int], ends: dict[int, int], earliest: dict[int, int], found: list[tuple[int, int, int]]
) -> None:
    assert [(item.partition, item.start, item.end) for item in find_lost(7, starts, ends, earliest)] == found


@given(OFFSETS, OFFSETS, OFFSETS)
def test_every_planned_offset_before_the_earliest_one_is_lost(
    starts: dict[int, int], ends: dict[int, int], earliest: dict[int, int]
) -> None:
    gone = {(item.partition, offset) for item in find_lost(0, starts, ends, earliest) for offset in range(item.start, item.end)}
    planned = {(partition, offset) for partition, end in ends.items() for offset in range(starts.get(partition, 0), end)}
    assert gone == {(partition, offset) for partition, offset in planned if offset < earliest.get(partition, 0)}


def test_the_whole_range_of_a_batch_is_lost_when_its_topic_is_deleted() -> None:
    assert find_unreadable(3, {0: 10, 1: 4}, {0: 12, 1: 4, 2: 5}) == [lost(3, 0, 10, 12), lost(3, 2, 0, 5)]


@given(st.lists(st.lists(st.dictionaries(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=4), max_size=5))
def test_repeated_runs_of_a_batch_count_each_record_once(batches: list[list[dict[int, int]]]) -> None:
    """A batch reads 20 offsets of each partition. Each run of it sees an earliest offset, usually a later one."""
    seen, counted = LostRecords(), 0
    for batch, runs in enumerate(batches):
        starts = dict.fromkeys(range(4), batch * 20)
        ends = {partition: start + 20 for partition, start in starts.items()}
        gone: set[tuple[int, int]] = set()
        for moved in runs:
            earliest = {partition: starts[partition] + by for partition, by in moved.items()}
            found = find_lost(batch, starts, ends, earliest)
            seen = seen.add(found).add(found)
            gone |= {(item.partition, offset) for item in found for offset in range(item.start, item.end)}
        counted += len(gone)
    assert seen.total == counted
    assert sum(item.records for item in seen.ranges) == counted


def test_old_ranges_leave_the_file_but_stay_in_the_total() -> None:
    seen = LostRecords()
    for batch in range(KEPT + 50):
        seen = seen.add([lost(batch, 0, batch, batch + 1)])
    assert seen.total == KEPT + 50
    assert [item.batch for item in seen.ranges] == list(range(49, KEPT + 50))


def test_the_file_keeps_every_range_of_the_newest_batch() -> None:
    many = [lost(5, partition, 0, 2) for partition in range(3 * KEPT)]
    seen = LostRecords().add([lost(4, 0, 0, 1)]).add(many).add(many)
    assert (seen.total, len(seen.ranges)) == (6 * KEPT + 1, 3 * KEPT + 1)


def test_a_message_names_partitions_and_ranges() -> None:
    message = describe_lost("orders", [lost(1, 0, 10, 15), lost(1, 2, 0, 1)])
    assert message == (
        "the topic orders no longer holds offsets 10 to 14 of partition 0, offsets 0 to 0 of partition 2: "
        "up to 6 records that the job has not read"
    )


def test_a_message_about_many_partitions_is_short() -> None:
    message = describe_lost("orders", [lost(1, partition, 0, 2) for partition in range(500)])
    assert f"ranges of {500 - NAMED} more partitions" in message and "up to 1000 records" in message and len(message) < 400


def make_file(root: Path) -> LostRecordsFile:
    layout = CheckpointLayout(root, 1)
    layout.folder.mkdir()
    return LostRecordsFile(layout)


def test_the_file_keeps_ranges_and_total(tmp_path: Path) -> None:
    seen = LostRecords().add([lost(1, 0, 10, 15), lost(1, 2, 0, 1)])
    file = make_file(tmp_path)
    file.write(seen)
    assert file.read() == seen


@pytest.mark.parametrize("content", ["", "{", "[]", '{"total": "x"}', "null"])
def test_a_missing_or_unreadable_file_counts_from_zero(tmp_path: Path, content: str) -> None:
    file = make_file(tmp_path)
    assert file.read() == LostRecords()
    file.layout.lost_records_file.write_text(content)
    assert file.read() == LostRecords()
