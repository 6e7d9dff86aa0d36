"""An event loop whose time is counted, not waited for.

The operator's own coroutines (rounds, work queue, relist) run on it unchanged. All that happens stands in one heap ordered by
virtual time, so a seed fixes the order of everything. A process that died is frozen where it stood: none of its callbacks runs again,
not even a `finally`, as after `kill -9`.
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
"""The process that a callback belongs to."""


class Call:
    """A callback in its context. asyncio's own handles do the same with more ceremony, and there are thousands in a seed."""

    __slots__ = ("arguments", "callback", "context", "dropped")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...], context: contextvars.Context | None) -> None:
        self.callback, self.arguments = callback, arguments
        self.context = context if context is not None else contextvars.copy_context()
        self.dropped = False

    def cancel(self) -> None:
        """It is passed over when its time comes."""
        self.dropped = True

    def run(self) -> None:
        owner = self.context.get(OWNER)
        if not self.dropped and not (owner is not None and owner.dead):
            self.context.run(self.callback, *self.arguments)


class VirtualTimeLoop:
    """As much of an event loop as futures, tasks, timeouts and `gather` ask for.

    `after_step` is called after everything that happens around the operator. What the operator's own code does between two requests
    changes nothing there.
    """

    def __init__(self, after_step: Callable[[], None]) -> None:
        self.now = 0.0
        self.closed = False
        self._after_step = after_step
        self._ready: deque[Call] = deque()
        self._heap: list[tuple[float, int, Callable[..., object] | Call, tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[..., object], *arguments: Any) -> None:
        """Of the world around the operator: no handle, no context, cannot be taken back."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, action, arguments))

    def run_until(self, moment: float) -> None:
        """Everything up to `moment`."""
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

    # What asyncio itself calls.

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
    """False, without a call of Python for every future."""

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Only tasks that were frozen get here, when they are thrown away."""

    def close(self) -> None:
        """What a frozen task still does when it is thrown away leads nowhere."""
        self.closed = True
        self._ready.clear()
        self._heap.clear()
