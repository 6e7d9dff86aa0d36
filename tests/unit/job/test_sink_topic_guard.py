"""When a deleted or recreated output topic stops the driver."""

from collections.abc import Callable

import pytest

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.errors import JobError
from dedup_job.kafka.sink_topic_guard import SinkTopicGuard


def do_not_wait(seconds: float) -> None:
    pass


def build_guard(fetch_id: Callable[[str], str | None], writes_marker: Callable[[], bool] = lambda: True) -> SinkTopicGuard:
    topics = {"out": Reason.SINK_TOPIC_MISSING}
    return SinkTopicGuard(fetch_id=fetch_id, wait=do_not_wait, topics=topics, progress_topic="progress", writes_marker=writes_marker)


@pytest.mark.parametrize(
    ("ids", "code", "reason"),
    [
        ({"out": ["a"], "progress": ["p"]}, None, None),
        ({"out": ["a", "b", "a"], "progress": ["p"]}, None, None),  # one broker does not know the topic yet
        ({"out": ["a", "b"], "progress": ["p"]}, ExitCode.TOPIC_MISSING, Reason.SINK_TOPIC_MISSING),
        ({"out": ["a", None], "progress": ["p"]}, ExitCode.TOPIC_MISSING, Reason.SINK_TOPIC_MISSING),
        ({"out": ["a"], "progress": ["p", "q"]}, ExitCode.SINK_PROGRESS_LOST, Reason.SINK_PROGRESS_LOST),
        ({"out": ["a"], "progress": ["p", None]}, ExitCode.SINK_PROGRESS_LOST, Reason.SINK_PROGRESS_LOST),
        ({"out": ["a"], "progress": [None, "p"]}, None, None),  # just created, and only one broker knows it
    ],
)
def test_a_topic_that_has_changed_twice_in_a_row_stops_the_driver(
    ids: dict[str, list[str | None]], code: ExitCode | None, reason: Reason | None
) -> None:
    def fetch_id(name: str) -> str | None:
        answers = ids[name]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    guard = build_guard(fetch_id)
    if code is None:
        guard.check(1)
        guard.check(2)
    else:
        with pytest.raises(JobError) as raised:
            guard.check(1)
        assert (raised.value.code, raised.value.reason) == (code, reason)


def test_a_progress_topic_that_the_sink_does_not_write_to_may_be_missing() -> None:
    """A user sets AtLeastOnce when the progress topic is lost. The change ends with the batch that was due."""
    writes_marker = True
    ids = {"out": "a", "progress": "p"}
    guard = build_guard(ids.get, lambda: writes_marker)
    guard.check(1)
    del ids["progress"]
    with pytest.raises(JobError):
        guard.check(2)
    writes_marker = False
    guard.check(2)


def test_an_empty_id_is_no_sign_of_a_recreated_topic() -> None:
    ids = {"out": "a", "progress": "p"}
    guard = build_guard(ids.get)
    ids["out"] = ""
    guard.check(1)
    ids["out"] = "b"
    with pytest.raises(JobError, match="deleted and recreated"):
        guard.check(2)
