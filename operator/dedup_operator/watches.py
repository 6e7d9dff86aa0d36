"""The watches of the operator: one for each namespace of --namespace, or one for all namespaces.

A namespace can go away, and its RoleBinding with it, while the operator works in others. Each watch therefore runs kopf
in a thread of its own: kopf ends when one of its requests is refused, and while it ends it cancels every task of its
event loop. A watch that cannot run is retried alone, and the operator reconciles no DedupJob of its namespace until
then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from dedup_operator.adapters.kube import Kube, Resource
from dedup_operator.domain.errors import ApiUnavailable, DedupOperatorError
from dedup_operator.domain.types import Key
from dedup_operator.handlers import CHILDREN

RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 60.0
"""The operator notices within this time that a namespace is back."""
PROBE_SECONDS = 30.0
"""The operator notices within this time that a namespace or its rights are gone."""
STOP_SECONDS = 20.0
"""kopf ends within a few seconds. A thread that does not end does no harm; the process does not wait for it."""
START_POLL_SECONDS = 0.05
WATCHED = (Resource.DEDUP_JOBS, *(resource for resource in Resource if resource.value[1] in {plural for _, _, plural in CHILDREN}))

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
    _probes: int = 0

    @property
    def where(self) -> str:
        return f"namespace {self.namespace}" if self.namespace else "all namespaces"

    async def run(self) -> None:
        """Runs until cancelled."""
        self.report(self.namespace, False)
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                problem = await self._find_problem() or await self._watch()
            except Exception as error:
                logger.exception("the watch of %s failed", self.where)
                problem = f"the watch failed: {error or type(error).__name__}"
            failures = 0 if loop.time() - began > MAX_RETRY_SECONDS else failures + 1
            pause = min(RETRY_SECONDS * 2 ** min(max(failures - 1, 0), 10), MAX_RETRY_SECONDS)
            logger.warning("the operator does not watch %s: %s; it retries in %.0f s", self.where, problem, pause)
            self._set_problem(problem)
            await asyncio.sleep(pause)

    async def _find_problem(self) -> str:
        """Asks for one object of each kind: kopf looks up the CRD only once, and does not say which right it lacks."""
        for resource in WATCHED:
            try:
                await self.kube.list_some(resource, self.namespace)
            except DedupOperatorError as error:
                return _describe(resource, error)
        return ""

    async def _watch(self) -> str:
        """Runs kopf in a thread. Returns why it has ended."""
        started, stop = threading.Event(), threading.Event()
        ended = self._start_thread(started, stop)
        try:
            while not started.is_set() and not ended.done():  # noqa: ASYNC110  another thread sets the event
                await asyncio.sleep(START_POLL_SECONDS)
            if not ended.done():
                self._set_problem("")
                logger.info("the operator watches %s", self.where)
            return await self._wait_for_end(ended, stop)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([ended], timeout=STOP_SECONDS)
            raise

    async def _wait_for_end(self, ended: asyncio.Future[str], stop: threading.Event) -> str:
        """An open watch does not notice that the right to open it is gone. The API server closes it after five minutes."""
        while not ended.done():
            await asyncio.wait([ended], timeout=PROBE_SECONDS)
            problem = "" if ended.done() else await self._find_lost_right()
            if problem:
                self._set_problem(problem)
                stop.set()
                await asyncio.wait([ended], timeout=STOP_SECONDS)
                return problem
        return ended.result()

    async def _find_lost_right(self) -> str:
        """Asks for another kind each time."""
        resource = WATCHED[self._probes % len(WATCHED)]
        self._probes += 1
        try:
            await self.kube.list_some(resource, self.namespace)
        except ApiUnavailable:
            return ""  # kopf waits for the API server by itself
        except DedupOperatorError as error:
            return _describe(resource, error)
        return ""

    def _start_thread(self, started: threading.Event, stop: threading.Event) -> asyncio.Future[str]:
        """Not with asyncio.to_thread: its threads are few, and a watch never gives one back."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()

        def run() -> None:
            problem = "the watch failed"
            try:
                problem = self._run_kopf(started, stop)
            finally:
                with contextlib.suppress(RuntimeError):  # the process ends
                    loop.call_soon_threadsafe(ended.set_result, problem)

        threading.Thread(target=run, name=f"watch of {self.where}", daemon=True).start()
        return ended

    def _run_kopf(self, started: threading.Event, stop: threading.Event) -> str:
        try:
            asyncio.run(self._await_kopf(started, stop))
        except Exception as error:  # noqa: BLE001  whatever ends a watch, the operator retries it
            return f"the watch failed: {error or type(error).__name__}"
        return "the watch ended"

    async def _await_kopf(self, started: threading.Event, stop: threading.Event) -> None:
        try:
            await self.run_kopf(self.namespace, started, stop)
        finally:
            stop.set()  # kopf waits for it in one more thread, and this event loop does not close before that has ended

    def _set_problem(self, problem: str) -> None:
        if bool(problem) != bool(self.problem):
            self.report(self.namespace, not problem)
        self.problem = problem


def _describe(resource: Resource, error: DedupOperatorError) -> str:
    return f"cannot list {resource.value[1]}: {error}"


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
