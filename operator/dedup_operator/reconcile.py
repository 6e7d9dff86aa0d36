"""One look at one job: observe, validate, build, decide, apply, status.

The same round runs on a change of the resource, on an event of a child and on a timer; nothing in it depends on having seen a
particular event, so it may be repeated, dropped or cut off anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dedup_api.status import ConditionStatus, DedupJobStatus
from dedup_operator.adapters.apply import apply_checkpoint, apply_decision, release_claim
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.events import Recorder, list_notes
from dedup_operator.adapters.fetch import fetch_snapshot
from dedup_operator.adapters.kube import Json, Kube, Resource
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.conditions import build_conditions
from dedup_operator.domain.decide import Decision, decide, explain_refusal
from dedup_operator.domain.diagnose import Case, diagnose
from dedup_operator.domain.driver_settings import DriverInputs, build_inputs
from dedup_operator.domain.errors import ApiRefused, CheckpointTaken, NameTaken
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.observe.pod import keep_departure
from dedup_operator.domain.observe.state import World, observe_world
from dedup_operator.domain.status import Written, build_status, choose_status, find_ready, parse_status
from dedup_operator.domain.times import parse_time
from dedup_operator.domain.validate import Invalid, ValidJob, validate
from dedup_operator.queue import Key

logger = logging.getLogger(__name__)

SOON_SECONDS = 2.0
"""Between looks at a job that is on its way: the watches report most steps, but not what a driver says."""
ON_THE_WAY = timedelta(minutes=3)
"""A start takes less; what takes longer need not be looked at that often."""


@dataclass
class Reconciler:
    kube: Kube
    drivers: Drivers
    recorder: Recorder
    metrics: Metrics
    image: JobImage
    clock: Callable[[], datetime]
    resync_seconds: float
    _written: dict[Key, Written] = field(default_factory=dict)
    _departed: dict[Key, Json] = field(default_factory=dict)
    """The pod of each job that went last. Forgotten when the operator ends: an exit is then known only if it was read live."""

    def note_departure(self, key: Key, pod: Json) -> None:
        """`pod`: as a watch shows it, on its way out or gone."""
        self._departed[key] = keep_departure(self._departed.get(key), pod)

    async def look(self, key: Key) -> float | None:
        """One round, measured. Returns the seconds until the next look; None when the job is gone."""
        with self.metrics.observe_round():
            return await self._reconcile(key)

    async def _reconcile(self, key: Key) -> float | None:
        now = self.clock()
        snapshot = await fetch_snapshot(self.kube, self.drivers, key.namespace, key.name, now)
        if snapshot is None:
            self.forget(key)
            return None
        world = observe_world(replace(snapshot, departed=self._departed.get(key)))
        job = validate(snapshot.job)
        inputs, children = self._build(job, world)
        decision = decide(job, world, inputs, children)
        decision, note = await self._apply(key, job, world, children, decision)
        before = parse_status(snapshot.job)
        case = Case(job.spec if isinstance(job, ValidJob) else None, key.name, decision, world, before, now)
        verdict = diagnose(case)
        generation = snapshot.job["metadata"]["generation"]
        conditions = build_conditions(case, verdict, generation, note)
        after = build_status(before, world, generation, conditions)
        await self._report(key, snapshot.job, before, after, now)
        self.metrics.set_reason(key, verdict.reason)
        return self._find_pause(after, now)

    def _find_pause(self, status: DedupJobStatus, now: datetime) -> float:
        ready = find_ready(status)
        fresh = ready is not None and now - parse_time(ready.last_transition_time) < ON_THE_WAY
        soon = fresh and ready is not None and ready.status is ConditionStatus.UNKNOWN
        return min(SOON_SECONDS, self.resync_seconds) if soon else self.resync_seconds

    def _build(self, job: ValidJob | Invalid, world: World) -> tuple[DriverInputs | None, Children | None]:
        if isinstance(job, Invalid):
            return None, None
        inputs = build_inputs(job.namespace, job.name, job.spec, world.pinned)
        return inputs, build_children(job, inputs, self.image)

    async def _apply(
        self, key: Key, job: ValidJob | Invalid, world: World, children: Children | None, decision: Decision
    ) -> tuple[Decision, str]:
        note = ""
        if isinstance(job, Invalid) and job.retain and world.claim is not None and world.claim.owned and not world.claim.deleting:
            note = await release_claim(self.kube, job.uid, world.claim)
        if isinstance(job, ValidJob) and children is not None and world.claim is not None and not world.claim.deleting:
            settled = not (world.leaving or world.foreign or world.strays)
            note = await apply_checkpoint(self.kube, job, world.claim, children, settled=settled)
        try:
            await apply_decision(self.kube, key.namespace, world, children, decision)
        except (ApiRefused, NameTaken, CheckpointTaken) as error:
            return explain_refusal(error), note
        return decision, note

    async def _report(self, key: Key, resource: Json, before: DedupJobStatus, after: DedupJobStatus, now: datetime) -> None:
        chosen = choose_status(before, after, self._written.get(key, Written()), now)
        if chosen is None:
            return
        await self.kube.replace(Resource.DEDUP_JOBS, {**resource, "status": chosen.to_json_dict()}, "status")
        if chosen.progress != before.progress:
            self._written[key] = Written(now)
        ready = find_ready(chosen)
        notes = list_notes(before, chosen)
        if notes and ready is not None:
            logger.info("%s: Ready is %s, %s: %s", key, ready.status, ready.reason, ready.message)
        await self.recorder.record(resource, notes, now)

    def forget(self, key: Key) -> None:
        self._written.pop(key, None)
        self._departed.pop(key, None)
        self.metrics.forget(key)
