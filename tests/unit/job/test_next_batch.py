"""The batch without data that the driver plans before Spark starts, and the limit that holds records back."""

from __future__ import annotations

import json

from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.next_batch import plan_expiry_batch
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.stream.read_limit import ReadLimit
from unit.job.spark_files import Volume

NOW = 1_700_000_000_000


def test_the_planned_batch_reads_nothing_and_has_the_watermark(volume: Volume) -> None:
    assert plan_expiry_batch(volume, NOW - 1, NOW) == 1
    offsets = OffsetLog(volume)
    plan = offsets.read_plan(1, "orders")
    assert (plan.watermark, plan.time, plan.ends) == (NOW - 1, NOW, offsets.read_end_offsets(0, "orders"))
    assert json.loads(offsets.read_entry(1).split("\n")[1])["conf"] == {"spark.sql.shuffle.partitions": "3"}
    assert not CommitLog(volume).is_committed(1)


def test_its_watermark_is_at_least_the_committed_one(volume: Volume) -> None:
    assert plan_expiry_batch(volume, 10, 5) == 1
    plan = OffsetLog(volume).read_plan(1, "orders")
    assert (plan.watermark, plan.time) == (5000, 5)


def test_a_batch_that_is_planned_already_stays(volume: Volume) -> None:
    volume.add(1, {0: 20}, committed=False)
    before = OffsetLog(volume).read_entry(1)
    assert plan_expiry_batch(volume, NOW, NOW) is None
    assert OffsetLog(volume).read_entry(1) == before and OffsetLog(volume).read_newest() == 1


def test_a_new_checkpoint_gets_no_plan(volume: Volume) -> None:
    assert plan_expiry_batch(CheckpointLayout(volume.root, volume.generation + 1), NOW, NOW) is None


def test_the_limit_is_held_at_zero_for_a_while() -> None:
    applied: list[int] = []

    def apply(offsets: int) -> bool:
        applied.append(offsets)
        return True

    limit = ReadLimit(100, apply)
    limit.release()
    limit.hold()
    limit.change(50)
    assert applied == [0], "a change must not end it"
    limit.release()
    limit.release()
    limit.change(25)
    assert applied == [0, 50, 25] and limit.offsets == 25


def test_a_limit_that_cannot_be_applied_is_not_held() -> None:
    limit = ReadLimit(100, lambda offsets: False)
    limit.hold()
    limit.release()
    assert limit.offsets == 100
