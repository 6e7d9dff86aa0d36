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


class Mortal(Protocol):
    dead: bool


OWNER: contextvars.ContextVar[Mortal] = contextvars.ContextVar("simulation_owner")
"""The process that a callback belongs to."""


class SimLoop:
    """As much of an event loop as futures, tasks, timeouts and `gather` ask for."""

    def __init__(self, after_step: Callable[[], None]) -> None:
        self.now = 0.0
        self.closed = False
        self._after_step = after_step
        self._ready: deque[asyncio.Handle] = deque()
        self._heap: list[tuple[float, int, Callable[..., object] | asyncio.TimerHandle, tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[..., object], *arguments: Any) -> None:
        """Of the world around the operator: no handle, no context, cannot be taken back."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, action, arguments))

    def run_until(self, moment: float, done: Callable[[], bool] = lambda: False) -> None:
        """Everything up to `moment`, or until `done`."""
        events._set_running_loop(cast(Any, self))
        try:
            while not done():
                if self._ready:
                    self._run(self._ready.popleft())
                elif self._heap and self._heap[0][0] <= moment:
                    self.now, _, action, arguments = heapq.heappop(self._heap)
                    if isinstance(action, asyncio.TimerHandle):
                        self._run(action)
                    else:
                        action(*arguments)
                        self._after_step()
                else:
                    self.now = max(self.now, moment)
                    return
        finally:
            events._set_running_loop(None)

    def _run(self, handle: asyncio.Handle) -> None:
        owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
        if not handle._cancelled and not (owner is not None and owner.dead):
            handle._run()
            self._after_step()

    # What asyncio itself calls.

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, cast(Any, self), context)
        if not self.closed:
            self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, cast(Any, self), context)
        if not self.closed:
            self._count += 1
            heapq.heappush(self._heap, (max(when, self.now), self._count, handle, ()))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=cast(Any, self), name=name or "task", context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Only tasks that were frozen get here, when they are thrown away."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def close(self) -> None:
        """What a frozen task still does when it is thrown away leads nowhere."""
        self.closed = True
        self._ready.clear()
        self._heap.clear()
