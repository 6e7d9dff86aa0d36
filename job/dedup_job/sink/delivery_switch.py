"""The change from ExactlyOnce to AtLeastOnce while a batch is planned: the planned batch ends in its transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dedup_job.sink.exactly_once import ExactlyOnceSink
from dedup_job.sink.sink import Sink

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class SwitchingSink:
    """Writes batches up to `last` with the sink `before`, and later batches with the sink that `switch` returns."""

    def __init__(self, before: ExactlyOnceSink, last: int, switch: Callable[[], Sink]) -> None:
        """Calls `switch` once, after batch `last` has committed."""
        self._before, self._last, self._switch = before, last, switch
        self._sink: Sink = before
        self._confirmed = False

    @property
    def writes_marker(self) -> bool:
        return not self._confirmed

    def begin(self, batch: int, entry: str) -> bool:
        if batch > self._last and self._sink is self._before:
            self._before.close()
            self._sink = self._switch()
        return self._sink.begin(batch, entry)

    def write(self, rows: DataFrame, batch: int) -> None:
        self._sink.write(rows, batch)

    def confirm(self, rows: int) -> None:
        self._sink.confirm(rows)
        self._confirmed = True

    def abort(self) -> None:
        self._sink.abort()
