"""An edit of each field of the spec, and what is decided about the driver that runs: the table of `dedup_api.changes`, row by row.

`tests/fault_injection/test_fields.py` does the same edits to whole jobs on a real API server, a drawn part of them in each run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from dedup_api.changes import CHANGES, Change
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.decision import Decision, Keep, Refuse, ScaleDownForRestart, Suspend, UpdateSchedule
from dedup_operator.domain.driver_objects import Kind, choose_kind
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.validate import ValidJob
from fault_injection.api import Json
from fault_injection.environment import SPEC
from fault_injection.field_values import FIELDS, build_edit, merge, nest
from unit.operator.test_decide import CLAIM, POD, SET, ask, make_children

MEMBERS = {"sink.kafka": "sink", "sink.console": "sink"}
"""What stored keys depend on is which of them there is, so that is what a message names."""
UNCHANGEABLE = {"onIncompatibleChange"}
"""Has one value."""


@dataclass(frozen=True)
class Case:
    path: str
    before: Json
    after: Json

    @property
    def same(self) -> bool:
        """The edit writes out what was there by default, or leaves it out again."""
        return parse(self.before) == parse(self.after)

    def __str__(self) -> str:
        return self.path


def parse(spec: Json) -> DedupJobSpec:
    return DedupJobSpec.model_validate(spec)


def list_cases() -> Iterator[Case]:
    """One edit after the other, from the default on and back to it."""
    for path, values in FIELDS.items():
        base = SPEC if "existing" not in values.other_fields.get("checkpoint", {}) else merge(SPEC, {"checkpoint": None})
        before = base = merge(base, values.other_fields)
        for value in values.valid if CHANGES[path] is not Change.FIXED else ():
            after = merge(base, build_edit(path, value))
            yield Case(path, before, after)
            before = after
        if values.optional:
            yield Case(path, before, merge(base, nest(path, None)))
        if CHANGES[path] is Change.FIXED:  # let in by another CRD
            yield from (Case(path, base, merge(base, build_edit(path, value))) for value in values.immutable)


CASES = list(list_cases())


def make_job(spec: Json, generation: int) -> ValidJob:
    return ValidJob(namespace="ns", name="demo", uid="uid", generation=generation, spec=parse(spec))


def build_state(spec: Json, *, begun: bool) -> ObservedState:
    """A driver of this spec is at work; `begun`: on stored keys."""
    job = make_job(spec, 1)
    inputs, children = make_children(job)
    name = children.config_map["metadata"]["name"]
    workload = replace(SET, kind=choose_kind(job.spec), applied=job.spec, config_map=name)
    claim = replace(CLAIM, config=inputs.config, has_state=begun)
    return ObservedState(
        workload=workload, pod=POD, claim=claim, has_service=True, config_map_uids=((name, "cm"),), claim_was_recorded=True
    )


def check_decision(case: Case, decision: Decision, *, begun: bool) -> None:
    change, field = CHANGES[case.path], f"spec.{case.path}"
    stays = case.path == "parallelism" and begun and "parallelism" not in case.after  # by default it is that of the keys
    if case.path == "suspend" and case.after.get("suspend"):
        assert decision == Suspend()
    elif case.same or stays or change in {Change.LIVE, Change.FIXED}:
        assert decision == Keep()
    elif change is Change.STATE and begun:
        assert isinstance(decision, Refuse) and decision.reason is Reason.CHANGE_BLOCKED
        assert f"spec.{MEMBERS.get(case.path, case.path)}" in decision.message
        assert not decision.stop and not decision.resume
    elif {choose_kind(parse(spec)) for spec in (case.before, case.after)} == {Kind.CRON_JOB}:
        assert isinstance(decision, UpdateSchedule) and field in decision.message
        assert not decision.stop_run, "the run that is at work is left to end"
    else:
        assert isinstance(decision, ScaleDownForRestart) and field in decision.message


@pytest.mark.parametrize("begun", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_edit_does_what_the_table_says(case: Case, begun: bool) -> None:
    observed = build_state(case.before, begun=begun)
    assert ask(make_job(case.before, 1), observed) == (Suspend() if case.before.get("suspend") else Keep())
    check_decision(case, ask(make_job(case.after, 2), observed), begun=begun)


def test_every_field_is_really_changed() -> None:
    assert {case.path for case in CASES if not case.same} == set(CHANGES) - UNCHANGEABLE
