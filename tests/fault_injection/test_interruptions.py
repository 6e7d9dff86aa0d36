"""Whatever happens between operator and API server, a DedupJob ends as it would have without it, and nothing is made twice.

The undisturbed run of each scenario says how many writes there are, what stands there in the end and how many objects were ever made.
Then the operator is killed, or lied to, at one of these writes. No two drivers may ever have been on one checkpoint, and the job may
not have been called unready for another reason than undisturbed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import pytest_asyncio

from fault_injection.harness import Plane
from fault_injection.matrix import Rehearsals, describe_failures, draw_cases, draw_lost, list_cases, list_lost, rehearse, run_cases
from fault_injection.runs import Outcome
from fault_injection.scenarios import SCENARIOS

pytestmark = pytest.mark.asyncio(loop_scope="session")

REACHED = 0.75
"""Share of the runs in which the planned write came at all: a run may take fewer writes than the undisturbed one."""


Report = Callable[[str], None]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Shows a line while the test goes on."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    return show


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rehearsals(plane: Plane) -> Rehearsals:
    outcomes = await rehearse(plane)
    problems = describe_failures(list(outcomes.values()))
    assert not problems, problems
    return outcomes


async def test_every_scenario_writes(rehearsals: Rehearsals) -> None:
    assert {name for name, outcome in rehearsals.items() if outcome.writes} == set(SCENARIOS)


async def test_undisturbed_runs_agree(plane: Plane, rehearsals: Rehearsals) -> None:
    """Or the comparison would mean nothing."""
    again = await rehearse(plane, known=rehearsals)
    problems = describe_failures(list(again.values()))
    assert not problems, problems


@pytest.mark.timeout(1200)  # a minute or two where nothing else runs
async def test_a_sample_of_interruptions(plane: Plane, rehearsals: Rehearsals, seed: int, report: Report) -> None:
    outcomes = await run_cases(plane, draw_cases(rehearsals, seed), rehearsals, report)
    check(outcomes, seed)


async def test_lost_events_are_made_up_for_where_looks_are_rare(plane: Plane, rehearsals: Rehearsals, seed: int, report: Report) -> None:
    """By the list of all jobs, or by a watch that is renewed; among them the only event that told of a job."""

    check(await run_cases(plane, draw_lost(rehearsals, seed), rehearsals, report), seed)


@pytest.mark.full
@pytest.mark.timeout(7200)
async def test_every_lost_event(plane: Plane, rehearsals: Rehearsals, report: Report) -> None:
    check(await run_cases(plane, list_lost(rehearsals), rehearsals, report), None)


@pytest.mark.full
@pytest.mark.timeout(7200)
async def test_every_interruption(plane: Plane, rehearsals: Rehearsals, report: Report) -> None:
    check(await run_cases(plane, list_cases(rehearsals), rehearsals, report), None)


def check(outcomes: list[Outcome], seed: int | None) -> None:
    problems = describe_failures(outcomes, seed)
    assert not problems, problems
    assert sum(outcome.struck for outcome in outcomes) >= REACHED * len(outcomes)
