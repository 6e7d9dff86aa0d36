"""What `tests/fault_injection` judges by, without a control plane."""

from __future__ import annotations

import pytest

from dedup_api.changes import CHANGES
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG, CHECKPOINT_IDENTITY
from fault_injection.api import Json
from fault_injection.drivers import Run
from fault_injection.faults import SLOW, Fault
from fault_injection.field_values import FIELDS
from fault_injection.matrix import draw_cases, list_cases
from fault_injection.proxy import is_vague
from fault_injection.runs import Outcome
from fault_injection.scenarios import SCENARIOS
from fault_injection.state import normalize


def build_objects(namespace: str, digest: str, identity: str, pod: str, watermark: str = "10m") -> Json:
    owner = {"kind": "Job", "uid": f"uid-of-{pod}"}
    config = f'{{"namespace": "{namespace}", "watermark": "{watermark}"}}'
    return {
        "configmaps/job-job": {"metadata": {"name": f"job-job-{digest}", "uid": digest}, "data": {"job.json": config}},
        "persistentvolumeclaims/job-checkpoint": {"metadata": {"annotations": {CHECKPOINT_CONFIG: config, CHECKPOINT_IDENTITY: identity}}},
        f"pods/{pod}": {"metadata": {"name": pod, "generateName": "job-driver-", "ownerReferences": [owner]}},
        "statefulsets/job-driver": {"metadata": {}, "spec": {"configMap": f"job-job-{digest}"}},
        "dedupjobs/job": {"metadata": {"namespace": namespace}, "status": {"driver": {"pod": pod}, "checkpoint": {"identity": identity}}},
    }


def test_states_of_two_namespaces_are_equal_when_the_same_was_done() -> None:
    first = normalize(build_objects("plane00001", "0a1b2c3d", "0123456789abcdef", "job-driver-x2x2x"), "plane00001")
    second = normalize(build_objects("plane00002", "99999999", "fedcba9876543210", "job-driver-y3y3y"), "plane00002")
    assert first == second


def test_states_differ_with_the_settings_and_with_a_name_that_points_elsewhere() -> None:
    state = normalize(build_objects("plane00001", "0a1b2c3d", "0123456789abcdef", "job-driver-x2x2x"), "plane00001")
    edited = normalize(build_objects("plane00001", "0a1b2c3d", "0123456789abcdef", "job-driver-x2x2x", watermark="20m"), "plane00001")
    assert state != edited
    torn = build_objects("plane00001", "0a1b2c3d", "0123456789abcdef", "job-driver-x2x2x")
    torn["statefulsets/job-driver"]["spec"]["configMap"] = "job-job-ffffffff"
    assert normalize(torn, "plane00001") != state


@pytest.mark.parametrize(
    ("method", "body", "vague"),
    [
        ("POST", "{}", False),
        ("DELETE", "", True),
        ("DELETE", '{"preconditions": {"uid": "u"}}', False),
        ("PUT", '{"metadata": {"uid": "u"}}', True),
        ("PUT", '{"metadata": {"uid": "u", "resourceVersion": "1"}}', False),
        ("PATCH", '{"spec": {}}', True),
    ],
)
def test_a_write_that_could_hit_another_object_is_vague(method: str, body: str, vague: bool) -> None:
    assert is_vague(method, body.encode()) is vague


@pytest.mark.parametrize(
    ("volume", "began", "ended", "overlap"),
    [("a", 3.0, None, False), ("a", 1.5, None, True), ("b", 1.5, None, False)],
)
def test_two_drivers_overlap_only_on_one_volume_at_one_time(volume: str, began: float, ended: float | None, overlap: bool) -> None:
    early = Run("ns", "pod", "a", 1, began=1.0, ended=2.0)
    assert early.overlaps(Run("ns", "pod", volume, 2, began=began, ended=ended)) is overlap
    early.ended = None
    assert early.overlaps(Run("ns", "pod", volume, 2, began=began, ended=ended)) is (volume == "a")


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_has_every_scenario_and_every_fault_and_is_the_same_again(seed: int) -> None:
    rehearsals = {
        f"scenario{number}": Outcome(f"scenario{number}", None, writes=["PUT"] * (number + 1)) for number in range(len(SCENARIOS))
    }
    drawn = draw_cases(rehearsals, seed)
    assert drawn == draw_cases(rehearsals, seed)
    assert {case.scenario for case in drawn} == set(rehearsals)
    assert {case.fault for case in drawn if case.fault not in SLOW} == set(Fault) - SLOW
    assert sum(case.fault in SLOW for case in drawn) == 1
    assert set(drawn) <= set(list_cases(rehearsals))


def test_every_field_of_the_spec_has_values_to_be_edited_to() -> None:
    assert sorted(FIELDS) == sorted(CHANGES)
