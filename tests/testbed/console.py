"""Progress on the terminal: what runs, since when, and the end of the log when it fails.

A long build without a sign of life looks like a hang, to a person and to a CI system that stops silent jobs.
"""

from __future__ import annotations

import os
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
_write_lock = threading.Lock()
_journal: list[Path] = []


def _colour(code: str, text: str) -> str:
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        return f"\x1b[{code}m{text}\x1b[0m"
    return text


def _emit(text: str, end: str = "\n") -> None:
    with _write_lock:
        sys.stderr.write(text + end)
        sys.stderr.flush()


def keep_journal(path: Path) -> None:
    """Also writes every line from now on to this file, with the time: what led to what is asked later."""
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
        _emit(f"--- all of it: {error.log}")


@contextmanager
def step(title: str, log: Path | None = None) -> Iterator[None]:
    """Announces the step, shows the elapsed time while it runs, and how long it took; errors get `log` attached."""
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    finished = threading.Event()

    def tick() -> None:
        while not finished.wait(1.0 if terminal else QUIET_INTERVAL):
            elapsed = duration(time.monotonic() - started)
            _emit(f"{CLEAR_LINE}  {title} … {elapsed} " if terminal else f"  … {title}: {elapsed} so far", "" if terminal else "\n")

    _emit(f"  {title} …", "" if terminal else "\n")
    _record(f"{title} …")
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
        mark = _colour("31", "✗") if failed else _colour("32", "✓")
        _record(f"{title}: {'failed' if failed else 'done'} after {duration(time.monotonic() - started)}")
        _emit(f"{CLEAR_LINE if terminal else ''}{mark} {title}: {duration(time.monotonic() - started)}")
