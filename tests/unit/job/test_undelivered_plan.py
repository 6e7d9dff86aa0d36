"""Which plans of a batch the driver removes before Spark starts, so that the batch may get smaller."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup_job.checkpoint.last_delivered import LastDelivered
from dedup_job.checkpoint.next_batch import DuePlan, remove_undelivered_plan
from dedup_job.checkpoint.spark_logs import OffsetLog
from dedup_job.checkpoint.totals import Totals, TotalsFile
from dedup_job.sink.marker import Marker
from unit.job.spark_files import Volume


def build_marker(batch: int) -> Marker:
    return Marker(batch=batch, entry="x", attempt=1, rows=1)


@pytest.mark.parametrize(("delivered", "removed"), [(build_marker(0), True), (None, True), (build_marker(1), False)])
def test_a_plan_is_removed_unless_the_output_holds_its_rows(volume: Volume, delivered: LastDelivered | None, removed: bool) -> None:
    volume.add(1, {0: 30, 1: 5, 2: 7}, committed=False)
    (volume.offset_log / ".1.crc").write_text("checksums")
    assert remove_undelivered_plan(volume, "orders", delivered) == DuePlan(1, 27 if removed else None)
    assert OffsetLog(volume).read_newest() == (0 if removed else 1)
    assert (volume.offset_log / ".1.crc").exists() is not removed, "with the checksums of another content Hadoop cannot read the next plan"


def test_the_plan_of_the_first_batch_is_removed_and_its_start_stays(tmp_path: Path) -> None:
    volume = Volume(tmp_path, 1)
    volume.start({0: 3})
    volume.add(0, {0: 10}, committed=False)
    assert remove_undelivered_plan(volume, "orders", build_marker(-1)) == DuePlan(0, 7)
    assert volume.source_start_file.exists() and OffsetLog(volume).read_newest() is None


def test_a_batch_that_the_totals_include_keeps_its_range(volume: Volume) -> None:
    """Without a marker, it is known in this way that the batch has ended: another range would be counted wrongly."""
    volume.add(1, {0: 30}, committed=False)
    TotalsFile(volume).write(Totals(batch=1))
    assert remove_undelivered_plan(volume, "orders", None) == DuePlan(1, None)
    assert OffsetLog(volume).read_newest() == 1


@pytest.mark.parametrize("ends", [{}, {0: 10, 1: 5}])
def test_a_plan_that_reads_nothing_stays(volume: Volume, ends: dict[int, int]) -> None:
    volume.add(1, ends, committed=False)
    assert remove_undelivered_plan(volume, "orders", build_marker(0)) == DuePlan(1, None)
    assert OffsetLog(volume).read_newest() == 1


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_plan_stays_when_spark_would_read_a_damaged_entry_without_it(volume: Volume, is_whole: bool) -> None:
    volume.add(1, {0: 20, 1: 5})
    volume.add(2, {0: 30, 1: 5}, committed=False)
    if not is_whole:
        (volume.offset_log / "0").write_text("")
    assert remove_undelivered_plan(volume, "orders", build_marker(1)).offsets == (10 if is_whole else None)
    assert OffsetLog(volume).read_newest() == (1 if is_whole else 2)


def test_without_a_plan_only_the_number_of_the_due_batch_is_told(volume: Volume, tmp_path: Path) -> None:
    assert remove_undelivered_plan(volume, "orders", build_marker(0)) == DuePlan(1, None)
    assert remove_undelivered_plan(Volume(tmp_path, 9), "orders", None) == DuePlan(0, None)
