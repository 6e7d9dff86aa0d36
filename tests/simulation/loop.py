"""An asyncio event loop with virtual time: instead of waiting, it sets its clock to the time of the next event.

The operator's own coroutines (reconciliations, work queue, relist) run on it unchanged. One heap, ordered by virtual
time, holds everything that will happen, so a seed determines the order of everything. After a process dies, none of its
callbacks runs again, not even a `finally`, as after `kill -9`.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


class Process(Protocol):
    dead: bool


OWNER: contextvars.ContextVar[Process] = contextvars.ContextVar("simulation_owner")
"""The operator process that a callback belongs to."""


class Call:
    """A callback in its context. It does what asyncio.Handle does, but faster; a seed has thousands of them."""

    __slots__ = ("arguments", "callback", "context", "is_cancelled")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...], context: contextvars.Context | None) -> None:
        self.callback, self.arguments = callback, arguments
        self.context = context if context is not None else contextvars.copy_context()
        self.is_cancelled = False

    def cancel(self) -> None:
        """The loop skips the callback when its time comes."""
        self.is_cancelled = True

    def run(self) -> None:
        owner = self.context.get(OWNER)
        if not self.is_cancelled and not (owner is not None and owner.dead):
            self.context.run(self.callback, *self.arguments)


class VirtualTimeLoop:
    """The part of an asyncio event loop that futures, tasks, timeouts and `gather` need.

    `after_step` is called after each step of the simulated cluster. It is not called after steps of the operator's
    code, because these change nothing in the cluster until a request arrives.
    """

    def __init__(self, after_step: Callable[[], None]) -> None:
        self.now = 0.0
        self.closed = False
        self._after_step = after_step
        self._ready: deque[Call] = deque()
        self._heap: list[tuple[float, int, Callable[..., object] | Call, tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[..., object], *arguments: Any) -> None:
        """Schedules a step of the simulated cluster. It has no handle and no context, and cannot be cancelled."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, action, arguments))

    def run_until(self, moment: float) -> None:
        """Runs everything up to `moment`."""
        ready, heap = self._ready, self._heap
        events._set_running_loop(cast(Any, self))
        try:
            while True:
                while ready:
                    ready.popleft().run()
                if not heap or heap[0][0] > moment:
                    self.now = max(self.now, moment)
                    return
                self.now, _, action, arguments = heapq.heappop(heap)
                if isinstance(action, Call):
                    action.run()
                else:
                    action(*arguments)
                    self._after_step()
        finally:
            events._set_running_loop(None)

    # asyncio calls the methods below.

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> Call:
        call = Call(callback, args, context)
        if not self.closed:
            self._ready.append(call)
        return call

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> Call:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> Call:
        call = Call(callback, args, context)
        if not self.closed:
            self._count += 1
            heapq.heappush(self._heap, (max(when, self.now), self._count, call, ()))
        return call

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=cast(Any, self), name=name or "task", context=context)

    get_debug = staticmethod(bool)
    """Returns False. `bool` is faster than a Python function, and asyncio calls this for every future."""

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """asyncio calls this when it destroys the unfinished tasks of a dead process. There is nothing to report."""

    def close(self) -> None:
        """From now on the loop ignores callbacks, for example those of a dead process's tasks when they are
        destroyed."""
        self.closed = True
        self._ready.clear()
        self._heap.clear()
