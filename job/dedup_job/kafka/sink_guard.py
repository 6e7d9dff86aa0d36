"""Notices that the output topic or the progress topic was deleted and made again.

Rows that went to the old topic are gone with it. That is the deleter's wish where it happened between two batches; in the middle of a
batch a part of the rows would be in the old topic and a part in the new one, so the topics are compared before and after the rows are sent.
"""

from __future__ import annotations

from collections.abc import Callable

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.errors import JobError

FetchId = Callable[[str], str | None]
"""From a topic's name to its id at the brokers; None if there is no such topic. Raises JobError when no broker answers."""


SECOND_LOOK = 2.0
"""Seconds: a broker that has just heard of a topic, or not yet, answers differently from the others for a moment."""


class SinkGuard:
    """The ids of the topics that the sink writes to, as they were when the driver first saw them."""

    def __init__(
        self,
        fetch_id: FetchId,
        wait: Callable[[float], object],
        topics: dict[str, Reason],
        progress_topic: str,
        marks: Callable[[], bool],
    ) -> None:
        """`topics`: those that records go to, and what their loss is called. `wait(seconds)` pauses, also while the driver stops.
        `marks`: whether the next batch goes into the progress topic too."""
        self._fetch_id, self._wait, self._marks = fetch_id, wait, marks
        self._topics, self._progress_topic = topics, progress_topic
        self._ids = {name: fetch_id(name) for name in self._list_topics()}

    def check(self, batch: int) -> None:
        """JobError when a topic is another than before, or gone."""
        for name in self._list_topics():
            before = self._ids.get(name)
            now = self._fetch_id(name)
            if _is_another(before, now):
                self._wait(SECOND_LOOK)
                now = self._fetch_id(name)
            if _is_another(before, now):
                raise self._build_error(name, now)
            self._ids[name] = now or before

    def _list_topics(self) -> list[str]:
        return [*self._topics, *([self._progress_topic] if self._marks() else [])]

    def _build_error(self, name: str, now: str | None) -> JobError:
        if name == self._progress_topic:
            return JobError(ExitCode.SINK_PROGRESS_LOST, f"the progress topic {name} was deleted{'' if now is None else ' and made again'}")
        if now is None:
            return JobError(ExitCode.TOPIC_MISSING, f"the topic {name} does not exist", self._topics[name])
        message = f"the topic {name} was deleted and made again: what it held is gone with it, and the job goes on into the new one"
        return JobError(ExitCode.TOPIC_MISSING, message, self._topics[name])


def _is_another(before: str | None, now: str | None) -> bool:
    """Gone, or made again. Brokers without ids of topics answer with an empty one, which says nothing."""
    return now is None or bool(before and now and now != before)
