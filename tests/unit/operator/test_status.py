"""The status of a DedupJob: what it contains, when the operator writes it, and which events it causes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.reasons import Reason
from dedup_api.status import CheckpointState, ConditionStatus, DedupJobStatus, DriverExit, DriverState, Progress
from dedup_operator.domain.annotations import GivenUp, parse_given_up
from dedup_operator.domain.conditions import build_conditions
from dedup_operator.domain.event_notes import list_event_notes
from dedup_operator.domain.exits import merge_exits
from dedup_operator.domain.status import LastProgressWrite, build_status, choose_status
from dedup_operator.domain.times import render_time
from dedup_operator.domain.verdict import Verdict
from unit.operator.samples import CLAIM
from unit.operator.test_diagnose import FRESH, NOW, RUNNING, answered, make_exit, make_input

exits = st.lists(st.builds(make_exit, st.integers(0, 9)), max_size=6)


@given(exits, exits)
def test_the_status_keeps_the_last_five_exits_newest_first_without_repetition(known: list[DriverExit], seen: list[DriverExit]) -> None:
    merged = merge_exits(known, seen)
    times = [exit.finished_at for exit in merged]
    assert times == sorted(set(times), reverse=True) and len(times) <= 5
    assert merge_exits(merged, seen) == merged


def make_status(**progress: Any) -> DedupJobStatus:
    return DedupJobStatus(observed_generation=1, driver=DriverState(), progress=Progress(**progress))


def test_status_progress_alone_is_written_every_ten_seconds() -> None:
    before, after = make_status(batch=1, rows_in=1), make_status(batch=2, rows_in=2)
    assert choose_status(before, after, LastProgressWrite(NOW - timedelta(seconds=9)), NOW) is None
    assert choose_status(before, after, LastProgressWrite(NOW - timedelta(seconds=10)), NOW) == after
    assert choose_status(before, after, LastProgressWrite(), NOW) == after
    moved = after.model_copy(update={"observed_generation": 2})
    assert choose_status(before, moved, LastProgressWrite(NOW), NOW) == moved
    assert choose_status(make_status(), before, LastProgressWrite(NOW), NOW) == before, "the operator reports the first batch at once"


def test_a_driver_that_is_reading_its_checkpoint_does_not_erase_status_progress() -> None:
    before = make_status(batch=9, rows_in=100)
    observed = answered(progress=Progress(), committed_in_this_run=False)
    assert build_status(before, observed, 1, [], NOW).progress == before.progress


@pytest.mark.parametrize(
    ("known", "kept"),
    [
        (CheckpointState(claim="shared", folder="demo", attempt=3, keys_stored=True), (3, True)),
        (CheckpointState(claim="shared", attempt=3), (3, None)),  # version 0.1.0 wrote no folder
        (CheckpointState(claim="shared", folder="other", attempt=3, keys_stored=True), (None, None)),
        (CheckpointState(claim="demo-checkpoint", attempt=3, keys_stored=True), (None, None)),
    ],
)
def test_what_is_known_of_one_checkpoint_does_not_count_for_another(known: CheckpointState, kept: tuple[int | None, bool | None]) -> None:
    claim = replace(CLAIM, name="shared", folder="demo", has_state=False)
    before = DedupJobStatus(observed_generation=1, checkpoint=known)
    found = build_status(before, replace(RUNNING, claim=claim, driver_status=None), 1, [], NOW).checkpoint
    assert found is not None and (found.attempt, found.keys_stored) == kept


def test_there_is_one_event_for_each_transition_and_each_exit() -> None:
    def status(verdict: Verdict, ends: list[DriverExit]) -> DedupJobStatus:
        found = build_conditions(make_input(RUNNING), verdict, 1)
        return DedupJobStatus(observed_generation=1, conditions=found, driver=DriverState(last_exits=ends))

    running = status(Verdict(ConditionStatus.TRUE, Reason.RUNNING, "fine"), [])
    failed = status(Verdict(ConditionStatus.FALSE, Reason.DRIVER_FAILED, "oops"), [make_exit(1), make_exit(2)])
    assert [(note.reason, note.warning) for note in list_event_notes(FRESH, running)] == [("Running", False)]
    assert list_event_notes(running, running) == []
    assert [note.reason for note in list_event_notes(running, failed)] == ["DriverFailed"] * 3
    assert list_event_notes(failed, failed) == []


def test_the_annotation_given_up_can_be_read_back_and_may_be_unreadable() -> None:
    kept = GivenUp(3, Reason.CONFIGURATION_REFUSED, "no")
    assert parse_given_up(kept.render()) == kept
    for text in (None, "", "nonsense", "{}", '{"generation": 1, "reason": "Unheard"}', "[]"):
        assert parse_given_up(text) is None


def test_the_first_batch_is_recorded_only_when_the_settings_of_its_keys_can_be() -> None:
    """Otherwise a later reconciliation would take the settings of an edit for those of the keys."""
    first = answered(progress=Progress(batch=0), committed_in_this_run=True)
    assert build_status(FRESH, first, 1, [], NOW).progress == Progress(batch=0, observed_at=render_time(NOW))
    blocked = replace(first, terminating=("Pod demo-driver-1",))
    assert build_status(FRESH, blocked, 1, [], NOW).progress is None
    assert blocked.claim is not None
    recorded = replace(blocked, claim=replace(blocked.claim, state_recorded=True))
    assert build_status(FRESH, recorded, 1, [], NOW).progress is not None


def test_observed_at_changes_only_with_the_numbers() -> None:
    def build(before: DedupJobStatus, rows: int, seconds: int) -> DedupJobStatus:
        observed = answered(progress=Progress(batch=1, rows_in=rows), committed_in_this_run=True)
        return build_status(before, observed, 1, [], NOW + timedelta(seconds=seconds))

    first = build(FRESH, 1, 0)
    assert first.progress is not None and first.progress.observed_at == render_time(NOW)
    assert build(first, 1, 30).progress == first.progress, "at rest nothing is written"
    moved = build(first, 2, 40).progress
    assert moved is not None and moved.observed_at == render_time(NOW + timedelta(seconds=40))
    old = first.model_copy(update={"progress": Progress(batch=1, rows_in=1)})
    assert build(old, 1, 50).progress == old.progress, "the status of an earlier version stays as it is"
