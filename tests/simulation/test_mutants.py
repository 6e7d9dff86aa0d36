"""Checks that the simulation finds bugs: each test breaks the operator on purpose, and a seed must violate an invariant.

A mutant is one small change to the operator that somebody could make by mistake. Each mutant must be found within a
limited number of seeds, and by one of the invariants that it is listed with in MUTANTS. If a mutant is no longer found,
first run its test on the version before your change. If it was found there, your change makes the simulation blind to
this bug: undo it, or make the situation more likely again (weights in `users`, probabilities in `faults`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import pytest

from dedup_api import names
from dedup_operator.adapters import apply
from dedup_operator.adapters.kube import AlreadyExists, Kube, Resource
from dedup_operator.domain import decide, diagnose
from dedup_operator.domain.decision import Decision, DecisionInput, ScaleDownForRestart, Start
from dedup_operator.domain.drift import DriftRepairs
from dedup_operator.domain.driver_objects import Kind, choose_kind, find_template
from dedup_operator.domain.manifests import Children
from dedup_operator.domain.manifests.metadata import build_owner_reference
from dedup_operator.domain.observe import checkpoint, owned, pod, workload
from dedup_operator.domain.observe import state as observe
from dedup_operator.domain.observe.ownership import Ownership
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.types import Json
from dedup_operator.domain.updates import checkpoint as checkpoint_updates
from dedup_operator.domain.verdict import ClaimRefusal
from dedup_operator.reconcile import Reconciler
from simulation import function_cache
from simulation.condition_law import WORKS
from simulation.invariants import Invariant, Violation
from simulation.run import run_seeds

Patch = pytest.MonkeyPatch


def set_rule(patch: Patch, name: str, rule: Callable[[DecisionInput], Decision | None]) -> None:
    """Replaces the decision rule of this name."""
    rules = tuple(rule if current.__name__ == name else current for current in decide.RULES)
    assert rules != decide.RULES, f"decide.RULES has no rule {name}: correct this mutant"
    patch.setattr(decide, "RULES", rules)


def start_without_waiting(patch: Patch) -> None:
    real = decide.start_next_driver

    def rule(given: DecisionInput) -> Decision | None:
        workload = given.observed.workload
        is_streaming = workload is not None and workload.kind is choose_kind(given.job.spec) is Kind.STATEFUL_SET
        return Start(first=False) if is_streaming and workload is not None and workload.replicas == 0 else real(given)

    set_rule(patch, "start_next_driver", rule)


def start_without_version_check(patch: Patch) -> None:
    real = apply._start

    async def start(kube: Kube, driver_set: Any, children: Children) -> None:
        if driver_set is not None:
            raw = deepcopy(driver_set.raw)
            del raw["metadata"]["resourceVersion"]
            driver_set = replace(driver_set, raw=raw)
        await real(kube, driver_set, children)

    patch.setattr(apply, "_start", start)


def own_every_claim(patch: Patch) -> None:
    def set_owner(body: Json, job: Any, claim: Any) -> None:
        body["metadata"]["ownerReferences"] = [build_owner_reference(job)]

    patch.setattr(checkpoint_updates, "set_owner", set_owner)


def stop_for_invalid_spec(patch: Patch) -> None:
    real = decide.resume_interrupted_restart
    patch.setattr(decide, "resume_interrupted_restart", lambda observed, refusal: replace(real(observed, refusal), stop=True))


def restart_for_blocked_edit(patch: Patch) -> None:
    set_rule(patch, "block_incompatible_change", lambda given: None)


def stay_stopped_after_refused_edit(patch: Patch) -> None:
    patch.setattr(decide, "resume_interrupted_restart", lambda observed, refusal: refusal)


def create_workload_first(patch: Patch) -> None:
    real = apply._create_missing

    async def create_missing(kube: Kube, observed: ObservedState, children: Children, config_map: str | None = None) -> None:
        if observed.workload is None:
            await apply._start(kube, None, children)
        await real(kube, observed, children, config_map)

    patch.setattr(apply, "_create_missing", create_missing)


def report_too_high_generation(patch: Patch) -> None:
    module: Any = import_module("dedup_operator.reconcile")
    real = module.build_status

    def build(before: Any, observed: ObservedState, generation: int, *rest: Any) -> Any:
        return real(before, observed, generation + 1, *rest)

    patch.setattr(module, "build_status", build)


def write_status_always(patch: Patch) -> None:
    module: Any = import_module("dedup_operator.reconcile")
    patch.setattr(module, "choose_status", lambda before, after, last_write, now: after)


def trust_deletion_event(patch: Patch) -> None:
    """A pod counts as deleted as soon as a watch event says that its deletion has started."""
    real = Reconciler._reconcile

    async def reconcile(self: Reconciler, key: Any) -> float | None:
        deleted_pod = self._last_deleted_pods.get(key)
        kube = self.kube
        real_get = kube.get

        async def get(resource: Resource, namespace: str, name: str) -> Json | None:
            if resource is Resource.PODS and deleted_pod is not None and name == names.driver_pod_name(key.name):
                return None
            return await real_get(resource, namespace, name)

        real_list = kube.list

        async def list_objects(resource: Resource, namespace: str | None, **query: str) -> list[Json]:
            items = await real_list(resource, namespace, **query)
            deleted_uid = deleted_pod["metadata"]["uid"] if deleted_pod is not None and resource is Resource.PODS else None
            return [item for item in items if item["metadata"]["uid"] != deleted_uid]

        patch.setattr(kube, "get", get)
        patch.setattr(kube, "list", list_objects)
        try:
            return await real(self, key)
        finally:
            patch.setattr(kube, "get", real_get)
            patch.setattr(kube, "list", real_list)

    patch.setattr(Reconciler, "_reconcile", reconcile)


def delete_used_config_maps(patch: Patch) -> None:
    async def delete_all(kube: Kube, namespace: str, observed: ObservedState) -> None:
        for name, uid in observed.config_map_uids:
            await kube.delete(Resource.CONFIG_MAPS, namespace, name, uid)

    patch.setattr(apply, "_delete_outdated_config_maps", delete_all)


def own_conflicting_objects(patch: Patch) -> None:
    patch.setattr(owned, "observe_ownership", lambda raw, uid, name: Ownership.OURS)


def trust_settings_of_next_run(patch: Patch) -> None:
    """The settings of the next run count as those with which the stored keys were made."""
    real = checkpoint.find_applied_config
    patch.setattr(observe, "find_applied_config", lambda users, config_maps: real([*users][-1:], config_maps))


def ignore_folder_owner(patch: Patch) -> None:
    patch.setattr(observe, "find_checkpoint_owner", lambda claim, record, name: None)


def ignore_lost_race_for_folder(patch: Patch) -> None:
    """The record of a folder did not exist when the operator read it, so the operator ignores that another job created
    it since."""

    async def take_folder(kube: Kube, record: Json) -> None:
        with suppress(AlreadyExists):
            await kube.create(Resource.CONFIG_MAPS, record["metadata"]["namespace"], record)

    patch.setattr(apply, "_take_folder", take_folder)


def write_record_of_other_job(patch: Patch) -> None:
    real = apply._apply_record

    async def write_record(kube: Kube, observed: ObservedState, children: Children) -> ClaimRefusal | None:
        claim = observed.claim
        if claim is not None and claim.shared and claim.record is None and children.record is not None:
            metadata = children.record["metadata"]
            found = await kube.get(Resource.CONFIG_MAPS, metadata["namespace"], metadata["name"])
            claim = replace(claim, record={**found, "kind": "ConfigMap"} if found else None)
        return await real(kube, replace(observed, claim=claim), children)

    patch.setattr(apply, "_apply_record", write_record)


def ignore_recreated_claim(patch: Patch) -> None:
    real = checkpoint.observe_checkpoint
    patch.setattr(observe, "observe_checkpoint", lambda *arguments, **rest: replace(real(*arguments, **rest), recreated=False))


def allow_blocked_edit_without_driver(patch: Patch) -> None:
    real = decide.block_incompatible_change
    set_rule(patch, "block_incompatible_change", lambda given: real(given) if given.observed.pod is not None else None)


def restart_for_new_image(patch: Patch) -> None:
    real = decide.restart_for_new_settings

    def rule(given: DecisionInput) -> Decision | None:
        workload = given.observed.workload
        has_old_image = workload is not None and workload.replicas == 1 and not workload.ended and workload.image != given.image
        return ScaleDownForRestart("The job image is another.") if has_old_image else real(given)

    set_rule(patch, "restart_for_new_settings", rule)


def keep_old_image(patch: Patch) -> None:
    real = apply._start

    async def start(kube: Kube, workload: Any, children: Children) -> None:
        if workload is not None:
            children = replace(children, workload=deepcopy(children.workload))
            find_template(children.workload)["spec"]["containers"][0]["image"] = workload.image
        await real(kube, workload, children)

    patch.setattr(apply, "_start", start)


def give_up_for_earlier_exit(patch: Patch) -> None:
    patch.setattr(pod, "_find_last_exit", lambda state, exits: exits[0] if exits else None)


def claim_that_refused_driver_works(patch: Patch) -> None:
    patch.setattr(diagnose, "_describe_refused_driver", lambda given, settings: f"{WORKS}." if given.observed.pod is not None else "")


def repair_drift_each_time(patch: Patch) -> None:
    patch.setattr(DriftRepairs, "is_due", lambda self, now: True)


def ignore_rollout_restart(patch: Patch) -> None:
    patch.setattr(workload, "RESTARTED_AT", "nobody/writes-this")


def move_although_keys_are_left(patch: Patch) -> None:
    set_rule(patch, "block_moved_checkpoint", lambda given: None)


def trust_the_last_answer_before_a_move(patch: Patch) -> None:
    """A driver may store its first keys after it has answered that it has none."""

    def may_leave_keys(status: Json, driver_status: Any, live: Any, stopped: Any) -> bool:
        return bool((status.get("checkpoint") or {}).get("keysStored")) or checkpoint.may_have_keys(driver_status)

    patch.setattr(observe, "_may_leave_keys", may_leave_keys)


@dataclass(frozen=True)
class Mutant:
    """A broken operator, and the invariants of which a seed must violate one."""

    break_operator: Callable[[Patch], None]
    invariants: frozenset[Invariant]
    max_seeds: int
    """The mutant must be found within so many seeds."""


MAX_SEEDS_BY_DEFAULT = 400
"""A mutant that needs more seeds runs only with `-m full`. 400 seeds take about 15 s."""


def mutant(break_operator: Callable[[Patch], None], *invariants: Invariant, max_seeds: int = 200) -> Any:
    slow = [pytest.mark.full] if max_seeds > MAX_SEEDS_BY_DEFAULT else []
    return pytest.param(Mutant(break_operator, frozenset(invariants), max_seeds), id=break_operator.__name__, marks=slow)


MUTANTS = [
    mutant(start_without_waiting, Invariant.TEMPLATE_KEPT_WHILE_POD_RUNS),
    mutant(start_without_version_check, Invariant.WRITES_NAME_READ_VERSION),
    mutant(own_every_claim, Invariant.CLAIM_KEPT, Invariant.DESIRED_STATE_REACHED),
    mutant(stop_for_invalid_spec, Invariant.UNUSABLE_SPEC_KEEPS_DRIVER),
    mutant(restart_for_blocked_edit, Invariant.UNUSABLE_SPEC_KEEPS_DRIVER, Invariant.SETTINGS_FIT_KEYS),
    mutant(stay_stopped_after_refused_edit, Invariant.DESIRED_STATE_REACHED, max_seeds=400),
    mutant(create_workload_first, Invariant.DEPENDENCIES_FIRST),
    mutant(report_too_high_generation, Invariant.OBSERVED_GENERATION_NOT_AHEAD),
    mutant(write_status_always, Invariant.DESIRED_STATE_STABLE),
    mutant(trust_deletion_event, Invariant.TEMPLATE_KEPT_WHILE_POD_RUNS, Invariant.DESIRED_STATE_REACHED),
    mutant(delete_used_config_maps, Invariant.DESIRED_STATE_REACHED, Invariant.DESIRED_STATE_STABLE),
    mutant(
        own_conflicting_objects,
        Invariant.OTHER_OBJECTS_UNCHANGED,
        Invariant.FOLDER_HAS_ONE_OWNER,
        Invariant.DESIRED_STATE_REACHED,
        max_seeds=400,
    ),
    mutant(ignore_folder_owner, Invariant.FOLDER_HAS_ONE_OWNER),
    mutant(ignore_lost_race_for_folder, Invariant.FOLDER_HAS_ONE_OWNER, max_seeds=400),
    mutant(write_record_of_other_job, Invariant.FOLDER_HAS_ONE_OWNER),
    mutant(ignore_recreated_claim, Invariant.LOST_KEYS_ARE_REPORTED, Invariant.DESIRED_STATE_REACHED, max_seeds=400),
    mutant(allow_blocked_edit_without_driver, Invariant.SETTINGS_FIT_KEYS, Invariant.UNUSABLE_SPEC_KEEPS_DRIVER),
    mutant(restart_for_new_image, Invariant.UPGRADE_STOPS_NO_DRIVER),
    mutant(keep_old_image, Invariant.STARTS_USE_CURRENT_IMAGE),
    mutant(give_up_for_earlier_exit, Invariant.RUNNING_DRIVER_KEPT, max_seeds=400),
    mutant(claim_that_refused_driver_works, Invariant.CONDITIONS_AGREE),
    mutant(repair_drift_each_time, Invariant.NO_WRITE_LOOP, max_seeds=400),
    mutant(ignore_rollout_restart, Invariant.DESIRED_STATE_REACHED, max_seeds=400),
    mutant(move_although_keys_are_left, Invariant.KEYS_NOT_LEFT_BEHIND, Invariant.DESIRED_STATE_REACHED, max_seeds=400),
    mutant(trust_the_last_answer_before_a_move, Invariant.KEYS_NOT_LEFT_BEHIND, max_seeds=5000),
    mutant(trust_settings_of_next_run, Invariant.DESIRED_STATE_REACHED, max_seeds=2000),
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_operator_is_found(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant.break_operator(monkeypatch)
    function_cache.clear_cache()
    try:
        for seed, found in run_seeds(range(mutant.max_seeds)):
            if isinstance(found, Violation):
                print(f"{mutant.break_operator.__name__}: seed {seed}: {found}")
                allowed = " or ".join(sorted(invariant.name for invariant in mutant.invariants))
                assert found.invariant in mutant.invariants, f"the mutant must violate {allowed}. Seed {seed}: {found}"
                return
        pytest.fail(f"the simulation does not find this mutant in {mutant.max_seeds} seeds: see the start of {__name__}")
    finally:
        function_cache.clear_cache()
