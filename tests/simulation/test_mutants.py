"""The operator, deliberately broken: a simulation that does not find these finds nothing.

Each mutant is a change that a person could make in good faith.
It must be found within a bounded number of seeds, by a law that speaks of it.
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
from dedup_operator.domain import decide
from dedup_operator.domain.decision import Decision, DecisionInput, ScaleDownForRestart, Start
from dedup_operator.domain.driver_objects import Kind, choose_kind, find_template
from dedup_operator.domain.manifests import Children
from dedup_operator.domain.manifests.metadata import build_owner_reference
from dedup_operator.domain.observe import checkpoint, owned
from dedup_operator.domain.observe import state as observe
from dedup_operator.domain.observe.ownership import Ownership
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.types import Json
from dedup_operator.domain.updates import checkpoint as checkpoint_updates
from dedup_operator.reconcile import Reconciler
from simulation import function_cache
from simulation.invariants import Invariant, Violation
from simulation.run import run_seeds

Patch = pytest.MonkeyPatch


def set_rule(patch: Patch, name: str, rule: Callable[[DecisionInput], Decision | None]) -> None:
    rules = tuple(rule if known.__name__ == name else known for known in decide.RULES)
    assert rules != decide.RULES
    patch.setattr(decide, "RULES", rules)


def start_without_waiting(patch: Patch) -> None:
    real = decide.start_next_driver

    def rule(given: DecisionInput) -> Decision | None:
        workload = given.observed.workload
        streams = workload is not None and workload.kind is choose_kind(given.job.spec) is Kind.STATEFUL_SET
        return Start(first=False) if streams and workload is not None and workload.replicas == 0 else real(given)

    set_rule(patch, "start_next_driver", rule)


def start_whatever_was_read(patch: Patch) -> None:
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


def stop_for_an_invalid_edit(patch: Patch) -> None:
    real = decide.resume_interrupted_restart
    patch.setattr(decide, "resume_interrupted_restart", lambda observed, refusal: replace(real(observed, refusal), stop=True))


def roll_for_a_blocked_edit(patch: Patch) -> None:
    set_rule(patch, "block_incompatible_change", lambda given: None)


def forget_to_come_back(patch: Patch) -> None:
    patch.setattr(decide, "resume_interrupted_restart", lambda observed, refusal: refusal)


def make_the_set_first(patch: Patch) -> None:
    real = apply._create_missing

    async def ensure(kube: Kube, observed: ObservedState, children: Children, config_map: str | None = None) -> None:
        if observed.workload is None:
            await apply._start(kube, None, children)
        await real(kube, observed, children, config_map)

    patch.setattr(apply, "_create_missing", ensure)


def report_ahead(patch: Patch) -> None:
    module: Any = import_module("dedup_operator.reconcile")
    real = module.build_status

    def build(before: Any, observed: ObservedState, generation: int, *rest: Any) -> Any:
        return real(before, observed, generation + 1, *rest)

    patch.setattr(module, "build_status", build)


def report_always(patch: Patch) -> None:
    module: Any = import_module("dedup_operator.reconcile")
    patch.setattr(module, "choose_status", lambda before, after, last_write, now: after)


def believe_an_event(patch: Patch) -> None:
    """A pod that was seen to go counts as gone."""
    real = Reconciler._reconcile

    async def reconcile(self: Reconciler, key: Any) -> float | None:
        going = self._last_deleted_pods.get(key)
        kube = self.kube
        real_get = kube.get

        async def get(resource: Resource, namespace: str, name: str) -> Json | None:
            if resource is Resource.PODS and going is not None and name == names.driver_pod_name(key.name):
                return None
            return await real_get(resource, namespace, name)

        real_list = kube.list

        async def read_list(resource: Resource, namespace: str | None, **query: str) -> list[Json]:
            items = await real_list(resource, namespace, **query)
            gone = going["metadata"]["uid"] if going is not None and resource is Resource.PODS else None
            return [item for item in items if item["metadata"]["uid"] != gone]

        patch.setattr(kube, "get", get)
        patch.setattr(kube, "list", read_list)
        try:
            return await real(self, key)
        finally:
            patch.setattr(kube, "get", real_get)
            patch.setattr(kube, "list", real_list)

    patch.setattr(Reconciler, "_reconcile", reconcile)


def sweep_too_much(patch: Patch) -> None:
    async def sweep(kube: Kube, namespace: str, observed: ObservedState) -> None:
        for name, uid in observed.config_map_uids:
            await kube.delete(Resource.CONFIG_MAPS, namespace, name, uid)

    patch.setattr(apply, "_delete_outdated_config_maps", sweep)


def take_any_name(patch: Patch) -> None:
    patch.setattr(owned, "observe_ownership", lambda raw, uid, name: Ownership.OURS)


def ask_the_next_run(patch: Patch) -> None:
    """What is on a checkpoint counts as made with the settings of the next run."""
    real = checkpoint.find_applied_config
    patch.setattr(observe, "find_applied_config", lambda users, config_maps: real([*users][-1:], config_maps))


def share_every_folder(patch: Patch) -> None:
    patch.setattr(observe, "find_checkpoint_owner", lambda claim, record, name: None)


def take_a_folder_without_looking(patch: Patch) -> None:
    """That a moment ago nobody had it is taken for enough."""

    async def take(kube: Kube, record: Json) -> None:
        with suppress(AlreadyExists):
            await kube.create(Resource.CONFIG_MAPS, record["metadata"]["namespace"], record)

    patch.setattr(apply, "_take_folder", take)


def note_in_the_record_of_others(patch: Patch) -> None:
    real = apply._apply_record

    async def note(kube: Kube, observed: ObservedState, children: Children) -> str:
        claim = observed.claim
        if claim is not None and claim.shared and claim.record is None and children.record is not None:
            metadata = children.record["metadata"]
            found = await kube.get(Resource.CONFIG_MAPS, metadata["namespace"], metadata["name"])
            claim = replace(claim, record={**found, "kind": "ConfigMap"} if found else None)
        return await real(kube, replace(observed, claim=claim), children)

    patch.setattr(apply, "_apply_record", note)


def forget_which_claim_it_was(patch: Patch) -> None:
    real = checkpoint.observe_checkpoint
    patch.setattr(observe, "observe_checkpoint", lambda *arguments, **rest: replace(real(*arguments, **rest), recreated=False))


def continue_where_no_driver_runs(patch: Patch) -> None:
    real = decide.block_incompatible_change
    set_rule(patch, "block_incompatible_change", lambda given: real(given) if given.observed.pod is not None else None)


def roll_for_a_new_image(patch: Patch) -> None:
    real = decide.restart_for_new_settings

    def rule(given: DecisionInput) -> Decision | None:
        workload = given.observed.workload
        old = workload is not None and workload.replicas == 1 and not workload.ended and workload.image != given.image
        return ScaleDownForRestart("The job image is another.") if old else real(given)

    set_rule(patch, "restart_for_new_settings", rule)


def keep_the_old_image(patch: Patch) -> None:
    real = apply._start

    async def start(kube: Kube, workload: Any, children: Children) -> None:
        if workload is not None:
            children = replace(children, workload=deepcopy(children.workload))
            find_template(children.workload)["spec"]["containers"][0]["image"] = workload.image
        await real(kube, workload, children)

    patch.setattr(apply, "_start", start)


@dataclass(frozen=True)
class Mutant:
    breaks: Callable[[Patch], None]
    invariants: frozenset[Invariant]
    within: int
    """Seeds."""


SLOW = 400
"""Seeds, a quarter of a minute: what needs more is among the long tests."""


def mutant(breaks: Callable[[Patch], None], *invariants: Invariant, within: int = 200) -> Any:
    slow = [pytest.mark.full] if within > SLOW else []
    return pytest.param(Mutant(breaks, frozenset(invariants), within), id=breaks.__name__, marks=slow)


MUTANTS = [
    mutant(start_without_waiting, Invariant.TEMPLATE_KEPT_WHILE_POD_RUNS),
    mutant(start_whatever_was_read, Invariant.WRITES_NAME_READ_VERSION),
    mutant(own_every_claim, Invariant.CLAIM_KEPT, Invariant.DESIRED_STATE_REACHED),
    mutant(stop_for_an_invalid_edit, Invariant.UNUSABLE_SPEC_KEEPS_DRIVER),
    mutant(roll_for_a_blocked_edit, Invariant.UNUSABLE_SPEC_KEEPS_DRIVER, Invariant.SETTINGS_FIT_KEYS),
    mutant(forget_to_come_back, Invariant.DESIRED_STATE_REACHED, within=400),
    mutant(make_the_set_first, Invariant.DEPENDENCIES_FIRST),
    mutant(report_ahead, Invariant.OBSERVED_GENERATION_NOT_AHEAD),
    mutant(report_always, Invariant.DESIRED_STATE_STABLE),
    mutant(believe_an_event, Invariant.TEMPLATE_KEPT_WHILE_POD_RUNS, Invariant.DESIRED_STATE_REACHED),
    mutant(sweep_too_much, Invariant.DESIRED_STATE_REACHED, Invariant.DESIRED_STATE_STABLE),
    mutant(take_any_name, Invariant.OTHER_OBJECTS_UNCHANGED, Invariant.FOLDER_HAS_ONE_OWNER, Invariant.DESIRED_STATE_REACHED, within=400),
    mutant(share_every_folder, Invariant.FOLDER_HAS_ONE_OWNER),
    mutant(take_a_folder_without_looking, Invariant.FOLDER_HAS_ONE_OWNER, within=400),
    mutant(note_in_the_record_of_others, Invariant.FOLDER_HAS_ONE_OWNER),
    mutant(forget_which_claim_it_was, Invariant.LOST_KEYS_ARE_REPORTED, Invariant.DESIRED_STATE_REACHED, within=400),
    mutant(continue_where_no_driver_runs, Invariant.SETTINGS_FIT_KEYS, Invariant.UNUSABLE_SPEC_KEEPS_DRIVER),
    mutant(roll_for_a_new_image, Invariant.UPGRADE_STOPS_NO_DRIVER),
    mutant(keep_the_old_image, Invariant.STARTS_USE_CURRENT_IMAGE),
    mutant(ask_the_next_run, Invariant.DESIRED_STATE_REACHED, within=2000),
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_operator_is_found(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant.breaks(monkeypatch)
    function_cache.clear_cache()
    try:
        for seed, found in run_seeds(range(mutant.within)):
            if isinstance(found, Violation):
                print(f"{mutant.breaks.__name__}: seed {seed}: {found}")
                assert found.invariant in mutant.invariants, f"seed {seed}: {found}"
                return
        pytest.fail(f"not found in {mutant.within} seeds")
    finally:
        function_cache.clear_cache()
