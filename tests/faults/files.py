"""Numbers in files, by which the processes of a run tell each other how far they are, and how they are started."""

from __future__ import annotations

import os
from pathlib import Path

from testbed.layout import CHECKOUT


def write_number(path: Path, number: float) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(repr(number))
    temporary.replace(path)


def read_number(path: Path) -> int:
    """0 where there is no such file yet."""
    try:
        return int(float(path.read_text()))
    except FileNotFoundError:
        return 0


def read_time(path: Path) -> float | None:
    """Seconds since 1970; None where there is no such file."""
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return None


def build_environment(more: dict[str, str]) -> dict[str, str]:
    """For our own modules, wherever the run was started from."""
    paths = os.pathsep.join(str(CHECKOUT / name) for name in ("crds", "job", "tests"))
    return {**os.environ, "PYTHONPATH": paths, **more}
