"""Thousands of seeds, each with all laws after every step. A seed that fails is printed with the command that plays it again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dedup_api.reasons import Reason
from simulation.api_server import Address, ApiServer, Event, Json, copy_body
from simulation.faults import Fault
from simulation.invariants import Violation
from simulation.run import Coverage, Simulation, run_seed, run_seeds
from simulation.users import WEIGHTS, Action

HERE = Path(__file__).parent
REPLAY = "PYTHONPATH=tests python -m simulation --seed"
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
"""Changes of the trigger: over all seeds each happens on both sides, over some hundred at least on one."""


def test_all_laws_hold(chunk: range) -> None:
    failed = [f"seed {seed}: {found}\n    {REPLAY} {seed}" for seed, found in run_seeds(chunk) if isinstance(found, Violation)]
    assert not failed, "\n".join(failed)


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    """Of some hundred seeds."""
    found = Coverage()
    for seed, of_seed in run_seeds(range(600)):
        assert isinstance(of_seed, Coverage), f"seed {seed}: {of_seed}"
        found.add(of_seed)
    return found


def test_every_fault_every_action_and_every_decision_happens(coverage: Coverage) -> None:
    assert [fault.name for fault in Fault if not coverage.faults[fault]] == []
    assert [action.name for action in (Action.CREATE, Action.CREATE_CONFLICTING_OBJECT, *WEIGHTS) if not coverage.actions[action]] == []
    assert DECISIONS - coverage.decisions.keys() == set()
    assert {Reason.CHECKPOINT_TAKEN, Reason.CHECKPOINT_PENDING} <= coverage.refusals.keys()
    assert coverage.upgrades > 0


def test_the_operator_dies_before_and_after_every_kind_of_write(coverage: Coverage) -> None:
    missed = [(write, when) for write in sorted(WRITES) for when in ("before", "after") if not coverage.crashes[write, when]]
    assert missed == []
    assert [write for write in sorted(RARE_WRITES) if not (coverage.crashes[write, "before"] or coverage.crashes[write, "after"])] == []


def test_nobody_changes_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server gives away what it stores, and nobody makes a copy before there is something to change."""
    kept: list[tuple[Json, Json]] = []
    real = ApiServer._store

    def store(server: ApiServer, event: Event, address: Address, body: Json, actor: str) -> None:
        real(server, event, address, body, actor)
        kept.append((body, copy_body(body)))

    monkeypatch.setattr(ApiServer, "_store", store)
    for seed in range(100):
        run_seed(seed)
    assert [body for body, before in kept if body != before] == []


def test_a_seed_is_one_history() -> None:
    """Also in another process, where sets have another order."""
    command = [sys.executable, "-m", "simulation", "--seed"]
    for seed in ("3", "11"):
        histories: Counter[str] = Counter()
        for hash_seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
            histories[subprocess.run([*command, seed], env=environment, capture_output=True, text=True, check=True).stdout] += 1
        assert len(histories) == 1
        simulation = Simulation(int(seed), trace=True)
        simulation.run()
        assert "\n".join(simulation.history or []) in next(iter(histories))
