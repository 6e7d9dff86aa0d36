"""Runs steps at the same time: compilation fills the processors while downloads and image builds wait for the network.

The first step that fails ends the others: their programs are stopped, and the caller gets that step's error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from testbed import shell

P = ParamSpec("P")
T = TypeVar("T")
MOST = 8  # steps at the same time; more than are ever started


class Together:
    """Use in a `with` statement: at its end all steps have ended, and the first error of any of them is raised."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MOST)
        self._lock = threading.Lock()
        self._futures: list[Future[object]] = []
        self._first_error: BaseException | None = None

    def start(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Starts the step. `result()` of what is returned waits for it."""

        def run() -> T:
            try:
                return step(*args, **kwargs)
            except BaseException as error:
                self._fail(error)
                raise

        future = self._pool.submit(run)
        self._futures.append(future)  # type: ignore[arg-type]
        return future

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._first_error is not None:
                return
            self._first_error = error
        shell.stop_running()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is not None:
                self._fail(error)
            for future in self._futures:
                future.exception()  # waits; a KeyboardInterrupt reaches this thread meanwhile
        except BaseException as interrupt:
            self._fail(interrupt)
            raise
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            shell.allow_running()
        if self._first_error is not None and self._first_error is not error:
            raise self._first_error
