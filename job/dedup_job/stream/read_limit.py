"""How many offsets the next batches may read: the one place that knows the limit, and that can hold it at 0 for a while."""

from __future__ import annotations

from collections.abc import Callable


class ReadLimit:
    """Only the batch thread uses it, inside a batch, where Spark plans no other."""

    def __init__(self, offsets: int, apply: Callable[[int], bool]) -> None:
        """`offsets`: the limit with which the query starts. `apply`: sets the limit of Spark's next batches; False when
        it cannot."""
        self._offsets, self._apply = offsets, apply
        self._is_held = False

    @property
    def offsets(self) -> int:
        """The limit of batches that read records."""
        return self._offsets

    def change(self, offsets: int) -> None:
        """The new limit; while `hold` is in force, from `release` on."""
        self._offsets = offsets
        if not self._is_held:
            self._apply(offsets)

    def hold(self) -> None:
        """The next batches read nothing."""
        self._is_held = self._apply(0)

    def release(self) -> None:
        """Ends `hold`; does nothing when it is not in force."""
        if self._is_held:
            self._is_held = not self._apply(self._offsets)
