"""Which finished batches the driver reports after Spark has committed them."""

import threading
from types import SimpleNamespace
from typing import Any

from dedup_job.stream.batch import BatchRunner


def test_each_batch_is_taken_once_also_when_spark_has_removed_its_commit() -> None:
    runner: Any = BatchRunner.__new__(BatchRunner)
    runner._lock, runner._finished = threading.Lock(), [SimpleNamespace(number=number) for number in (3, 4, 5)]

    def take(*commits: int) -> list[int]:
        return [batch.number for batch in runner.take_committed(commits.__contains__)]

    assert take() == []
    assert take(4) == [3, 4]
    assert take(4) == []
    assert take(5) == [5]
