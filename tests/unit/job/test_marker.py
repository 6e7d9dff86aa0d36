"""What a marker says about a batch, for the sink and for recovery."""

import pytest

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.last_delivered import NOTHING_DELIVERED, LastDelivered
from dedup_job.errors import JobError
from dedup_job.sink.marker import Marker, Step, decide_step


def build_marker(batch: int, entry: str) -> Marker:
    return Marker(batch=batch, entry=entry, attempt=1, rows=1)


@pytest.mark.parametrize(
    ("marker", "step"),
    [((6, "old"), Step.DELIVER), ((7, "due"), Step.SKIP), ((7, "other"), None), ((5, "due"), None), ((8, "due"), None), ((-1, ""), None)],
)
def test_only_the_marker_of_the_batch_or_of_the_batch_before_lets_a_batch_pass(marker: tuple[int, str], step: Step | None) -> None:
    found = build_marker(*marker)
    if step is not None:
        assert decide_step(found, 7, "due") is step
    else:
        with pytest.raises(JobError) as raised:
            decide_step(found, 7, "due")
        assert raised.value.code is ExitCode.SINK_PROGRESS_LOST


@pytest.mark.parametrize(
    ("marker", "batch", "entry", "past", "again"),
    [
        ((7, "entry"), 6, None, True, False),
        ((7, "entry"), 7, "entry", False, True),
        ((7, "entry"), 8, None, False, True),
        ((7, ""), 7, None, False, False),  # the first marker: batch 7 was written without a transaction
        ((NOTHING_DELIVERED, ""), NOTHING_DELIVERED, None, False, False),
        ((NOTHING_DELIVERED, ""), 0, None, False, True),
    ],
)
def test_recovery_learns_from_the_marker(marker: tuple[int, str], batch: int, entry: str | None, past: bool, again: bool) -> None:
    found: LastDelivered = build_marker(*marker)
    assert (found.get_entry(batch), found.is_past(batch), found.may_run_again(batch)) == (entry, past, again)


def test_the_record_in_the_progress_topic_keeps_its_form() -> None:
    marker = Marker(batch=3, entry="v1\n{}\n{}", attempt=2, rows=9)
    assert marker.model_dump_json(by_alias=True) == '{"batch":3,"entry":"v1\\n{}\\n{}","attempt":2,"rows":9}'
