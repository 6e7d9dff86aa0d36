"""Which interruptions are run, and running many at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fault_injection.faults import BY_WATCH, HEALED_BY, OFTEN, SLOW, Fault, Pace, Plan
from fault_injection.harness import Plane
from fault_injection.runs import Outcome, Performance
from fault_injection.scenarios import SCENARIOS

AT_ONCE = 6
"""Runs side by side: each mostly waits. More make two cores the limit, and times grow for all."""
SLOW_AT_ONCE = 8
"""Those that wait half a minute for a timeout."""
SAMPLE = 48
UNHEARD_OF = {"create", "edit"}
LOST = 4
SHOWN = 6
"""Failures that are told in full."""


@dataclass(frozen=True, order=True)
class Case:
    scenario: str
    fault: Fault
    at: int
    pace: Pace = OFTEN

    @property
    def plan(self) -> Plan:
        return Plan(self.fault, self.at, self.pace)


Rehearsals = Mapping[str, Outcome]
"""The undisturbed run of each scenario."""


async def rehearse(plane: Plane, scenarios: Iterable[str] = SCENARIOS, known: Rehearsals | None = None) -> dict[str, Outcome]:
    """Each scenario once, undisturbed; with `known` it must end as it did then."""
    room = asyncio.Semaphore(AT_ONCE)

    async def run(name: str) -> Outcome:
        async with room:
            return await Performance(plane, SCENARIOS[name]).perform(None, known[name] if known else None)

    outcomes = await asyncio.gather(*map(run, scenarios))
    return {outcome.scenario: outcome for outcome in outcomes}


def list_cases(rehearsals: Rehearsals) -> list[Case]:
    """Every fault at every write of every scenario."""
    return [Case(name, fault, at) for name, outcome in rehearsals.items() for fault in Fault for at in range(1, len(outcome.writes) + 1)]


def draw_cases(rehearsals: Rehearsals, seed: int) -> list[Case]:
    """A sample that has every fault and every scenario in it several times; one of the slow faults once."""
    dice = random.Random(seed)
    scenarios = [name for name, outcome in rehearsals.items() if outcome.writes]
    faults = [fault for fault in Fault if fault not in SLOW]
    dice.shuffle(scenarios)
    dice.shuffle(faults)

    def draw(name: str, fault: Fault) -> Case:
        # One number for each draw: an undisturbed run may have one write more or less, and the rest must stay the same.
        return Case(name, fault, 1 + int(dice.random() * len(rehearsals[name].writes)))

    pairs = [(scenarios[at % len(scenarios)], faults[(at + at // len(scenarios)) % len(faults)]) for at in range(SAMPLE)]
    return sorted({draw(name, dice.choice(sorted(SLOW))) for name in scenarios[:1]} | {draw(*pair) for pair in pairs})


def list_lost(rehearsals: Rehearsals) -> list[Case]:
    """Events lost at every write, and at what people do, where looks are so rare that something else must make up for them."""
    places = [(name, at) for name, outcome in rehearsals.items() for at in range(len(outcome.writes) + 1)]
    told = {name for name in rehearsals if not SCENARIOS[name].untold}
    return [Case(name, fault, at, pace) for fault, pace in HEALED_BY.items() for name, at in places if pace != BY_WATCH or name in told]


def draw_lost(rehearsals: Rehearsals, seed: int) -> list[Case]:
    """A job that nobody heard of, an edit that nobody heard of, and some drawn ones."""
    cases = list_lost(rehearsals)
    chosen = [case for case in cases if case.scenario in UNHEARD_OF and case.at == 0]
    return sorted({*chosen, *random.Random(seed).sample(cases, LOST)})


async def run_cases(plane: Plane, cases: Iterable[Case], rehearsals: Rehearsals, report: Callable[[str], None]) -> list[Outcome]:
    """All of them, mixed: one that is stopped early has seen something of everything. The slow ones run beside the others."""
    listed = sorted(cases)
    random.Random(len(listed)).shuffle(listed)
    rooms = {True: asyncio.Semaphore(SLOW_AT_ONCE), False: asyncio.Semaphore(AT_ONCE)}
    begun, done, failed = time.monotonic(), 0, 0

    async def run(case: Case) -> Outcome:
        nonlocal done, failed
        async with rooms[case.fault in SLOW]:
            outcome = await Performance(plane, SCENARIOS[case.scenario]).perform(case.plan, rehearsals[case.scenario])
        done, failed = done + 1, failed + bool(outcome.problem)
        mark = "FAILED" if outcome.problem else "ok" if outcome.struck else "not reached"
        report(f"{done}/{len(listed)} {time.monotonic() - begun:.0f} s, {failed} failed: {outcome.title}: {mark}, {outcome.seconds:.1f} s")
        return outcome

    return await asyncio.gather(*map(run, listed))


def describe_failures(outcomes: Sequence[Outcome], seed: int | None = None) -> str:
    """Empty where none failed."""
    failed = [outcome for outcome in outcomes if outcome.problem]
    if not failed:
        return ""
    again = f" (again: DEDUP_SEED={seed})" if seed is not None else ""
    titles = "\n".join(f"  {outcome.title}" for outcome in failed)
    told = "\n\n".join(f"=== {outcome.title}\n{outcome.problem}" for outcome in failed[:SHOWN])
    return f"{len(failed)} of {len(outcomes)} runs did not end like the undisturbed one{again}:\n{titles}\n\n{told}"
