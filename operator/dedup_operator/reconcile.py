"""One reconciliation of one DedupJob: fetch, observe, validate, build, decide, apply, report the status.

The same steps run after a change of the DedupJob, after an event of a child and after a timer. No step depends on a
particular event, so a reconciliation may be repeated, skipped or interrupted at any point.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from dedup_api.status import DedupJobStatus
from dedup_operator.adapters.apply import apply_checkpoint, apply_decision
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.events import Recorder
from dedup_operator.adapters.fetch import fetch_snapshot
from dedup_operator.adapters.kube import Kube, Resource
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.conditions import build_conditions
from dedup_operator.domain.decide import decide, explain_refusal
from dedup_operator.domain.decision import Decision
from dedup_operator.domain.diagnose import diagnose
from dedup_operator.domain.drift import DriftRepairs, build_restart_note, is_repair
from dedup_operator.domain.driver_settings import DriverSettings, build_driver_settings
from dedup_operator.domain.errors import ApiRefused, CheckpointTaken, NameTaken
from dedup_operator.domain.event_notes import EventNote, list_event_notes
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.observe.pod import merge_deleted_pod
from dedup_operator.domain.observe.state import ObservedState, observe_state
from dedup_operator.domain.observe.workload import Workload
from dedup_operator.domain.resync import find_resync_seconds
from dedup_operator.domain.status import LastProgressWrite, build_status, choose_status, find_ready, parse_status
from dedup_operator.domain.types import Json, Key
from dedup_operator.domain.validate import Invalid, ValidJob, validate
from dedup_operator.domain.verdict import DiagnosisInput

logger = logging.getLogger(__name__)


@dataclass
class Reconciler:
    kube: Kube
    drivers: Drivers
    recorder: Recorder
    metrics: Metrics
    image: JobImage
    clock: Callable[[], datetime]
    resync_seconds: float
    _last_progress_writes: dict[Key, LastProgressWrite] = field(default_factory=dict)
    _last_deleted_pods: dict[Key, Json] = field(default_factory=dict)
    """The last deleted pod of each DedupJob. It is lost when the operator restarts; the status then lacks an exit that
    no live read saw."""
    _drift_repairs: dict[Key, DriftRepairs] = field(default_factory=dict)
    _ignored_restarts: dict[Key, str] = field(default_factory=dict)
    """The value of `kubectl rollout restart` about which the operator has written an event."""

    def record_pod_deletion(self, key: Key, pod: Json) -> None:
        """`pod`: as the watch showed it, while it is being deleted or after that."""
        self._last_deleted_pods[key] = merge_deleted_pod(self._last_deleted_pods.get(key), pod)

    async def reconcile(self, key: Key) -> float | None:
        """Returns the seconds until the next reconciliation, or None when the DedupJob is gone."""
        with self.metrics.measure_reconciliation():
            return await self._reconcile(key)

    async def _reconcile(self, key: Key) -> float | None:
        now = self.clock()
        fetched = await fetch_snapshot(self.kube, self.drivers, key.namespace, key.name, now)
        if fetched is None:
            self.forget(key)
            return None
        snapshot, owned = fetched
        repairs = self._drift_repairs.get(key, DriftRepairs())
        snapshot = replace(snapshot, last_deleted_pod=self._last_deleted_pods.get(key))
        observed = observe_state(snapshot, owned)
        if not repairs.is_due(now):
            observed = replace(observed, drift_repair_due=False)
        job = validate(snapshot.job)
        settings, children = self._build(job, observed)
        decision = decide(job, observed, settings, children)
        claim_refusal = await apply_checkpoint(self.kube, job, observed, children)
        decision = await self._apply(key, observed, children, decision)
        if observed.workload is not None:
            await self._report_foreign_changes(key, snapshot.job, observed.workload, decision, now)
        before = parse_status(snapshot.job)
        given = DiagnosisInput(
            spec=job.spec if isinstance(job, ValidJob) else None,
            decision=decision,
            observed=observed,
            before=before,
            now=now,
            claim_refusal=claim_refusal,
        )
        verdict = diagnose(given)
        generation = snapshot.job["metadata"]["generation"]
        conditions = build_conditions(given, verdict, generation)
        after = build_status(before, observed, generation, conditions, now)
        await self._report(key, snapshot.job, before, after, now)
        self.metrics.set_reason(key, verdict.reason)
        return find_resync_seconds(after, now, self.resync_seconds)

    def _build(self, job: ValidJob | Invalid, observed: ObservedState) -> tuple[DriverSettings | None, Children | None]:
        if isinstance(job, Invalid):
            return None, None
        settings = build_driver_settings(job.namespace, job.name, job.spec, observed.pinned_config)
        return settings, build_children(job, settings, self.image)

    async def _apply(self, key: Key, observed: ObservedState, children: Children | None, decision: Decision) -> Decision:
        """The decision, or the refusal that the API server turned it into."""
        try:
            await apply_decision(self.kube, key.namespace, observed, children, decision)
        except (ApiRefused, NameTaken, CheckpointTaken) as error:
            return explain_refusal(error, decision, observed)
        return decision

    async def _report_foreign_changes(self, key: Key, resource: Json, workload: Workload, decision: Decision, now: datetime) -> None:
        """Events about what something else has written into the workload: changes that the operator undoes, and
        `kubectl rollout restart` while no driver may start."""
        notes: list[EventNote | None] = []
        if is_repair(decision, workload):
            repairs = self._drift_repairs[key] = self._drift_repairs.get(key, DriftRepairs()).record(now)
            notes.append(repairs.build_note(workload))
        if workload.restart_requested and self._ignored_restarts.get(key) != workload.restart_requested:
            note = build_restart_note(decision)
            if note is not None:
                self._ignored_restarts[key] = workload.restart_requested
            notes.append(note)
        found = [note for note in notes if note is not None]
        for note in found:
            logger.warning(note.message)
        await self.recorder.record(resource, found, now)

    async def _report(self, key: Key, resource: Json, before: DedupJobStatus, after: DedupJobStatus, now: datetime) -> None:
        chosen = choose_status(before, after, self._last_progress_writes.get(key, LastProgressWrite()), now)
        if chosen is None:
            return
        await self.kube.replace(Resource.DEDUP_JOBS, {**resource, "status": chosen.to_json_dict()}, "status")
        if chosen.progress != before.progress:
            self._last_progress_writes[key] = LastProgressWrite(now)
        ready = find_ready(chosen)
        notes = list_event_notes(before, chosen)
        if notes and ready is not None:
            logger.info("Ready is %s, %s: %s", ready.status, ready.reason, ready.message)
        await self.recorder.record(resource, notes, now)

    def forget(self, key: Key) -> None:
        self._last_progress_writes.pop(key, None)
        self._last_deleted_pods.pop(key, None)
        self._drift_repairs.pop(key, None)
        self._ignored_restarts.pop(key, None)
        self.metrics.forget(key)
