"""What must hold for a batch to be written: a list of looks, put together in `main`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[int], None]
"""Looks whether a batch may be written; JobError where not."""


@dataclass(frozen=True)
class Guards:
    """What must hold around a batch's action: before it, and again before its rows become visible."""

    before: tuple[Check, ...] = ()
    after: tuple[Check, ...] = ()
