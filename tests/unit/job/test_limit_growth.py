"""A reduced limit grows back while the driver runs."""

from __future__ import annotations

from pathlib import Path

from dedup_job.checkpoint.batch_limit import BatchLimit, BatchLimitFile
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.report.status import State, build_status
from dedup_job.stream.limit_growth import LimitGrowth
from dedup_job.stream.read_limit import ReadLimit


def test_ten_batches_with_records_double_the_limit(tmp_path: Path) -> None:
    layout = CheckpointLayout(tmp_path, 1)
    layout.folder.mkdir()
    file, state, applied = BatchLimitFile(layout), State(), list[int]()
    state.update(batch_limit=40)

    def apply(offsets: int) -> bool:
        applied.append(offsets)
        return True

    read_limit = ReadLimit(40, apply)
    growth = LimitGrowth(BatchLimit(offsets=40, unfinished=3), file, 100, read_limit, state)
    for batch in range(21):
        growth.begin_batch()
        growth.end_batch(rows=1)
        growth.begin_batch()
        growth.end_batch(rows=0)  # a batch without records does not count
        if batch == 0:
            assert file.read() == BatchLimit(offsets=40, commits=1), "the first commit removes the note"
        if batch == 9:
            assert (applied, state.read().batch_limit, read_limit.offsets) == ([80], 80, 80)
            assert [warning.reason for warning in build_status(state.read()).warnings] == ["BatchLimitReduced"]
    assert applied == [80, 100] and file.read() == BatchLimit()
    assert build_status(state.read()).warnings == [] and build_status(state.read()).batch_limit is None
