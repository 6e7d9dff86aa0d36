"""The watches of the operator: one for each namespace of --namespace, or one for all namespaces.

A namespace can go away, and its RoleBinding with it, while the operator works in others. Each watch therefore runs kopf
in a thread of its own: kopf ends when one of its requests is refused, and while it ends it cancels every task of its
event loop. A watch that cannot run is retried alone, and the operator reconciles no DedupJob of its namespace until
then.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from dedup_operator.adapters.kube import Kube, Resource
from dedup_operator.domain.errors import DedupOperatorError
from dedup_operator.domain.types import Key

RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 60.0
"""The operator notices within this time that a namespace is back."""
START_POLL_SECONDS = 0.05
WATCHED = (
    Resource.DEDUP_JOBS,
    Resource.STATEFUL_SETS,
    Resource.JOBS,
    Resource.CRON_JOBS,
    Resource.PODS,
    Resource.CLAIMS,
    Resource.CONFIG_MAPS,
)

logger = logging.getLogger(__name__)

RunKopf = Callable[[str | None, threading.Event, threading.Event], Awaitable[None]]
"""Runs kopf for one namespace, or for all if the first argument is None. It sets the first event when it has started, and
ends when the second one is set. See `handlers.run_kopf`."""
Report = Callable[[str | None, bool], None]
"""Told about each change: the namespace, and whether its watch runs."""


@dataclass
class Watch:
    """The watch of one namespace, or of all namespaces if `namespace` is None."""

    kube: Kube
    namespace: str | None
    run_kopf: RunKopf
    report: Report
    problem: str = "the watch has not started yet"
    """Why the watch does not run. Empty while it runs."""
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def where(self) -> str:
        return f"namespace {self.namespace}" if self.namespace else "all namespaces"

    async def run(self) -> None:
        """Runs until cancelled."""
        self.report(self.namespace, False)
        failures = 0
        while True:
            problem = await self._find_problem()
            if not problem:
                failures = 0
                problem = await self._watch()
            failures += 1
            pause = min(RETRY_SECONDS * 2 ** min(failures - 1, 10), MAX_RETRY_SECONDS)
            logger.warning("the operator does not watch %s: %s; it retries in %.0f s", self.where, problem, pause)
            self._set_problem(problem)
            await asyncio.sleep(pause)

    async def _find_problem(self) -> str:
        """Asks for one object of each kind: kopf looks up the CRD only once, and does not say which right it lacks."""
        for resource in WATCHED:
            try:
                await self.kube.list_some(resource, self.namespace)
            except DedupOperatorError as error:
                return f"cannot list {resource.value[1]}: {error}"
        return ""

    async def _watch(self) -> str:
        """Runs kopf in a thread. Returns why it has ended."""
        started, self._stop = threading.Event(), threading.Event()
        thread = asyncio.create_task(asyncio.to_thread(self._run_thread, started, self._stop))
        try:
            while not started.is_set() and not thread.done():  # noqa: ASYNC110  another thread sets the event
                await asyncio.sleep(START_POLL_SECONDS)
            if not thread.done():
                self._set_problem("")
                logger.info("the operator watches %s", self.where)
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            self._stop.set()
            await asyncio.wait([thread])
            raise

    def _run_thread(self, started: threading.Event, stop: threading.Event) -> str:
        try:
            asyncio.run(self._await_kopf(started, stop))
        except Exception as error:  # noqa: BLE001  whatever ends a watch, the operator retries it
            return f"the watch failed: {error or type(error).__name__}"
        return "the watch ended"

    async def _await_kopf(self, started: threading.Event, stop: threading.Event) -> None:
        await self.run_kopf(self.namespace, started, stop)

    def _set_problem(self, problem: str) -> None:
        if bool(problem) != bool(self.problem) or not problem:
            self.report(self.namespace, not problem)
        self.problem = problem


@dataclass
class Watches:
    watches: tuple[Watch, ...]

    def covers(self, key: Key) -> bool:
        """Whether the operator watches the namespace of this DedupJob now."""
        return any(not watch.problem and watch.namespace in {None, key.namespace} for watch in self.watches)

    def list_watched(self) -> list[str | None]:
        return [watch.namespace for watch in self.watches if not watch.problem]

    def list_problems(self) -> list[str]:
        return [f"the operator does not watch {watch.where}: {watch.problem}" for watch in self.watches if watch.problem]

    async def run(self) -> None:
        """Runs all watches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in self.watches:
                group.create_task(watch.run(), name=f"watch of {watch.where}")


def build_watches(kube: Kube, namespaces: Iterable[str], run_kopf: RunKopf, report: Report) -> Watches:
    """`namespaces`: empty for all namespaces."""
    return Watches(tuple(Watch(kube, namespace, run_kopf, report) for namespace in tuple(namespaces) or (None,)))
