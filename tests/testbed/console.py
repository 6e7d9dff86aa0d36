"""Progress on the terminal: which steps run, for how long, and the end of the log of a step that failed.

Several steps can run at the same time. A step that prints nothing for minutes looks like a hang, to a person and to a
CI system that stops silent jobs.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.shell import TestbedError

TAIL_LINES = 40
QUIET_INTERVAL = 30.0  # seconds between signs of life when the output is not a terminal
CLEAR_LINE = "\r\x1b[K"
_write_lock = threading.RLock()
_journal: list[Path] = []
_running: dict[object, tuple[str, float]] = {}
"""Title and start (monotonic seconds) of every running step, the oldest first."""


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def _colour(code: str, text: str) -> str:
    if _is_terminal() and "NO_COLOR" not in os.environ:
        return f"\x1b[{code}m{text}\x1b[0m"
    return text


def _emit(text: str) -> None:
    with _write_lock:
        if _is_terminal():
            sys.stderr.write(CLEAR_LINE)
        sys.stderr.write(text + "\n")
        _draw_running()
        sys.stderr.flush()


def _draw_running() -> None:
    """On a terminal: one line at the bottom with all running steps."""
    if not _is_terminal():
        return
    with _write_lock:
        now = time.monotonic()
        line = describe_running([(title, now - started) for title, started in _running.values()], shutil.get_terminal_size().columns)
        sys.stderr.write(CLEAR_LINE + line)
        sys.stderr.flush()


def describe_running(steps: list[tuple[str, float]], columns: int) -> str:
    """The running steps and their seconds in one line that is shorter than the terminal is wide."""
    if not steps:
        return ""
    room = max(8, (columns - 3) // len(steps) - 14)
    titles = [title if len(title) <= room else title[: room - 1] + "…" for title, _ in steps]
    times = [duration(elapsed) if elapsed >= 10 else f"{elapsed:.0f} s" for _, elapsed in steps]
    parts = [f"{title} {seconds}" for title, seconds in zip(titles, times, strict=True)]
    return ("  " + " · ".join(parts))[: columns - 1]


def keep_journal(path: Path) -> None:
    """From now on every line also goes to this file, with the time and the process id."""
    _journal[:] = [path]


def _record(text: str) -> None:
    for path in _journal:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as sink:
            sink.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{os.getpid()}] {text.strip()}\n")


def note(text: str) -> None:
    _emit(text)
    _record(text)


def duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def print_failure(error: TestbedError) -> None:
    _emit(_colour("31", f"FAILED: {error}"))
    _record(f"FAILED: {error}")
    if error.log is not None and error.log.exists():
        lines = error.log.read_text(errors="replace").splitlines()
        _emit(f"--- last lines of {error.log}")
        _emit("\n".join(lines[-TAIL_LINES:]))
        _emit(f"--- the whole log: {error.log}")


@contextmanager
def step(title: str, log: Path | None = None) -> Iterator[None]:
    """Announces the step, shows its seconds while it runs and at its end. A TestbedError without a log gets this one."""
    started = time.monotonic()
    finished = threading.Event()

    def tick() -> None:
        while not finished.wait(1.0 if _is_terminal() else QUIET_INTERVAL):
            if _is_terminal():
                _draw_running()
            else:
                _emit(f"  … {title}: {duration(time.monotonic() - started)} so far")

    if not _is_terminal():
        _emit(f"  {title} …")
    _record(f"{title} …")
    key = object()
    with _write_lock:
        _running[key] = (title, started)
        _draw_running()
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    failed = True
    try:
        yield
        failed = False
    except TestbedError as error:
        if error.log is None:
            error.log = log
        raise
    finally:
        finished.set()
        ticker.join()
        elapsed = duration(time.monotonic() - started)
        with _write_lock:
            del _running[key]
        _record(f"{title}: {'failed' if failed else 'done'} after {elapsed}")
        _emit(f"{_colour('31', '✗') if failed else _colour('32', '✓')} {title}: {elapsed}")
