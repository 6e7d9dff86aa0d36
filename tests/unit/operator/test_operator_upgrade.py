"""A new version of the operator does not restart the drivers of the previous version. The next start applies its
changes.

The previous version is the present code. The new version is the same code with other constants, other defaults, other
derived settings and another job image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from dedup_api import names
from dedup_api.job_config import JobConfig, build_job_config
from dedup_api.spec import DedupJobSpec, Source
from dedup_operator.domain import decide as rules
from dedup_operator.domain import driver_settings as inputs
from dedup_operator.domain.annotations import APPLIED_SPEC, CHECKPOINT_BEGUN, CHECKPOINT_CONFIG
from dedup_operator.domain.decision import Decision, Keep, ScaleDownForRestart, Start
from dedup_operator.domain.driver_settings import DriverSettings
from dedup_operator.domain.manifests import Children, JobImage, build_children, pod
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.validate import ValidJob, validate
from unit.operator.samples import observe
from unit.operator.test_observe import JOB, SPEC, make_pod, stored

Json = dict[str, Any]
RUNNING: Json = {
    "phase": "Running",
    "containerStatuses": [{"name": names.CONTAINER, "ready": True, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
}


@dataclass(frozen=True)
class Version:
    change: Callable[[pytest.MonkeyPatch], None]
    find: Callable[[Children], Any]
    expected: Any
    """What `find` finds in the objects of the next start."""
    lacked: str = ""
    """A field of `spec.source` that the previous version did not have."""
    has_state: bool = True
    """Keys are stored."""


def find_pod_spec(children: Children) -> Json:
    spec: Json = children.workload["spec"]["template"]["spec"]
    return spec


def find_probe(children: Children, name: str) -> Json:
    probe: Json = find_pod_spec(children)["containers"][0][name]
    return probe


def find_settings(children: Children) -> Json:
    (text,) = children.config_map["data"].values()
    settings: Json = json.loads(text)
    return settings


def change_grace(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pod, "TERMINATION_GRACE_SECONDS", 600)


def change_startup(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pod, "STARTUP_SECONDS", 900)


def change_probes(patch: pytest.MonkeyPatch) -> None:
    built = pod._build_probe

    def build_probe(path: str, *, period: int, failures: int) -> Json:
        return {**built(path, period=period, failures=failures), "timeoutSeconds": 9}

    patch.setattr(pod, "_build_probe", build_probe)


def change_pod(patch: pytest.MonkeyPatch) -> None:
    built = pod._build_pod_spec

    def build_pod_spec(*arguments: Any) -> Json:
        return {**built(*arguments), "priorityClassName": "streaming"}

    patch.setattr(pod, "_build_pod_spec", build_pod_spec)


def change_settings(**update: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """The new version derives other settings from the same spec."""

    def derive(namespace: str, name: str, spec: DedupJobSpec) -> JobConfig:
        return build_job_config(namespace, name, spec).model_copy(update=update)

    return lambda patch: patch.setattr(inputs, "build_job_config", derive)


def change_default(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Source.model_fields["max_offsets_per_trigger"], "default", 7)
    rebuild_models()


def rebuild_models() -> None:
    """pydantic compiles the defaults into its validators."""
    for model in (Source, DedupJobSpec, JobConfig):
        model.model_rebuild(force=True)


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        yield patched
    rebuild_models()


VERSIONS = {
    "a grace period": Version(change_grace, lambda made: find_pod_spec(made)["terminationGracePeriodSeconds"], 600),
    "time to start": Version(change_startup, lambda made: find_probe(made, "startupProbe")["failureThreshold"], 180),
    "a probe": Version(change_probes, lambda made: find_probe(made, "livenessProbe")["timeoutSeconds"], 9),
    "a field of the pod": Version(change_pod, lambda made: find_pod_spec(made)["priorityClassName"], "streaming"),
    "memory": Version(change_settings(memory_bytes=5), lambda made: find_settings(made)["memoryBytes"], 5),
    "parallelism without stored keys": Version(
        change_settings(parallelism=9), lambda made: find_settings(made)["parallelism"], 9, has_state=False
    ),
    "parallelism with stored keys stays": Version(change_settings(parallelism=9), lambda made: find_settings(made)["parallelism"], 2),
    "a field with a default": Version(
        change_default, lambda made: find_settings(made)["source"]["maxOffsetsPerTrigger"], 7, lacked="maxOffsetsPerTrigger"
    ),
    "a default that the API server has stored stays": Version(
        change_default, lambda made: find_settings(made)["source"]["maxOffsetsPerTrigger"], 200_000
    ),
}


def without(text: str, field: str) -> str:
    document = json.loads(text)
    document["source"].pop(field, None)
    return json.dumps(document)


def build_job(lacked: str) -> Json:
    """The DedupJob as the API server stores it, with the defaults of the CRD."""
    spec = DedupJobSpec.model_validate(SPEC).to_json_dict()
    spec["source"].pop(lacked, None)
    return {**JOB, "spec": spec}


def decide(snapshot: Snapshot, image: str) -> tuple[Decision, Children]:
    job, observed = validate(snapshot.job), observe(snapshot)
    assert isinstance(job, ValidJob)
    desired: DriverSettings = inputs.build_driver_settings(job.namespace, job.name, job.spec, observed.pinned_config)
    children = build_children(job, desired, JobImage(image))
    return rules.decide(job, observed, desired, children), children


def start_driver(version: Version) -> Snapshot:
    """The objects after the previous version has started the driver."""
    job = build_job(version.lacked)
    _, children = decide(Snapshot(job=job), "job:1")
    claim, config_map, workload = (
        stored(body, uid) for body, uid in ((children.claim, "c1"), (children.config_map, "m1"), (children.workload, "s1"))
    )
    claim["status"] = {"phase": "Bound"}
    if version.has_state:
        claim["metadata"]["annotations"][CHECKPOINT_BEGUN] = "true"
    for texts in (claim["metadata"]["annotations"], config_map["data"], workload["metadata"]["annotations"]):
        for key in texts.keys() & {CHECKPOINT_CONFIG, APPLIED_SPEC, *config_map["data"]}:
            texts[key] = without(texts[key], version.lacked)
    workload["metadata"]["generation"] = 1
    workload["status"] = {"observedGeneration": 1}
    service = stored(children.service, "v1")
    return Snapshot(
        job=job,
        stateful_set=workload,
        pods=(make_pod(status=RUNNING),),
        claim=claim,
        service=service,
        config_maps=(config_map,),
    )


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS.keys())
def test_an_upgrade_restarts_no_driver_and_its_changes_come_with_the_next_start(version: Version, patch: pytest.MonkeyPatch) -> None:
    running = start_driver(version)
    assert decide(running, "job:1")[0] == Keep()
    version.change(patch)
    assert decide(running, "job:2")[0] == Keep(), (
        "An upgrade would restart all running drivers. Decide about an edit only from settings that the present code derives "
        "from both specs (list_settings_changes in domain/driver_settings.py), never from manifests or rendered texts."
    )
    assert running.stateful_set is not None
    stopped = {**running.stateful_set, "spec": {**running.stateful_set["spec"], "replicas": 0}}
    decision, made = decide(replace(running, stateful_set=stopped, pods=()), "job:2")
    assert decision == Start(first=False)
    assert find_pod_spec(made)["containers"][0]["image"] == "job:2"
    assert version.find(made) == version.expected


def test_an_edit_after_an_upgrade_restarts_the_driver(patch: pytest.MonkeyPatch) -> None:
    version = VERSIONS["a grace period"]
    running = start_driver(version)
    version.change(patch)
    edited = {**running.job, "spec": {**running.job["spec"], "watermark": "20m"}}
    decision, _ = decide(replace(running, job=edited), "job:2")
    assert isinstance(decision, ScaleDownForRestart) and "to apply spec.watermark." in decision.message
