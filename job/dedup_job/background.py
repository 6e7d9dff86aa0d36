"""The driver's threads beside the query. An unexpected error ends none of them.

A thread that ends without a message leaves old numbers that look right. So each thread logs the error and continues.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable

REPEAT_SECONDS = 3600.0
"""Until an error of the same kind is logged again."""
RETRY_SECONDS = 5.0
"""Until work that should never end is started again after an error."""

_LOG = logging.getLogger("dedup_job.background")


class Survivor:
    """Runs the work of one thread. It logs unexpected errors, and each kind at most once in REPEAT_SECONDS.

    Errors are of one kind when they have the same type and come from the same line.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` of the thread, for the log. `clock`: seconds."""
        self._name, self._clock = name, clock
        self._logged: dict[str, float] = {}

    def attempt(self, work: Callable[[], object]) -> bool:
        """Returns whether the work ended without an error."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  the thread must continue after any error, and logs it
            self._report(error)
            return False
        return True

    def _report(self, error: Exception) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind, now = f"{type(error).__name__} {frame.filename}:{frame.lineno}", self._clock()
        logged = self._logged.get(kind)
        if logged is not None and now - logged < REPEAT_SECONDS:
            return
        self._logged[kind] = now
        message = "unexpected error in the thread %s, which continues: %s: %s"
        fields = {"thread": self._name, "error": type(error).__name__}
        _LOG.error(message, self._name, type(error).__name__, error, exc_info=error, extra={"fields": fields})


def start_repeating(name: str, work: Callable[[], object], interval: float, stop: threading.Event) -> threading.Thread:
    """Starts a thread that does the work now and every `interval` seconds, until `stop` is set."""
    survivor = Survivor(name)

    def run() -> None:
        while True:
            survivor.attempt(work)
            if stop.wait(interval):
                return

    return _start(name, run)


def start_lasting(name: str, work: Callable[[], object]) -> threading.Thread:
    """Starts a thread whose work ends only when it is asked to. After an error the work starts again, RETRY_SECONDS later."""
    survivor = Survivor(name)

    def run() -> None:
        while not survivor.attempt(work):
            time.sleep(RETRY_SECONDS)

    return _start(name, run)


def _start(name: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
