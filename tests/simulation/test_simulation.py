"""Runs thousands of seeds, each with all invariants. `simulation/__init__.py` says what to do when a seed fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from dedup_api.reasons import Reason
from simulation.api_server import Address, ApiServer, Event, Json, copy_body
from simulation.faults import Fault
from simulation.invariants import Violation
from simulation.run import CHUNK, COVERAGE_SEEDS, Coverage, Simulation, run_seed, run_seeds
from simulation.users import WEIGHTS, Action

HERE = Path(__file__).parent
REPLAY = "PYTHONPATH=tests .venv/bin/python -m simulation --seed"
DECISIONS = {
    "Start",
    "Keep",
    "ScaleDownForRestart",
    "Suspend",
    "Suspended",
    "Wait",
    "Refuse",
    "GiveUp",
    "UpdateSchedule",
    "RepairDrift",
    "RemoveWorkload",
}
WRITES = {
    "create persistentvolumeclaims",
    "create configmaps",
    "create services",
    "create statefulsets",
    "replace statefulsets",
    "replace persistentvolumeclaims",
    "delete configmaps",
    "status dedupjobs",
    "report events",
    "create jobs",
    "create cronjobs",
}
RARE_WRITES = {"delete statefulsets", "delete jobs", "delete cronjobs", "replace jobs", "replace cronjobs"}
"""Writes after a change of the trigger. In some hundred seeds the operator dies before or after each of them, in all
seeds both happen."""


@cache
def run_chunk(chunk: range) -> list[tuple[int, Coverage | Violation]]:
    """Cached, because the coverage is counted in runs that also belong to a test of the invariants."""
    return list(run_seeds(chunk))


def test_no_seed_violates_an_invariant(chunk: range) -> None:
    results = [(seed, found) for seed, found in run_chunk(chunk) if isinstance(found, Violation)]
    failed = [f"seed {seed}: {found}\n    its history: {REPLAY} {seed}" for seed, found in results]
    assert not failed, "\n".join(failed)


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    """What happened in some hundred seeds."""
    found = Coverage()
    for first in range(0, COVERAGE_SEEDS, CHUNK):
        for seed, of_seed in run_chunk(range(first, first + CHUNK)):
            assert isinstance(of_seed, Coverage), f"seed {seed}: {of_seed}"
            found.add(of_seed)
    return found


@pytest.mark.xdist_group("coverage")
def test_every_fault_every_action_and_every_decision_happens(coverage: Coverage) -> None:
    advice = "never happened in 600 seeds. Raise its probability in simulation/faults.py or its weight in simulation/users.py"
    faults = [fault.name for fault in Fault if not coverage.faults[fault]]
    assert not faults, f"the faults {faults} {advice}"
    actions = [action.name for action in (Action.CREATE, Action.CREATE_CONFLICTING_OBJECT, *WEIGHTS) if not coverage.actions[action]]
    assert not actions, f"the actions {actions} {advice}"
    decisions = sorted(DECISIONS - coverage.decisions.keys())
    assert not decisions, f"the operator never made the decisions {decisions}. Let users or faults cause them, or correct DECISIONS here"
    unknown = sorted(coverage.decisions.keys() - DECISIONS)
    assert not unknown, f"add the decisions {unknown} to DECISIONS in {HERE.name}/{Path(__file__).name}"
    refusals = {Reason.CHECKPOINT_TAKEN, Reason.CHECKPOINT_PENDING} - coverage.refusals.keys()
    assert not refusals, f"the operator never refused a job with {sorted(refusals)}: see User._choose_folder in simulation/users.py"
    assert coverage.upgrades > 0, "no seed upgraded the operator: raise UPGRADE_PROBABILITY in simulation/run.py"


@pytest.mark.xdist_group("coverage")
def test_the_operator_dies_before_and_after_every_kind_of_write(coverage: Coverage) -> None:
    missed = [f"{when} {write}" for write in sorted(WRITES) for when in ("before", "after") if not coverage.crashes[write, when]]
    assert not missed, f"the operator never died {', '.join(missed)}. Let users cause this write more often, or correct WRITES here"
    rare = [write for write in sorted(RARE_WRITES) if not (coverage.crashes[write, "before"] or coverage.crashes[write, "after"])]
    assert not rare, f"the operator never died at {', '.join(rare)}. Let users cause this write more often, or correct RARE_WRITES here"


def test_nobody_changes_a_stored_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server returns its stored objects without copying them. Who changes an object must copy it first."""
    kept: list[tuple[Json, Json]] = []
    real = ApiServer._store

    def store(server: ApiServer, event: Event, address: Address, body: Json, actor: str) -> None:
        real(server, event, address, body, actor)
        kept.append((body, copy_body(body)))

    monkeypatch.setattr(ApiServer, "_store", store)
    for seed in range(100):
        run_seed(seed)
    changed = [before["metadata"]["name"] for body, before in kept if body != before]
    assert not changed, f"somebody changed stored objects without a copy: {changed[:10]}. Use copy_body or deepcopy before the change"


def test_a_seed_always_has_the_same_history() -> None:
    """Also in another process with another hash seed, where sets have another order."""
    command = [sys.executable, "-m", "simulation", "--seed"]
    for seed in ("3", "11"):
        histories: Counter[str] = Counter()
        for hash_seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
            histories[subprocess.run([*command, seed], env=environment, capture_output=True, text=True, check=True).stdout] += 1
        assert len(histories) == 1, f"seed {seed} has another history with another PYTHONHASHSEED: something iterates over a set"
        simulation = Simulation(int(seed), trace=True)
        simulation.run()
        assert "\n".join(simulation.history or []) in next(iter(histories))
