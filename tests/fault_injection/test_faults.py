"""Whatever goes wrong between operator and API server, every scenario ends as it does without a fault, and no object is
created twice.

The baseline of each scenario says how many writes the operator sends, which objects exist in the end, and how many
objects were created. Each other run injects one fault at one of these writes. `fault_injection/__init__.py` lists what
a run must fulfil, and says how to repeat a run that failed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import pytest_asyncio

from fault_injection.cases import (
    Baselines,
    describe_failures,
    draw_cases,
    draw_lost_event_cases,
    list_cases,
    list_lost_event_cases,
    run_baselines,
    run_cases,
)
from fault_injection.harness import Harness
from fault_injection.runs import Outcome
from fault_injection.scenarios import SCENARIOS

pytestmark = pytest.mark.asyncio(loop_scope="session")

INJECTED_SHARE = 0.75
"""In at least this share of the runs the fault must happen. A run may have fewer writes than its baseline: then the
fault does not happen."""

Report = Callable[[str], None]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Prints a line while the test still runs."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    return show


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def baselines(harness: Harness) -> Baselines:
    outcomes = await run_baselines(harness)
    problems = describe_failures(list(outcomes.values()))
    assert not problems, problems
    return outcomes


async def test_every_scenario_writes(baselines: Baselines) -> None:
    assert {name for name, outcome in baselines.items() if outcome.writes} == set(SCENARIOS)


async def test_two_runs_without_a_fault_end_the_same(harness: Harness, baselines: Baselines) -> None:
    """Otherwise a difference in the other tests would prove nothing."""
    again = await run_baselines(harness, known=baselines)
    problems = describe_failures(list(again.values()))
    assert not problems, problems


@pytest.mark.timeout(1200)  # it takes a minute or two on a machine that does nothing else
async def test_a_sample_of_faults_changes_nothing_in_the_end(harness: Harness, baselines: Baselines, seed: int, report: Report) -> None:
    outcomes = await run_cases(harness, draw_cases(baselines, seed), baselines, report)
    check(outcomes, seed)


async def test_the_operator_recovers_from_lost_events(harness: Harness, baselines: Baselines, seed: int, report: Report) -> None:
    """The operator almost never reconciles without an event here. It must recover by its list of all jobs, or when it
    opens its watches again. In two of the cases it misses the event of a new job and of an edit."""
    check(await run_cases(harness, draw_lost_event_cases(baselines, seed), baselines, report), seed)


@pytest.mark.full
@pytest.mark.timeout(7200)
async def test_the_operator_recovers_from_every_lost_event(harness: Harness, baselines: Baselines, report: Report) -> None:
    check(await run_cases(harness, list_lost_event_cases(baselines), baselines, report), None)


@pytest.mark.full
@pytest.mark.timeout(7200)
async def test_every_fault_at_every_write_changes_nothing_in_the_end(harness: Harness, baselines: Baselines, report: Report) -> None:
    check(await run_cases(harness, list_cases(baselines), baselines, report), None)


def check(outcomes: list[Outcome], seed: int | None) -> None:
    problems = describe_failures(outcomes, seed)
    assert not problems, problems
    injected = sum(outcome.fault_injected for outcome in outcomes)
    assert injected >= INJECTED_SHARE * len(outcomes), (
        f"the fault happened in only {injected} of {len(outcomes)} runs: the others had fewer writes"
    )
