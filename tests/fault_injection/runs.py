"""Runs one scenario with one fault, and compares its end with the end of the baseline, which is the run without a
fault."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from fault_injection.api import Json
from fault_injection.environment import wait_until
from fault_injection.faults import SHORT_INTERVALS, FaultPlan
from fault_injection.harness import Harness
from fault_injection.operators import Operator
from fault_injection.proxy import Proxy
from fault_injection.scenarios import Scenario
from fault_injection.state import build_state, describe_difference

STABLE_SECONDS = 1.2
"""More than one resync of the operator (`SHORT_INTERVALS`): objects that are equal for so long do not change again."""
BASELINE_STABLE_SECONDS = 3.5
"""Several resyncs: a baseline has nothing to be compared with, so it waits longer before it counts as ended."""
RUN_SECONDS = 60.0
CRASH_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class EndState:
    """What is compared: objects in their final form, and how many objects of each kind there ever were."""

    state: Json
    counts: dict[str, int]


@dataclass
class Outcome:
    scenario: str
    plan: FaultPlan | None
    end: EndState | None = None
    writes: list[str] = field(default_factory=list)
    problem: str = ""
    not_ready_reasons: set[str] = field(default_factory=set)
    """Every reason that the condition Ready had with status False, however short."""
    fault_injected: bool = False
    """False where the run had fewer writes than the plan's number: such a run proves nothing."""
    seconds: float = 0.0

    @property
    def title(self) -> str:
        if self.plan is None:
            return f"{self.scenario} without a fault"
        long = "" if self.plan.intervals == SHORT_INTERVALS else " (--events-only)"
        return f"{self.scenario} {self.plan.fault} at write {self.plan.at}{long}"


class ScenarioRun:
    """A namespace, a proxy and an operator for one run. The operator is started again whenever it has ended."""

    def __init__(self, harness: Harness, scenario: Scenario) -> None:
        self._harness, self._scenario = harness, scenario
        self._operator: Operator | None = None

    async def execute(self, plan: FaultPlan | None, expected: Outcome | None) -> Outcome:
        outcome = Outcome(self._scenario.name, plan)
        started = time.monotonic()
        namespace = await self._harness.create_namespace()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._harness.node.stop_namespace, namespace)
            proxy = await stack.enter_async_context(Proxy(self._harness.api, self._replace_operator))
            intervals = plan.intervals if plan else SHORT_INTERVALS
            self._operator = self._harness.prepare_operator(namespace, proxy.render_kubeconfig(), intervals)
            stack.push_async_callback(self._operator.kill)
            await self._operator.start()
            restarter = asyncio.create_task(self._restart_when_ended(self._operator))
            stack.callback(restarter.cancel)
            try:
                await self._run_scenario(namespace, proxy, plan, expected, outcome)
            except Exception as error:  # noqa: BLE001  one failure must not end the other runs
                outcome.problem = f"{type(error).__name__}: {error}"
            if outcome.problem:
                outcome.problem += f"\nwrites of the operator: {proxy.writes}\nend of its log:\n{self._operator.describe()}"
            outcome.fault_injected = proxy.fault_injected
            outcome.writes = list(proxy.writes)
        outcome.seconds = time.monotonic() - started
        return outcome

    async def _run_scenario(self, namespace: str, proxy: Proxy, plan: FaultPlan | None, expected: Outcome | None, outcome: Outcome) -> None:
        environment = self._harness.open_environment(namespace)
        await self._scenario.prepare(environment)
        if plan is not None and plan.at == 0:
            await wait_until(proxy.is_idle, "the operator has opened its watches and sends nothing")
        proxy.arm(plan)
        await self._scenario.act(environment)
        if expected is None or expected.end is None:
            outcome.end = await self._wait_until_stable(namespace)
        else:
            outcome.end = await self._wait_until_equal(namespace, expected.end, outcome)
        outcome.not_ready_reasons = self._harness.object_counts.list_not_ready_reasons(namespace)
        outcome.problem += self._find_broken_promises(namespace, proxy, outcome, expected)

    def _find_broken_promises(self, namespace: str, proxy: Proxy, outcome: Outcome, expected: Outcome | None) -> str:
        assert outcome.end is not None
        problem = ""
        overlaps = self._harness.drivers.find_overlaps(namespace)
        if overlaps:
            problem += f"\nTwo drivers used one checkpoint at the same time: {overlaps}"
        pods = outcome.end.counts.get("pods", 0)
        if self._scenario.pods not in {None, pods}:
            problem += f"\nThe run created {pods} pods; the scenario needs exactly {self._scenario.pods}."
        if proxy.unconditional_writes:
            problem += f"\nThese writes name no UID or no resourceVersion, so they could hit another object: {proxy.unconditional_writes}"
        if expected is not None and outcome.not_ready_reasons - expected.not_ready_reasons:
            # A lost connection is not the DedupJob's problem. Ready must not report it, as it would wake somebody for
            # nothing.
            reasons = sorted(outcome.not_ready_reasons - expected.not_ready_reasons)
            problem += f"\nReady was False with reasons that the baseline never had: {reasons}"
        return problem

    async def _replace_operator(self) -> None:
        assert self._operator is not None
        await self._operator.kill()
        await self._operator.start()

    async def _restart_when_ended(self, operator: Operator) -> None:
        """Starts an operator again that nobody killed, as kubelet would."""
        while True:
            await asyncio.sleep(CRASH_POLL_SECONDS)
            if await operator.has_ended():
                await operator.start()

    def _observe(self, namespace: str) -> EndState:
        counts = self._harness.object_counts
        return EndState(build_state(counts.list_present(namespace), namespace), counts.count(namespace))

    async def _wait_until_stable(self, namespace: str) -> EndState:
        """Waits until nothing has changed for BASELINE_STABLE_SECONDS."""
        last, since = self._observe(namespace), time.monotonic()

        async def is_stable() -> bool:
            nonlocal last, since
            found = self._observe(namespace)
            if found != last:
                last, since = found, time.monotonic()
            return time.monotonic() - since > BASELINE_STABLE_SECONDS

        await wait_until(is_stable, f"no object changes for {BASELINE_STABLE_SECONDS} s in the run without a fault")
        return last

    async def _wait_until_equal(self, namespace: str, expected: EndState, outcome: Outcome) -> EndState:
        """Waits until the objects equal the expected ones for STABLE_SECONDS, or until RUN_SECONDS are over."""
        found, since = self._observe(namespace), time.monotonic()
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            if found != expected:
                since = time.monotonic()
            elif time.monotonic() - since > STABLE_SECONDS:
                return found
            await asyncio.sleep(0.2)
            found = self._observe(namespace)
        outcome.problem = describe_difference(vars(expected), vars(found))
        return found
