"""How often and how long the driver repeats a question to the brokers."""

from itertools import islice

import pytest

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.kafka.retries import LONGEST_PAUSE, build_pauses, retry_while_unavailable

UNAVAILABLE = JobError(ExitCode.UNAVAILABLE, "no broker answers")


def test_pauses_double_until_the_longest() -> None:
    pauses = list(islice(build_pauses(), 10))
    assert pauses[:3] == [0.5, 1.0, 2.0] and pauses[-1] == LONGEST_PAUSE


def test_a_short_outage_is_retried() -> None:
    failures, waited = [UNAVAILABLE, UNAVAILABLE], list[float]()

    def ask() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    assert retry_while_unavailable(ask, waited.append) == "answer"
    assert waited == [0.5, 1.0]


def test_a_long_outage_raises_the_last_error() -> None:
    waited: list[float] = []

    def ask() -> str:
        raise UNAVAILABLE

    with pytest.raises(JobError) as caught:
        retry_while_unavailable(ask, waited.append, lambda: sum(waited))
    assert caught.value.code is ExitCode.UNAVAILABLE
    assert 60 <= sum(waited) <= 80


def test_other_errors_are_not_retried() -> None:
    def ask() -> str:
        raise JobError(ExitCode.TOPIC_MISSING, "the topic orders does not exist")

    def wait(seconds: float) -> None:
        raise AssertionError("the driver must not wait")

    with pytest.raises(JobError) as caught:
        retry_while_unavailable(ask, wait)
    assert caught.value.code is ExitCode.TOPIC_MISSING
