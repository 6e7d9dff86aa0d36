"""How a failing batch gets smaller, and how its limit grows back."""

from pathlib import Path

import pytest

from dedup_api.reasons import Reason
from dedup_job.checkpoint.batch_limit import COMMITS_BEFORE_GROWTH, BatchLimit, BatchLimitFile
from dedup_job.checkpoint.layout import CheckpointLayout

CONFIGURED = 1000


def fail(limit: BatchLimit, batch: int, planned: int, configured: int = CONFIGURED) -> BatchLimit:
    """A driver starts with `batch`, plans it and is killed; the next driver starts."""
    return limit.start(batch, None, configured).start(batch, planned, configured)


def test_a_batch_that_kills_each_driver_is_planned_smaller_down_to_one_record() -> None:
    limit, offered = BatchLimit(), []
    for _ in range(12):
        limit = fail(limit, 5, limit.decide_offsets(CONFIGURED))
        offered.append(limit.decide_offsets(CONFIGURED))
    assert offered[:4] == [500, 250, 125, 62] and offered[-1] == 1


def test_the_limit_starts_from_the_batch_that_failed() -> None:
    assert fail(BatchLimit(), 5, 300).offsets == 150


def test_a_kill_before_the_batch_is_planned_or_after_its_commit_changes_nothing() -> None:
    started = BatchLimit().start(5, None, CONFIGURED)
    assert started.start(5, None, CONFIGURED).offsets is None
    assert started.start(6, 400, CONFIGURED).offsets is None
    assert started.count_commit(CONFIGURED).start(5, 400, CONFIGURED).offsets is None


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.OUT_OF_MEMORY, 200),
        (Reason.FENCED, 200),
        (Reason.DRIVER_FAILED, None),  # it had committed a batch before
        (Reason.SOURCE_UNAVAILABLE, None),
        (None, None),
    ],
)
def test_the_reason_of_an_end_in_a_later_batch(reason: Reason | None, expected: int | None) -> None:
    ended = BatchLimit().start(5, None, CONFIGURED).count_commit(CONFIGURED).end(reason)
    assert ended.start(6, 400, CONFIGURED).offsets == expected


def test_a_jvm_that_was_killed_in_the_first_batch_counts_as_a_kill() -> None:
    started = BatchLimit().start(5, None, CONFIGURED)
    assert started.end(Reason.DRIVER_FAILED).start(5, 400, CONFIGURED).offsets == 200
    assert started.end(Reason.SOURCE_UNAVAILABLE).start(5, 400, CONFIGURED).offsets is None


def test_a_batch_that_outlives_the_grace_period_is_planned_smaller() -> None:
    stopping = BatchLimit().start(5, None, CONFIGURED).count_commit(CONFIGURED).note_batch(6)
    assert stopping.start(6, 400, CONFIGURED).offsets == 200
    assert stopping.end(None).start(6, 400, CONFIGURED).offsets is None, "the batch has ended within the grace period"


def test_the_limit_doubles_after_ten_commits_until_the_field_holds_again() -> None:
    limit = BatchLimit(offsets=300)
    for commits in range(COMMITS_BEFORE_GROWTH):
        assert (limit.offsets, limit.commits) == (300, commits)
        limit = limit.count_commit(CONFIGURED)
    assert (limit.offsets, limit.commits) == (600, 0)
    for _ in range(COMMITS_BEFORE_GROWTH):
        limit = limit.count_commit(CONFIGURED)
    assert limit == BatchLimit(), "1200 is more than the field allows"


def test_a_field_below_the_limit_holds_at_once() -> None:
    assert BatchLimit(offsets=300).decide_offsets(20) == 20
    assert BatchLimit(offsets=300).start(5, None, 20).offsets is None


def make_file(root: Path) -> BatchLimitFile:
    layout = CheckpointLayout(root, 1)
    layout.folder.mkdir()
    return BatchLimitFile(layout)


def test_the_file_keeps_the_limit(tmp_path: Path) -> None:
    file, limit = make_file(tmp_path), BatchLimit(offsets=4, commits=3, unfinished=7, failed=True)
    assert file.read() == BatchLimit()
    file.write(limit)
    assert file.read() == limit
    file.update(lambda limit: limit.end(None))
    assert file.read() == BatchLimit(offsets=4, commits=3)


@pytest.mark.parametrize(
    "content", ["", "nope", "[]", "null", '{"offsets":4}', '{"offsets":0,"commits":0,"unfinished":null,"failed":false}']
)
def test_an_unreadable_file_is_no_limit_and_is_logged(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    file = make_file(tmp_path)
    file.layout.batch_limit_file.write_text(content)
    assert file.read() == BatchLimit()
    assert "limit.json cannot be read" in caplog.text
