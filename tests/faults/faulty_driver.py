"""The driver with a fault at a named point: its own `main`, with some of its methods wrapped.

`python -m faults.faulty_driver FOLDER [--fault JSON] [--transaction-seconds N] [--lock-seconds N] -- ARGUMENTS`. When
the fault happens, the program writes the time to `FOLDER/at-<point>`. If the fault is one of the broker, the driver
then waits until that file is deleted, which happens after the broker was killed.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dedup_job.checkpoint.layout import CheckpointLayout
from faults.files import write_number
from faults.schedule import Action, Fault, Point, Target, parse_fault

HOLD_SECONDS = 300
"""How long the driver waits for the kill of the broker."""


@dataclass(frozen=True)
class Seam:
    """A method of the driver. Each of its calls is a visit of a point."""

    module: str
    owner: str
    method: str
    after: bool = False
    """Whether the point is after the call, and not before it."""


_RUN = Seam("dedup_job.stream.batch", "BatchRunner", "_run")
_CALL = Seam("dedup_job.stream.batch", "BatchRunner", "__call__")
SEAMS: dict[Point, tuple[Seam, ...]] = {
    Point.BEFORE_OFFSETS: (Seam("dedup_job.stream.query", "Query", "start"),),
    Point.PLANNED: (_RUN,),
    Point.AFTER_OFFSETS: (Seam("dedup_job.sink.transactions", "Transactions", "begin"),),
    Point.MID_TASK: (_RUN,),
    Point.IN_STATE_UPLOAD: (_RUN,),
    Point.IN_TRANSACTION: (Seam("dedup_job.sink.transactions", "Transactions", "write", after=True),),
    Point.BEFORE_COMMIT: (Seam("dedup_job.sink.transactions", "Transactions", "mark", after=True),),
    Point.IN_COMMIT: (Seam("dedup_job.sink.transactions", "Transactions", "mark", after=True),),
    Point.AFTER_COMMIT: (Seam(_RUN.module, _RUN.owner, _RUN.method, after=True),),
    Point.RETURNED: (Seam(_CALL.module, _CALL.owner, _CALL.method, after=True),),
    Point.STOPPING: (_RUN,),
}

SPANS = {Point.IN_COMMIT: 0.01, Point.RETURNED: 0.03, Point.STOPPING: 0.5, Point.RANDOM: 20.0}
"""A fault at these points happens within so many seconds after the point. The fault's fraction chooses the moment."""
_FIRST_BATCH = 1.5
"""Seconds. The length that is assumed for the first batch."""


class FaultInjector:
    """Counts the visits of the fault's point, and carries the fault out at the visit that it names."""

    def __init__(self, fault: Fault, folder: Path, layout: CheckpointLayout) -> None:
        self._fault, self._folder, self._layout = fault, folder, layout
        self._visits = 0
        self._entered = time.monotonic()
        self._last_batch = _FIRST_BATCH

    def install(self) -> None:
        if self._fault.point is Point.RANDOM:
            self._later(SPANS[Point.RANDOM])
            return
        wrap(_RUN, self._enter)
        wrap(Seam(_RUN.module, _RUN.owner, _RUN.method, after=True), self._leave)
        for seam in SEAMS[self._fault.point]:
            wrap(seam, self._visit)

    def _enter(self, owner: Any) -> None:
        self._entered = time.monotonic()

    def _leave(self, owner: Any) -> None:
        self._last_batch = time.monotonic() - self._entered

    def _visit(self, owner: Any) -> None:
        if self._fault.point is Point.BEFORE_OFFSETS:
            self._when_entry_comes(self._layout.offset_log)
            return
        self._visits += 1
        if self._visits != self._fault.visit:
            return
        match self._fault.point:
            case Point.MID_TASK:
                self._later(self._last_batch)
            case Point.IN_STATE_UPLOAD:
                self._when_state_grows(self._layout.spark / "state")
            case Point.STOPPING:
                os.kill(os.getpid(), signal.SIGTERM)
                self._later(SPANS[Point.STOPPING])
            case Point.IN_COMMIT | Point.RETURNED:
                self._later(SPANS[self._fault.point])
            case _:
                self._act()

    def _later(self, span: float) -> None:
        timer = threading.Timer(span * self._fault.fraction, self._act)
        timer.daemon = True
        timer.start()

    def _when_state_grows(self, state: Path) -> None:
        before = set(_list_state(state))

        def watch() -> None:
            while before.issuperset(_list_state(state)):
                time.sleep(0.001)
            self._act()

        threading.Thread(target=watch, daemon=True).start()

    def _when_entry_comes(self, log: Path) -> None:
        """Spark writes `.N.<random>.tmp` and renames it. Each new number is a visit."""
        seen = {_read_batch(name) for name in _list_names(log)}

        def watch() -> None:
            while self._visits < self._fault.visit:
                time.sleep(0.0005)
                new = {_read_batch(name) for name in _list_names(log)} - seen
                self._visits += len(new)
                seen.update(new)
            self._act()

        threading.Thread(target=watch, daemon=True).start()

    def _act(self) -> None:
        mark = self._folder / f"at-{self._fault.point}"
        write_number(mark, time.time())
        match self._fault.action:
            case Action.KILL:
                self._signal(signal.SIGKILL)
            case Action.FREEZE:
                self._signal(signal.SIGSTOP)
            case Action.BROKER:
                deadline = time.monotonic() + HOLD_SECONDS
                while mark.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
            case Action.SECOND:
                pass

    def _signal(self, number: signal.Signals) -> None:
        """As long as there is no JVM, Python gets the signals for it."""
        jvms = list_jvms(os.getpid())
        if self._fault.target is not Target.PYTHON:
            for jvm in jvms:
                os.kill(jvm, number)
        if self._fault.target is not Target.JVM or not jvms:
            os.kill(os.getpid(), number)


