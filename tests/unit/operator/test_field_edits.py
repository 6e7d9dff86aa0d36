"""An edit of each field of the spec, and what the operator decides about the running driver.

The table `dedup_api.changes` gives the expected decision. `tests/fault_injection/test_fields.py` makes the same edits
on a real API server, a random part of them in each run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from dedup_api.changes import CHANGES, Change
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.decision import Decision, Keep, Refuse, ScaleDownForRestart, Suspend, UpdateSchedule
from dedup_operator.domain.driver_objects import Kind, choose_kind, find_wanted_place
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.validate import ValidJob
from fault_injection.api import Json
from fault_injection.environment import SPEC
from fault_injection.field_values import FIELDS, build_edit, merge, nest
from unit.operator.samples import CLAIM, POD, SET, decide_on, make_children

MEMBERS = {"sink.kafka": "sink", "sink.console": "sink"}
"""Fields that a message names by their parent, because the stored keys depend on which of them is set."""
UNCHANGEABLE = {"onIncompatibleChange"}
"""Fields with only one allowed value."""


@dataclass(frozen=True)
class Edit:
    path: str
    before: Json
    after: Json

    @property
    def same(self) -> bool:
        """The edit writes out a default, or removes it again."""
        return parse(self.before) == parse(self.after)

    def __str__(self) -> str:
        return self.path


def parse(spec: Json) -> DedupJobSpec:
    return DedupJobSpec.model_validate(spec)


def list_edits() -> Iterator[Edit]:
    """For each field: edits from the default through all values and back to the default."""
    for path, values in FIELDS.items():
        base = SPEC if "existing" not in values.other_fields.get("checkpoint", {}) else merge(SPEC, {"checkpoint": None})
        before = base = merge(base, values.other_fields)
        for value in values.valid if CHANGES[path] is not Change.FIXED else ():
            after = merge(base, build_edit(path, value))
            yield Edit(path, before, after)
            before = after
        if values.optional:
            yield Edit(path, before, merge(base, nest(path, None)))
        if CHANGES[path] is Change.FIXED:  # only an object from another CRD can have such an edit
            yield from (Edit(path, base, merge(base, build_edit(path, value))) for value in values.immutable)


EDITS = list(list_edits())


def make_job(spec: Json, generation: int) -> ValidJob:
    return ValidJob(namespace="ns", name="demo", uid="uid", generation=generation, spec=parse(spec))


def build_state(spec: Json, *, has_state: bool, wanted: Json | None = None) -> ObservedState:
    """A driver runs with this spec. `has_state`: it has stored keys. `wanted`: the spec after an edit."""
    place, wanted_place = (find_wanted_place("demo", found) for found in (spec, wanted or spec))
    job = make_job(spec, 1)
    inputs, children = make_children(job)
    name = children.config_map["metadata"]["name"]
    workload = replace(SET, kind=choose_kind(job.spec), applied=job.spec, config_map=name)
    claim = replace(CLAIM, config=inputs.config, has_state=has_state)
    return ObservedState(
        workload=workload,
        pod=POD,
        claim=claim,
        has_service=True,
        config_map_uids=((name, "cm"),),
        claim_was_recorded=True,
        moved_from=place.claim if place != wanted_place else None,
        keys_left_behind=has_state,
    )


def check_decision(edit: Edit, decision: Decision, *, has_state: bool) -> None:
    change, field = CHANGES[edit.path], f"spec.{edit.path}"
    stays = (
        edit.path == "parallelism" and has_state and "parallelism" not in edit.after
    )  # the default is the parallelism of the stored keys
    if edit.path == "suspend" and edit.after.get("suspend"):
        assert decision == Suspend()
    elif edit.same or stays or change in {Change.LIVE, Change.FIXED}:
        assert decision == Keep()
    elif change is Change.STATE and has_state:
        assert isinstance(decision, Refuse) and decision.reason == Reason.CHANGE_BLOCKED
        assert f"spec.{MEMBERS.get(edit.path, edit.path)}" in decision.message
        assert not decision.stop and not decision.resume
    elif change is Change.UNTIL_KEYS and has_state:  # the API server did not know yet that keys are stored
        assert isinstance(decision, Refuse) and decision.reason == Reason.CHANGE_BLOCKED and "spec.checkpoint" in decision.message
    elif change is Change.UNTIL_KEYS:
        assert isinstance(decision, ScaleDownForRestart) and "spec.checkpoint" in decision.message
    elif {choose_kind(parse(spec)) for spec in (edit.before, edit.after)} == {Kind.CRON_JOB}:
        assert isinstance(decision, UpdateSchedule) and field in decision.message
        assert not decision.stop_run, "a run that processes records must be allowed to end"
    else:
        assert isinstance(decision, ScaleDownForRestart) and field in decision.message


@pytest.mark.parametrize("has_state", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_has_the_effect_that_the_table_of_changes_gives(edit: Edit, has_state: bool) -> None:
    observed = build_state(edit.before, has_state=has_state)
    assert decide_on(make_job(edit.before, 1), observed) == (Suspend() if edit.before.get("suspend") else Keep())
    after = build_state(edit.before, has_state=has_state, wanted=edit.after)
    check_decision(edit, decide_on(make_job(edit.after, 2), after), has_state=has_state)


def test_every_field_is_edited() -> None:
    edited = {edit.path for edit in EDITS if not edit.same}
    assert edited == set(CHANGES) - UNCHANGEABLE, (
        f"give {sorted((set(CHANGES) - UNCHANGEABLE) ^ edited)} two different values in FIELDS of tests/fault_injection/field_values.py"
    )
