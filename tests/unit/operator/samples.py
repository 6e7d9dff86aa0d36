"""Jobs, observed states and helpers that several tests of the operator use."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from dedup_api.driver_status import DriverStatus, Phase
from dedup_api.spec import DedupJobSpec
from dedup_api.status import DriverExit
from dedup_operator.domain.decide import decide
from dedup_operator.domain.decision import Decision
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.driver_settings import DriverSettings, build_driver_settings
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.observe.checkpoint import CheckpointClaim
from dedup_operator.domain.observe.owned import find_owned_objects
from dedup_operator.domain.observe.pod import DriverPod
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.state import ObservedState, observe_state
from dedup_operator.domain.observe.workload import Run, Workload
from dedup_operator.domain.validate import Invalid, ValidJob

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IMAGE = JobImage("job:1")
SPEC: dict[str, Any] = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "ts"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "out"}},
}
ONCE: dict[str, Any] = {"trigger": {"availableNow": {}}}
NIGHTLY: dict[str, Any] = {"trigger": {"availableNow": {"schedule": "0 3 * * *"}}}


def make_job(generation: int = 1, **changes: Any) -> ValidJob:
    spec = DedupJobSpec.model_validate({**SPEC, **changes})
    return ValidJob(namespace="ns", name="demo", uid="uid", generation=generation, spec=spec)


def make_children(job: ValidJob, claim: CheckpointClaim | None = None) -> tuple[DriverSettings, Children]:
    pinned_config = claim.config if claim and claim.may_hold_keys else None
    settings = build_driver_settings(job.namespace, job.name, job.spec, pinned_config)
    return settings, build_children(job, settings, IMAGE)


def decide_on(job: ValidJob | Invalid, observed: ObservedState) -> Decision:
    if isinstance(job, Invalid):
        return decide(job, observed, None, None)
    return decide(job, observed, *make_children(job, observed.claim))


def observe(snapshot: Snapshot) -> ObservedState:
    """As a reconciliation does it."""
    return observe_state(snapshot, find_owned_objects(snapshot))


JOB = make_job()
SETTINGS, CHILDREN = make_children(JOB)
CONFIG_MAP = CHILDREN.config_map["metadata"]["name"]
CLAIM = CheckpointClaim(
    phase="Bound",
    deleting=False,
    config=SETTINGS.config,
    annotated=True,
    has_state=True,
    state_unknown=False,
    owned=False,
    size="10Gi",
    raw={},
)
SET = Workload(
    kind=Kind.STATEFUL_SET,
    uid="set",
    replicas=1,
    applied=JOB.spec,
    given_up=None,
    restarting=False,
    image="job:1",
    config_map=CONFIG_MAP,
    raw={},
)
POD = DriverPod(
    name="demo-driver-0",
    uid="pod",
    address="10.0.0.1",
    deleting=False,
    created_at=NOW,
    scheduled=True,
    unschedulable=None,
    waiting=None,
    waiting_message="",
    started_at=NOW,
    ready=True,
    restarts=0,
    exits=(),
)
REFUSED = DriverExit(exit_code=64, reason="ConfigurationRefused", message="no", finished_at="2026-01-01T00:00:00Z")
CRASHED = DriverExit(exit_code=70, reason="DriverFailed", message="oops", finished_at="2026-01-01T00:00:00Z")
FAILED = replace(POD, started_at=None, ready=False, exits=(REFUSED,), last_exit=REFUSED)
"""The pod after a permanent exit, while no driver runs."""
WORKING = DriverStatus(phase=Phase.RUNNING, committed_in_this_run=True)
"""The status of a driver that commits batches."""


def make_workload(kind: Kind, job: ValidJob, **changes: Any) -> Workload:
    _, children = make_children(job)
    config_map = children.config_map["metadata"]["name"]
    return replace(SET, kind=kind, applied=job.spec, config_map=config_map, **changes)


def make_state(workload: Workload, **changes: Any) -> ObservedState:
    state = ObservedState(
        workload=workload,
        claim=CLAIM,
        has_service=True,
        config_map_uids=((workload.config_map, "cm"),),
        claim_was_recorded=True,
    )
    return replace(state, **changes)


RUNNING = make_state(SET, pod=POD)
STOPPED = replace(RUNNING, workload=replace(SET, replicas=0), pod=None)
ONE_RUN = make_workload(Kind.JOB, make_job(**ONCE))
"""The Kubernetes Job of a DedupJob with `availableNow` and without a schedule."""
CRON_JOB = make_workload(Kind.CRON_JOB, make_job(**NIGHTLY))
RUN = Run("demo-driver-123", "run", deleting=False)
"""A run of `CRON_JOB`."""
