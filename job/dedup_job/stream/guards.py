"""The checks that decide whether a batch may be written. `main` chooses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[int], None]
"""Called with the number of the batch; JobError when the batch must not be written."""


@dataclass(frozen=True)
class Guards:
    """The checks before a batch's Spark action, and those after it, before the rows become visible."""

    before: tuple[Check, ...] = ()
    after: tuple[Check, ...] = ()
