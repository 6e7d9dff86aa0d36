"""Counts come from Spark's metrics. A metric that Spark does not have is an error and not zero."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.stream.execution import read_metric


class Metrics:
    """As the Scala map of a node's metrics."""

    def __init__(self, **values: int) -> None:
        self._values = values

    def contains(self, name: str) -> bool:
        return name in self._values

    def apply(self, name: str) -> Any:
        return SimpleNamespace(value=lambda: self._values[name])


def test_a_metric_is_its_value() -> None:
    assert read_metric(Metrics(numUpdatedStateRows=7, stateMemory=0), "numUpdatedStateRows") == 7


def test_a_missing_metric_ends_the_driver_and_is_named() -> None:
    with pytest.raises(JobError) as raised:
        read_metric(Metrics(stateMemory=0), "numDroppedDuplicateRows")
    assert raised.value.code is ExitCode.INTERNAL and "report" in raised.value.message
    assert "numDroppedDuplicateRows" in raised.value.message
