"""After a rollback the operator reads what a newer operator and a newer job image have written: reasons, phases and fields
that it does not know."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dedup_api.driver_status import DriverStatus, Phase
from dedup_api.reasons import EXPLANATIONS, Reason, find_explanation
from dedup_api.status import ConditionStatus
from dedup_operator.domain.annotations import GIVEN_UP, parse_given_up
from dedup_operator.domain.conditions import build_conditions
from dedup_operator.domain.decision import GiveUp, Keep, Start
from dedup_operator.domain.diagnose import diagnose
from dedup_operator.domain.observe.pod import observe_pod
from dedup_operator.domain.observe.workload import observe_workload
from dedup_operator.domain.status import parse_status
from simulation.condition_law import find_contradiction
from unit.operator.samples import CHILDREN, JOB, STOPPED, decide_on, make_job
from unit.operator.test_diagnose import RUNNING, make_input

UNKNOWN = "FromTheFuture"
ANSWER = {"phase": "Dreaming", "blockedBy": {"reason": UNKNOWN, "message": "the stars are wrong", "more": 1}, "new": {"a": [1]}}
GIVEN_UP_LATER = json.dumps({"generation": 1, "reason": UNKNOWN, "message": "no", "exit": {
    "exitCode": 99, "reason": UNKNOWN, "message": "no", "finishedAt": "2026-01-01T00:00:00Z", "new": True}})  # fmt: skip
RAW = {**CHILDREN.workload, "metadata": {**CHILDREN.workload["metadata"], "uid": "set"}}


def test_a_job_that_a_newer_operator_gave_up_stays_given_up() -> None:
    annotations = {**RAW["metadata"]["annotations"], GIVEN_UP: GIVEN_UP_LATER}
    raw = {**RAW, "metadata": {**RAW["metadata"], "annotations": annotations}, "spec": {**RAW["spec"], "replicas": 0}}
    workload = observe_workload(raw)
    decision = decide_on(JOB, replace(STOPPED, workload=workload))
    assert isinstance(decision, GiveUp) and decision.why.reason == UNKNOWN
    assert json.loads(decision.why.render())["reason"] == UNKNOWN, "the annotation keeps the reason"
    verdict = diagnose(make_input(replace(STOPPED, workload=workload), decision))
    assert (verdict.status, verdict.reason, verdict.stalled) == (ConditionStatus.FALSE, UNKNOWN, True)
    assert isinstance(decide_on(make_job(2), replace(STOPPED, workload=workload)), Start)


def test_a_known_phase_is_a_phase_in_both_ways_of_reading() -> None:
    assert DriverStatus.model_validate(ANSWER).phase is Phase.STARTING, "a phase that nobody knows claims nothing"
    for driver_status in (DriverStatus.model_validate({"phase": "Running"}), DriverStatus.model_validate_json('{"phase": "Running"}')):
        assert driver_status.phase is Phase.RUNNING


def test_an_answer_with_unknown_words_is_an_answer() -> None:
    driver_status = DriverStatus.model_validate(ANSWER)
    given = make_input(replace(RUNNING, driver_status=driver_status), Keep())
    verdict = diagnose(given)
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, UNKNOWN) and "the stars are wrong" in verdict.message
    conditions = [condition.to_json_dict() for condition in build_conditions(given, verdict, 1)]
    assert not find_contradiction({"conditions": conditions})


def test_a_termination_message_with_an_unknown_reason_keeps_it() -> None:
    ended = {"exitCode": 99, "message": json.dumps({"reason": UNKNOWN, "message": "why"}), "finishedAt": "2026-01-01T00:00:00Z"}
    pod = {
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"containerStatuses": [{"name": "driver", "state": {"terminated": ended}}]},
    }
    (exit,) = observe_pod(pod).exits
    assert (exit.reason, exit.message) == (UNKNOWN, "why")


def test_a_status_with_unknown_reasons_and_fields_is_read() -> None:
    condition = {"type": "Ready", "status": "False", "reason": UNKNOWN, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [{**condition, "observedGeneration": 3, "new": 1}]
    status = parse_status({"status": {"observedGeneration": 3, "conditions": conditions, "progress": {"new": 1, "batch": 7}}})
    assert status.observed_generation == 3 and status.conditions[0].reason == UNKNOWN
    assert status.progress is not None and status.progress.batch == 7


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"generation": "x", "reason": "a", "message": "b"}', '{"generation": 1}'])
def test_an_unreadable_annotation_is_no_reason_to_give_up(text: str) -> None:
    assert parse_given_up(text) is None


def test_every_reason_has_an_explanation_and_unknown_ones_name_the_page() -> None:
    assert all(find_explanation(reason) is EXPLANATIONS[reason] for reason in Reason)
    assert UNKNOWN in find_explanation(UNKNOWN).remedy and "docs/reasons.md" in find_explanation(UNKNOWN).remedy
