"""From raw objects to the observed state: who owns an object, and what a pod says about its driver."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dedup_api.driver_status import DriverStatus, Phase
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import Progress
from dedup_operator.domain.annotations import CHECKPOINT_BEGUN
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.manifests import JobImage, build_children
from dedup_operator.domain.observe.pod import DriverUnreachable, is_permanent, observe_pod, remove_node_counts
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.times import parse_time
from dedup_operator.domain.validate import ValidJob
from unit.operator.samples import observe

SPEC: dict[str, Any] = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "ts"},
    "watermark": "10m",
    "sink": {"console": {}},
}
JOB = {"metadata": {"namespace": "ns", "name": "demo", "uid": "u1", "generation": 1}, "spec": SPEC}
VALID = ValidJob(namespace="ns", name="demo", uid="u1", generation=1, spec=DedupJobSpec.model_validate(SPEC))
CHILDREN = build_children(VALID, build_driver_settings("ns", "demo", VALID.spec, None), JobImage("job:1"))


def stored(body: dict[str, Any] | None, uid: str, **metadata: Any) -> dict[str, Any]:
    assert body is not None
    copy: dict[str, Any] = json.loads(json.dumps(body))
    copy["metadata"].update(uid=uid, resourceVersion="1", creationTimestamp="2026-01-01T00:00:00Z", **metadata)
    return copy


def owner(uid: str, kind: str = "DedupJob", name: str = "demo") -> list[dict[str, Any]]:
    return [{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": uid, "controller": True}]


SET = stored(CHILDREN.workload, "s1")
POD_OWNERS = owner("s1", "StatefulSet", "demo-driver")
EARLIER_OWNERS = owner("earlier", "StatefulSet", "demo-driver")


def make_pod(owners: list[dict[str, Any]] = POD_OWNERS, status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    base = {"name": "demo-driver-0", "uid": "p1", "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": owners}
    return {"kind": "Pod", "metadata": {**base, **metadata}, "status": status or {}}


def test_all_objects_of_the_job_are_observed() -> None:
    snapshot = Snapshot(
        job=JOB,
        stateful_set=SET,
        pods=(make_pod(),),
        claim=stored(CHILDREN.claim, "c1"),
        service=stored(CHILDREN.service, "v1"),
        config_maps=(stored(CHILDREN.config_map, "m1"),),
    )
    observed = observe(snapshot)
    assert (
        observed.workload is not None
        and observed.workload.applied == VALID.spec
        and observed.workload.replicas == 1
        and observed.workload.image == "job:1"
    )
    assert observed.claim is not None and observed.claim.config is not None and observed.claim.config.parallelism == 2
    assert observed.pod is not None and observed.has_service and observed.config_maps == (CHILDREN.config_map["metadata"]["name"],)
    assert not observed.conflicting_objects and not observed.terminating


@pytest.mark.parametrize(
    ("changes", "conflicting", "terminating"),
    [
        ({"stateful_set": stored(CHILDREN.workload, "s2", ownerReferences=[])}, "StatefulSet", None),
        ({"stateful_set": stored(CHILDREN.workload, "s2", ownerReferences=owner("u0"))}, None, "StatefulSet"),
        ({"stateful_set": stored(CHILDREN.workload, "s2", ownerReferences=owner("u9", "Other", "x"))}, "StatefulSet", None),
        ({"stateful_set": stored(CHILDREN.workload, "s1", deletionTimestamp="2026-01-01T00:00:00Z")}, None, "StatefulSet"),
        ({"service": stored(CHILDREN.service, "v2", ownerReferences=[])}, "Service", None),
        ({"pods": (make_pod([]),)}, "Pod", None),
        ({"pods": (make_pod(owner("s0", "StatefulSet", "demo-driver")),)}, None, "Pod"),
        ({"pods": (make_pod([], deletionTimestamp="2026-01-01T00:00:00Z"),)}, None, "Pod"),
        ({"claim": stored(CHILDREN.claim, "c2", labels={})}, "PersistentVolumeClaim", None),
        ({"claim": stored(CHILDREN.claim, "c2", annotations={})}, "PersistentVolumeClaim", None),
        ({"claim": stored(CHILDREN.claim, "c2", ownerReferences=owner("u0"))}, None, "PersistentVolumeClaim"),
        ({"claim": stored(CHILDREN.claim, "c2", deletionTimestamp="2026-01-01T00:00:00Z")}, None, "PersistentVolumeClaim"),
        ({"claim": stored(CHILDREN.claim, "c2", ownerReferences=owner("u7", "Backup", "b"))}, "PersistentVolumeClaim", None),
    ],
)
def test_objects_of_others_are_never_used(changes: dict[str, Any], conflicting: str | None, terminating: str | None) -> None:
    observed = observe(Snapshot(job=JOB, **changes))
    assert (observed.workload, observed.claim, observed.pod, observed.has_service) == (None, None, None, False)
    assert [item.split()[0] for item in observed.conflicting_objects] == ([conflicting] if conflicting else [])
    assert [item.split()[0] for item in observed.terminating] == ([terminating] if terminating else [])


def test_a_claim_without_annotation_belongs_to_the_settings_of_the_driver() -> None:
    claim = stored(CHILDREN.claim, "c1", annotations={})
    observed = observe(Snapshot(job=JOB, stateful_set=SET, claim=claim, config_maps=(stored(CHILDREN.config_map, "m1"),)))
    assert observed.claim is not None and not observed.claim.annotated
    assert observed.claim.config is not None and observed.claim.config.source.topic == "in"


@pytest.mark.parametrize(
    ("pod", "driver_status", "progress", "has_state", "state_unknown"),
    [
        (make_pod(), DriverStatus(phase=Phase.WAITING), {}, False, False),
        (make_pod(), DriverStatus(phase=Phase.RUNNING, progress=Progress(batch=9)), {}, True, False),
        (make_pod(), DriverStatus(phase=Phase.STARTING), {"batch": 9}, True, False),
        (make_pod(), DriverUnreachable(parse_time("2026-01-01T00:00:00Z"), "refused"), {}, False, True),
        (make_pod(EARLIER_OWNERS), DriverStatus(phase=Phase.RUNNING, checkpoint_has_state=True), {}, False, False),
        (None, None, {}, False, False),
    ],
    ids=["waits", "has committed", "an earlier run has committed", "does not answer", "a pod of an earlier job", "no pod"],
)
def test_when_the_checkpoint_may_hold_keys(
    pod: Any, driver_status: Any, progress: dict[str, Any], has_state: bool, state_unknown: bool
) -> None:
    job = {**JOB, "status": {"observedGeneration": 1, "progress": progress}}
    snapshot = Snapshot(
        job=job, stateful_set=SET, pods=(pod,) if pod else (), claim=stored(CHILDREN.claim, "c1"), driver_status=driver_status
    )
    claim = observe(snapshot).claim
    assert claim is not None and (claim.has_state, claim.state_unknown) == (has_state, state_unknown)


def test_the_first_keys_belong_to_the_settings_of_the_driver() -> None:
    """They do not belong to an edit that the operator recorded on the claim while the driver stored them."""
    edited = DedupJobSpec.model_validate({**SPEC, "key": {"fields": ["other"]}})
    settings = build_driver_settings("ns", "demo", edited, None)
    claim = stored(build_children(VALID, settings, JobImage("job:1")).claim, "c1")
    driver_status = DriverStatus(phase=Phase.RUNNING, checkpoint_has_state=True)
    config_maps = (stored(CHILDREN.config_map, "m1"),)
    snapshot = Snapshot(job=JOB, stateful_set=SET, pods=(make_pod(),), claim=claim, config_maps=config_maps, driver_status=driver_status)
    seen = observe(snapshot).claim
    assert seen is not None and seen.has_state and not seen.annotated
    assert seen.config is not None and seen.config.key.fields == ["id"]
    claim["metadata"]["annotations"][CHECKPOINT_BEGUN] = "true"
    later = observe(snapshot).claim
    assert later is not None and later.annotated and later.config == settings.config, "afterwards the annotation is trusted"


def test_a_driver_that_has_committed_proves_its_address() -> None:
    """An operator of version 0.1.0 blocks an address that the claim does not record. The keys do not depend on it."""
    moved = DedupJobSpec.model_validate({**SPEC, "source": {**SPEC["source"], "bootstrapServers": "elsewhere:9092"}})
    claim = stored(CHILDREN.claim, "c1")
    claim["metadata"]["annotations"][CHECKPOINT_BEGUN] = "true"
    children = build_children(replace(VALID, spec=moved), build_driver_settings("ns", "demo", moved, None), JobImage("job:1"))
    workload = {**SET, "spec": {**SET["spec"], "template": children.workload["spec"]["template"]}}
    seen = {}
    for committed in (False, True):
        driver_status = DriverStatus(phase=Phase.RUNNING, checkpoint_has_state=True, committed_in_this_run=committed)
        config_maps = (stored(children.config_map, "m2"),)
        snapshot = Snapshot(job=JOB, stateful_set=workload, claim=claim, config_maps=config_maps, driver_status=driver_status)
        pod = {**make_pod(), "spec": workload["spec"]["template"]["spec"]}
        found = observe(replace(snapshot, pods=(pod,))).claim
        assert found is not None and found.config is not None
        seen[committed] = (found.config.source.bootstrap_servers, found.annotated)
    assert seen == {False: (SPEC["source"]["bootstrapServers"], True), True: ("elsewhere:9092", False)}


def test_the_newest_event_explains_a_problem() -> None:
    def event(kind: str, reason: str, message: str, at: str) -> dict[str, Any]:
        return {"involvedObject": {"kind": kind}, "reason": reason, "message": message, "lastTimestamp": at, "metadata": {}}

    events = (
        event("StatefulSet", "FailedCreate", "old", "2026-01-01T00:00:00Z"),
        event("StatefulSet", "FailedCreate", "exceeded quota", "2026-01-01T00:01:00Z"),
        event("PersistentVolumeClaim", "ProvisioningFailed", "no class", "2026-01-01T00:00:00Z"),
        event("Pod", "BackOff", "something else", "2026-01-01T00:00:00Z"),
    )
    observed = observe(Snapshot(job=JOB, warnings=events))
    assert (observed.pod_rejection, observed.claim_problem, observed.mount_problem) == ("exceeded quota", "no class", None)


def make_status(**container: Any) -> dict[str, Any]:
    return {"podIP": "10.0.0.9", "containerStatuses": [{"name": "driver", "ready": False, "restartCount": 1, **container}]}


def end(code: int, reason: str = "Error", message: str | None = None) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("terminated", "reason", "permanent", "message"),
    [
        (end(64, message='{"reason": "ConfigurationRefused", "message": "no"}'), Reason.CONFIGURATION_REFUSED, True, "no"),
        (end(64), Reason.CONFIGURATION_REFUSED, True, "exit code 64"),
        (end(70, message="Traceback: last line"), Reason.DRIVER_FAILED, False, "last line"),
        (end(137, "OOMKilled", "log line"), Reason.OUT_OF_MEMORY, False, "memory"),
        (end(137), Reason.DRIVER_FAILED, False, "signal 9"),
        (end(0, "Completed"), Reason.DRIVER_FAILED, False, "exit code 0"),
        (end(73, message='{"reason": "CheckpointNotWritable", "message": "full"}'), Reason.CHECKPOINT_NOT_WRITABLE, False, "full"),
        (end(255, message='{"reason": "NewWord", "message": "x"}'), "NewWord", False, "x"),
    ],
)
def test_the_reason_of_an_exit_comes_from_message_code_or_kubelet(
    terminated: dict[str, Any], reason: str, permanent: bool, message: str
) -> None:
    for place in ("state", "lastState"):
        (exit,) = observe_pod(make_pod(status=make_status(**{place: terminated}))).exits
        assert (exit.reason, is_permanent(exit)) == (reason, permanent) and message in exit.message


def test_a_stop_on_request_is_no_failure() -> None:
    stopping: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    for code in (0, 143):
        assert observe_pod(make_pod(status=make_status(state=end(code)), **stopping)).exits == ()
    assert len(observe_pod(make_pod(status=make_status(state=end(70)), **stopping)).exits) == 1


def test_the_message_about_a_missing_image_does_not_alternate() -> None:
    def waiting(reason: str, message: str) -> str:
        pod = observe_pod(make_pod(status=make_status(state={"waiting": {"reason": reason, "message": message}})))
        assert pod.image_problem
        return pod.waiting_message

    failed = waiting("ErrImagePull", "failed to resolve x: not found")
    assert waiting("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: failed to resolve x: not found') == failed


def test_a_new_pod_has_no_status() -> None:
    pod = observe_pod(make_pod())
    assert (pod.scheduled, pod.unschedulable, pod.started_at, pod.exits, pod.address) == (False, None, None, (), None)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("0/1 nodes are available: 1 Insufficient cpu.", "No node is available: Insufficient cpu."),
        (
            "0/30 nodes are available: 12 Insufficient memory, 18 node(s) had untolerated taint {a: b}. preemption: 0/30 nodes are "
            "available: 30 No preemption victims found for incoming pod.",
            "No node is available: Insufficient memory, nodes had untolerated taint {a: b}.",
        ),
        (
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "No node is available: pod has unbound immediate PersistentVolumeClaims.",
        ),
    ],
)
def test_messages_of_the_scheduler_do_not_change_with_the_number_of_nodes(message: str, expected: str) -> None:
    assert remove_node_counts(message) == expected
