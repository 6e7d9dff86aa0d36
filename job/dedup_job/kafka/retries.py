"""Repeats a question to the brokers, with growing pauses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds. Each pause doubles: the driver finds a topic from the same `kubectl apply` soon, and asks rarely later."""
UNAVAILABLE_SECONDS = 60.0
"""How long a running driver waits for a broker: longer than a broker needs for a restart."""

Answer = TypeVar("Answer")


def retry_while_unavailable(
    ask: Callable[[], Answer], wait: Callable[[float], object] = time.sleep, clock: Callable[[], float] = time.monotonic
) -> Answer:
    """Asks again while no broker answers, for UNAVAILABLE_SECONDS, then raises the last JobError.

    A requested stop does not interrupt the retries: the batch that asks has to end first. `wait(seconds)` pauses.
    """
    deadline = clock() + UNAVAILABLE_SECONDS
    for pause in build_pauses():
        try:
            return ask()
        except JobError as error:
            if error.code is not ExitCode.UNAVAILABLE or clock() >= deadline:
                raise
        wait(pause)
    raise AssertionError("build_pauses never ends")


def build_pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(LONGEST_PAUSE, pause * 2)
