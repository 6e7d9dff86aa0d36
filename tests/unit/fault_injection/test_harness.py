"""The functions by which `tests/fault_injection` judges a run, tested without a control plane."""

from __future__ import annotations

import pytest

from dedup_api.changes import CHANGES
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG, CHECKPOINT_IDENTITY
from fault_injection.api import Json
from fault_injection.cases import draw_cases, list_cases
from fault_injection.drivers import DriverRun
from fault_injection.faults import SLOW, Fault
from fault_injection.field_values import FIELDS
from fault_injection.proxy import is_unconditional
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


def test_equal_objects_in_two_namespaces_are_equal_after_normalizing() -> None:
    first = normalize(build_objects("fault00001", "0a1b2c3d", "0123456789abcdef", "job-driver-x2x2x"), "fault00001")
    second = normalize(build_objects("fault00002", "99999999", "fedcba9876543210", "job-driver-y3y3y"), "fault00002")
    assert first == second


def test_other_settings_and_a_reference_to_another_object_still_differ_after_normalizing() -> None:
    state = normalize(build_objects("fault00001", "0a1b2c3d", "0123456789abcdef", "job-driver-x2x2x"), "fault00001")
    edited = normalize(build_objects("fault00001", "0a1b2c3d", "0123456789abcdef", "job-driver-x2x2x", watermark="20m"), "fault00001")
    assert state != edited
    wrong_reference = build_objects("fault00001", "0a1b2c3d", "0123456789abcdef", "job-driver-x2x2x")
    wrong_reference["statefulsets/job-driver"]["spec"]["configMap"] = "job-job-ffffffff"
    assert normalize(wrong_reference, "fault00001") != state


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        ("POST", "{}", False),
        ("DELETE", "", True),
        ("DELETE", '{"preconditions": {"uid": "u"}}', False),
        ("PUT", '{"metadata": {"uid": "u"}}', True),
        ("PUT", '{"metadata": {"uid": "u", "resourceVersion": "1"}}', False),
        ("PATCH", '{"spec": {}}', True),
    ],
)
def test_a_write_without_uid_or_version_is_unconditional(method: str, body: str, expected: bool) -> None:
    assert is_unconditional(method, body.encode()) is expected


@pytest.mark.parametrize(
    ("volume", "started", "ended", "overlap"),
    [("a", 3.0, None, False), ("a", 1.5, None, True), ("b", 1.5, None, False)],
)
def test_two_drivers_overlap_only_on_one_volume_at_one_time(volume: str, started: float, ended: float | None, overlap: bool) -> None:
    early = DriverRun("ns", "pod", "a", 1, started=1.0, ended=2.0)
    assert early.overlaps(DriverRun("ns", "pod", volume, 2, started=started, ended=ended)) is overlap
    early.ended = None
    assert early.overlaps(DriverRun("ns", "pod", volume, 2, started=started, ended=ended)) is (volume == "a")


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_contains_every_scenario_and_fault_and_depends_only_on_the_seed(seed: int) -> None:
    baselines = {f"scenario{number}": Outcome(f"scenario{number}", None, writes=["PUT"] * (number + 1)) for number in range(len(SCENARIOS))}
    drawn = draw_cases(baselines, seed)
    assert drawn == draw_cases(baselines, seed)
    assert {case.scenario for case in drawn} == set(baselines)
    assert {case.fault for case in drawn if case.fault not in SLOW} == set(Fault) - SLOW
    assert sum(case.fault in SLOW for case in drawn) == 1
    assert set(drawn) <= set(list_cases(baselines))


def test_every_field_of_the_spec_has_values_for_the_edit_tests() -> None:
    missing, unknown = sorted(CHANGES.keys() - FIELDS.keys()), sorted(FIELDS.keys() - CHANGES.keys())
    assert not missing, f"add {', '.join(missing)} to FIELDS in tests/fault_injection/field_values.py"
    assert not unknown, f"remove {', '.join(unknown)} from FIELDS in tests/fault_injection/field_values.py: the spec has no such field"
