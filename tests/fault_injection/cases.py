"""Lists and draws the fault cases, runs many of them at the same time, and describes those that fail."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fault_injection.faults import ONLY_NEW_WATCH, RECOVERY_INTERVALS, SHORT_INTERVALS, SLOW, Fault, FaultPlan, Intervals
from fault_injection.harness import Harness
from fault_injection.runs import Outcome, ScenarioRun
from fault_injection.scenarios import SCENARIOS

AT_ONCE = 6
"""Runs at the same time: each of them mostly waits. With more, two cores are the limit and every run takes longer."""
SLOW_AT_ONCE = 8
"""Runs with a fault of SLOW at the same time: each waits half a minute for a timeout."""
SAMPLE_SIZE = 48
UNSEEN_CREATE_AND_EDIT = {"create", "edit"}
"""The scenarios whose user change the operator always misses once in a sample of lost events."""
LOST_EVENT_SAMPLE_SIZE = 4
SHOWN_FAILURES = 6
"""So many failures are shown with all details. Of the others the titles are shown."""


@dataclass(frozen=True, order=True)
class Case:
    """One fault at one write of one scenario."""

    scenario: str
    fault: Fault
    at: int
    intervals: Intervals = SHORT_INTERVALS

    @property
    def plan(self) -> FaultPlan:
        return FaultPlan(self.fault, self.at, self.intervals)


Baselines = Mapping[str, Outcome]
"""By scenario: its run without a fault."""


async def run_baselines(harness: Harness, scenarios: Iterable[str] = SCENARIOS, known: Baselines | None = None) -> dict[str, Outcome]:
    """Runs each scenario once without a fault. With `known`, each must end as it did in that earlier run."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def run(name: str) -> Outcome:
        async with limit:
            return await ScenarioRun(harness, SCENARIOS[name]).execute(None, known[name] if known else None)

    outcomes = await asyncio.gather(*map(run, scenarios))
    return {outcome.scenario: outcome for outcome in outcomes}


def list_cases(baselines: Baselines) -> list[Case]:
    """Every fault at every write of every scenario."""
    return [Case(name, fault, at) for name, outcome in baselines.items() for fault in Fault for at in range(1, len(outcome.writes) + 1)]


def draw_cases(baselines: Baselines, seed: int) -> list[Case]:
    """A sample that contains every scenario and every fault several times, but only one case with a fault of SLOW."""
    rng = random.Random(seed)
    scenarios = [name for name, outcome in baselines.items() if outcome.writes]
    faults = [fault for fault in Fault if fault not in SLOW]
    rng.shuffle(scenarios)
    rng.shuffle(faults)

    def draw(name: str, fault: Fault) -> Case:
        # Every draw takes one random number. A baseline may have one write more or less; the other draws must not
        # change with it.
        return Case(name, fault, 1 + int(rng.random() * len(baselines[name].writes)))

    pairs = [(scenarios[at % len(scenarios)], faults[(at + at // len(scenarios)) % len(faults)]) for at in range(SAMPLE_SIZE)]
    return sorted({draw(name, rng.choice(sorted(SLOW))) for name in scenarios[:1]} | {draw(*pair) for pair in pairs})


def list_lost_event_cases(baselines: Baselines) -> list[Case]:
    """Events lost at every write and at the user's own change, with intervals that leave the operator one way to
    recover.

    A scenario that needs the resync is left out where only a new watch may help: no watch reports its change.
    """
    places = [(name, at) for name, outcome in baselines.items() for at in range(len(outcome.writes) + 1)]
    cases = [Case(name, fault, at, intervals) for fault, intervals in RECOVERY_INTERVALS.items() for name, at in places]
    return [case for case in cases if case.intervals != ONLY_NEW_WATCH or not SCENARIOS[case.scenario].needs_resync]


def draw_lost_event_cases(baselines: Baselines, seed: int) -> list[Case]:
    """A new DedupJob and an edit of whose events the operator receives none, and some cases that are drawn."""
    cases = list_lost_event_cases(baselines)
    chosen = [case for case in cases if case.scenario in UNSEEN_CREATE_AND_EDIT and case.at == 0]
    return sorted({*chosen, *random.Random(seed).sample(cases, LOST_EVENT_SAMPLE_SIZE)})


async def run_cases(harness: Harness, cases: Iterable[Case], baselines: Baselines, report: Callable[[str], None]) -> list[Outcome]:
    """Runs all cases in a mixed order, so that a test that is stopped early has run some of everything. Slow cases have
    their own limit."""
    listed = sorted(cases)
    random.Random(len(listed)).shuffle(listed)
    limits = {True: asyncio.Semaphore(SLOW_AT_ONCE), False: asyncio.Semaphore(AT_ONCE)}
    started, done, failed = time.monotonic(), 0, 0

    async def run(case: Case) -> Outcome:
        nonlocal done, failed
        async with limits[case.fault in SLOW]:
            outcome = await ScenarioRun(harness, SCENARIOS[case.scenario]).execute(case.plan, baselines[case.scenario])
        done, failed = done + 1, failed + bool(outcome.problem)
        result = "FAILED" if outcome.problem else "ok" if outcome.fault_injected else "not reached"
        seconds = time.monotonic() - started
        report(f"{done}/{len(listed)} {seconds:.0f} s, {failed} failed: {outcome.title}: {result}, {outcome.seconds:.1f} s")
        return outcome

    return await asyncio.gather(*map(run, listed))


def describe_failures(outcomes: Sequence[Outcome], seed: int | None = None) -> str:
    """Returns an empty string when no run failed."""
    failed = [outcome for outcome in outcomes if outcome.problem]
    if not failed:
        return ""
    repeat = f" To repeat the sample, set DEDUP_SEED={seed}." if seed is not None else ""
    titles = "\n".join(f"  {outcome.title}" for outcome in failed)
    shown = "\n\n".join(f"=== {outcome.title}\n{outcome.problem}" for outcome in failed[:SHOWN_FAILURES])
    summary = f"{len(failed)} of {len(outcomes)} runs did not end like their baseline, the run without a fault.{repeat}"
    one = "To repeat one run: PYTHONPATH=tests .venv/bin/python -m fault_injection SCENARIO --fault FAULT --at NUMBER"
    return f"{summary}\n{one}\n{titles}\n\n{shown}"
