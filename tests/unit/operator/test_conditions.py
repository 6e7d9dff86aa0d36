"""The conditions of a DedupJob fit together, and their transition times change only with their status."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.driver_status import DriverWarning
from dedup_api.status import Condition, ConditionStatus, DedupJobStatus
from dedup_operator.domain.conditions import build_conditions, merge_conditions
from dedup_operator.domain.decision import Decision, Keep
from dedup_operator.domain.diagnose import diagnose
from dedup_operator.domain.observe.pod import DriverUnreachable
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.status import LastProgressWrite, build_status, choose_status, parse_status
from simulation.condition_law import find_contradiction
from unit.operator.samples import RUNNING, WORKING
from unit.operator.test_diagnose import FRESH, NOW, TABLE, make_input


@pytest.mark.parametrize(("observed", "decision"), [row[1:3] for row in TABLE], ids=[row[0] for row in TABLE])
def test_conditions_are_consistent_and_a_second_reconciliation_writes_nothing(observed: ObservedState, decision: Decision | None) -> None:
    given = make_input(observed, decision)
    verdict = diagnose(given)
    conditions = build_conditions(given, verdict, 7)
    kinds = [condition.type for condition in conditions]
    assert kinds[0] == "Ready" and not {"Reconciling", "Stalled"} <= set(kinds)
    assert ("Reconciling" in kinds) == (verdict.status is ConditionStatus.UNKNOWN)
    assert {condition.observed_generation for condition in conditions} == {7}
    assert not find_contradiction(build_status(FRESH, observed, 7, conditions, NOW).to_json_dict())
    before = build_status(FRESH, observed, 7, conditions, NOW)
    later = replace(given, before=before, now=NOW + timedelta(seconds=1))
    again = build_status(before, observed, 7, build_conditions(later, diagnose(later), 7), later.now)
    assert choose_status(before, again, LastProgressWrite(), later.now) is None
    assert parse_status({"status": before.to_json_dict()}) == before


conditions = st.builds(
    Condition,
    type=st.sampled_from(["Ready", "Stalled", "CheckpointReady"]),
    status=st.sampled_from(list(ConditionStatus)),
    reason=st.sampled_from(["A", "B"]),
    message=st.sampled_from(["x", "y"]),
    last_transition_time=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]),
    observed_generation=st.integers(1, 3),
)
lists = st.lists(conditions, max_size=3, unique_by=lambda condition: condition.type)


@given(lists, lists)
def test_a_transition_time_changes_only_with_the_status(before: list[Condition], after: list[Condition]) -> None:
    merged = merge_conditions(before, after)
    assert merge_conditions(merged, after) == merged
    assert [(c.type, c.status, c.reason, c.message) for c in merged] == [(c.type, c.status, c.reason, c.message) for c in after]
    known = {condition.type: condition for condition in before}
    for condition, fresh in zip(merged, after, strict=True):
        old = known.get(condition.type)
        unchanged = old is not None and old.status == condition.status
        assert condition.last_transition_time == (old if unchanged and old else fresh).last_transition_time


WARNING = DriverWarning(reason="EventTimesImplausible", message="Most event times are in 1970.")


def find_warning(observed: ObservedState, before: DedupJobStatus = FRESH) -> Condition | None:
    given = replace(make_input(observed, Keep()), before=before)
    return next((found for found in build_conditions(given, diagnose(given), 7) if found.type == "Warning"), None)


def test_a_warning_of_the_driver_is_a_condition_beside_ready() -> None:
    working = replace(RUNNING, driver_status=WORKING.model_copy(update={"warnings": [WARNING]}))
    found = find_warning(working)
    assert found is not None and (found.status, found.reason, found.message) == (ConditionStatus.TRUE, WARNING.reason, WARNING.message)
    assert find_warning(replace(RUNNING, driver_status=WORKING)) is None
    before = FRESH.model_copy(update={"conditions": [found]})
    silent = replace(RUNNING, driver_status=DriverUnreachable(NOW, "no answer"))
    kept = find_warning(silent, before)
    assert kept is not None and kept.message == WARNING.message, "while the driver does not answer, its last warning stays"
    assert find_warning(silent) is None
    assert find_warning(replace(RUNNING, driver_status=WORKING), before) is None