def list_jvms(driver: int) -> list[int]:
    """The child processes that are Java."""
    children = [int(child) for file in Path(f"/proc/{driver}/task").glob("*/children") for child in file.read_text().split()]
    return [child for child in children if Path(f"/proc/{child}/comm").read_text().strip() == "java"]


def _list_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _read_batch(name: str) -> str:
    """The batch of a log entry, from the name of its file, of a temporary file or of a checksum file."""
    return name.strip(".").split(".")[0]


def _list_state(state: Path) -> list[str]:
    """The files of state versions, also incomplete ones."""
    return [str(path) for path in state.glob("0/*/*[0-9a-z]") if "changelog" in path.name or "zip" in path.name]


def wrap(seam: Seam, step: Callable[[Any], None]) -> None:
    """Makes each call of the method also call `step` with the object, before or after it."""
    owner = getattr(importlib.import_module(seam.module), seam.owner)
    original = getattr(owner, seam.method)

    @functools.wraps(original)
    def call(self: Any, *arguments: Any) -> Any:
        if not seam.after:
            step(self)
        result = original(self, *arguments)
        if seam.after:
            step(self)
        return result

    setattr(owner, seam.method, call)


def set_transaction_timeout(seconds: int) -> None:
    owner: Any = importlib.import_module("dedup_job.sink.transactions").Transactions
    original = owner.__init__
    parameters = inspect.signature(original)

    @functools.wraps(original)
    def begin(*arguments: Any, **named: Any) -> None:
        bound = parameters.bind(*arguments, **named)
        bound.arguments["timeout"] = seconds
        original(*bound.args, **bound.kwargs)

    owner.__init__ = begin


def set_lock_seconds(seconds: float) -> None:
    """Sets how long the driver waits for the checkpoint's lock."""
    take_lock: Any = importlib.import_module("dedup_job.checkpoint.lock").take_lock
    take_lock.__defaults__ = (seconds,)


def main(arguments: list[str]) -> int:
    split = arguments.index("--")
    parser = argparse.ArgumentParser(prog="faults.faulty_driver")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fault", type=parse_fault)
    parser.add_argument("--transaction-seconds", type=int)
    parser.add_argument("--lock-seconds", type=float)
    found = parser.parse_args(arguments[:split])
    if found.transaction_seconds is not None:
        set_transaction_timeout(found.transaction_seconds)
    if found.lock_seconds is not None:
        set_lock_seconds(found.lock_seconds)
    from dedup_job.driver_config import read_config
    from dedup_job.main import main as run_driver
    from dedup_job.main import read_arguments

    own_arguments = arguments[split + 1 :]
    if found.fault is not None:
        driver = read_arguments(own_arguments)
        layout = CheckpointLayout(driver.checkpoint, read_config(driver.config).generation)
        FaultInjector(found.fault, found.folder, layout).install()
    return run_driver(own_arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
