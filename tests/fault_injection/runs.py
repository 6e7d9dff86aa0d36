"""One run: a scenario with a mistake in it, and whether it ended like the run without one."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from fault_injection.api import Json
from fault_injection.environment import wait_until
from fault_injection.faults import OFTEN, Plan
from fault_injection.harness import Plane
from fault_injection.operators import Operator
from fault_injection.proxy import Proxy
from fault_injection.scenarios import Scenario
from fault_injection.state import build_state, describe_difference

SETTLED_SECONDS = 1.2
"""One look of the operator and some more: what is equal for so long stays so."""
QUIET_SECONDS = 3.5
"""For the undisturbed run, which has nothing to be equal to: several looks."""
END_SECONDS = 60.0
CRASH_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class End:
    """What is compared."""

    state: Json
    counts: dict[str, int]


@dataclass
class Outcome:
    scenario: str
    plan: Plan | None
    end: End | None = None
    writes: list[str] = field(default_factory=list)
    problem: str = ""
    troubles: set[str] = field(default_factory=set)
    """Every reason for which the job was not ready, however short."""
    struck: bool = False
    """The mistake was made; a run with fewer writes than planned for tells nothing."""
    seconds: float = 0.0

    @property
    def title(self) -> str:
        if self.plan is None:
            return f"{self.scenario} undisturbed"
        rarely = "" if self.plan.pace == OFTEN else ", looks are rare"
        return f"{self.scenario} {self.plan.fault} at write {self.plan.at}{rarely}"


class Performance:
    """The surroundings of one run: a namespace, a proxy, and an operator that is always started again."""

    def __init__(self, plane: Plane, scenario: Scenario) -> None:
        self._plane, self._scenario = plane, scenario
        self._operator: Operator | None = None

    async def perform(self, plan: Plan | None, expected: Outcome | None) -> Outcome:
        outcome = Outcome(self._scenario.name, plan)
        begun = time.monotonic()
        namespace = await self._plane.create_namespace()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._plane.node.forget, namespace)
            proxy = await stack.enter_async_context(Proxy(self._plane.api, self._replace_operator))
            self._operator = self._plane.prepare_operator(namespace, proxy.render_kubeconfig(), plan.pace if plan else OFTEN)
            stack.push_async_callback(self._operator.kill)
            await self._operator.start()
            keeper = asyncio.create_task(self._keep_alive(self._operator))
            stack.callback(keeper.cancel)
            try:
                await self._play(namespace, proxy, plan, expected, outcome)
            except Exception as error:  # noqa: BLE001  one failure must not end the other runs
                outcome.problem = f"{type(error).__name__}: {error}"
            if outcome.problem:
                outcome.problem += f"\nwrites: {proxy.writes}\n{self._operator.describe()}"
            outcome.struck = proxy.struck
            outcome.writes = list(proxy.writes)
        outcome.seconds = time.monotonic() - begun
        return outcome

    async def _play(self, namespace: str, proxy: Proxy, plan: Plan | None, expected: Outcome | None, outcome: Outcome) -> None:
        stage = self._plane.open_stage(namespace)
        await self._scenario.prepare(stage)
        if plan is not None and plan.at == 0:
            await wait_until(proxy.is_at_rest, "the operator is at rest")
        proxy.arm(plan)
        await self._scenario.act(stage)
        undisturbed = expected.end if expected is not None else None
        outcome.end = await (self._wait_quiet(namespace) if undisturbed is None else self._wait_equal(namespace, undisturbed, outcome))
        outcome.troubles = self._plane.census.list_troubles(namespace)
        overlaps = self._plane.drivers.find_overlaps(namespace)
        if overlaps:
            outcome.problem += f"\ntwo drivers on one checkpoint: {overlaps}"
        pods = outcome.end.counts.get("pods", 0)
        if self._scenario.pods not in {None, pods}:
            outcome.problem += f"\n{pods} pods instead of {self._scenario.pods}"
        if proxy.vague:
            outcome.problem += f"\nwrites that do not say which object they mean: {proxy.vague}"
        if expected is not None and outcome.troubles - expected.troubles:
            # What ails the connection is no fault of the job's, and nobody is to be woken for it.
            outcome.problem += f"\nnot ready for a reason that is not there: {sorted(outcome.troubles - expected.troubles)}"

    async def _replace_operator(self) -> None:
        assert self._operator is not None
        await self._operator.kill()
        await self._operator.start()

    async def _keep_alive(self, operator: Operator) -> None:
        """One that ends by itself is started again too, as kubelet would."""
        while True:
            await asyncio.sleep(CRASH_POLL_SECONDS)
            if await operator.has_ended():
                await operator.start()

    def _look(self, namespace: str) -> End:
        census = self._plane.census
        return End(build_state(census.list_present(namespace), namespace), census.count(namespace))

    async def _wait_quiet(self, namespace: str) -> End:
        """Until nothing has changed for some time."""
        last, since = self._look(namespace), time.monotonic()

        async def look() -> bool:
            nonlocal last, since
            found = self._look(namespace)
            if found != last:
                last, since = found, time.monotonic()
            return time.monotonic() - since > QUIET_SECONDS

        await wait_until(look, "the undisturbed run comes to rest")
        return last

    async def _wait_equal(self, namespace: str, expected: End, outcome: Outcome) -> End:
        """Until the end is as it should be and stays so for a while, or for ever is over."""
        found, since = self._look(namespace), time.monotonic()
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            if found != expected:
                since = time.monotonic()
            elif time.monotonic() - since > SETTLED_SECONDS:
                return found
            await asyncio.sleep(0.2)
            found = self._look(namespace)
        outcome.problem = describe_difference(vars(expected), vars(found))
        return found
