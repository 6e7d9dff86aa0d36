"""Files with a number, by which the processes of a run tell each other how far they are; and the environment of a
process."""

from __future__ import annotations

import os
from pathlib import Path

from testbed.layout import CHECKOUT


def write_number(path: Path, number: float) -> None:
    """Readers see the old number or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(repr(number))
    temporary.replace(path)


def read_number(path: Path) -> int:
    """0 as long as the file does not exist."""
    try:
        return int(float(path.read_text()))
    except FileNotFoundError:
        return 0


def read_time(path: Path) -> float | None:
    """Seconds since 1970; None as long as the file does not exist."""
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return None


def build_environment(more: dict[str, str]) -> dict[str, str]:
    """An environment in which Python finds this checkout's modules."""
    paths = os.pathsep.join(str(CHECKOUT / name) for name in ("crds", "job", "tests"))
    return {**os.environ, "PYTHONPATH": paths, **more}
