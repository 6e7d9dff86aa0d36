"""Notices that the output topic or the progress topic was deleted and recreated.

The rows in a deleted topic are gone. A user who deletes a topic between two batches accepts that. In the middle of a
batch, one part of the rows would be in the old topic and the rest in the new one. So the guard compares the topics
before and after the driver sends the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.errors import JobError

FetchId = Callable[[str], str | None]
"""From a topic's name to its id; None if the topic does not exist. Raises JobError when no broker answers."""


SECOND_REQUEST = 2.0
"""Seconds until the guard asks again. Just after a topic was created, one broker may know it and another may not."""


class SinkTopicGuard:
    """Remembers the ids of the topics that the sink writes to, as they were when the driver first saw them."""

    def __init__(
        self,
        *,
        fetch_id: FetchId,
        wait: Callable[[float], object],
        topics: dict[str, Reason],
        progress_topic: str,
        writes_marker: Callable[[], bool],
    ) -> None:
        """`topics`: the topics that records go to, each with the reason to report when it is missing.

        `wait(seconds)` pauses, also while the driver stops. `writes_marker` returns whether the next batch puts a
        marker into the progress topic.
        """
        self._fetch_id, self._wait, self._writes_marker = fetch_id, wait, writes_marker
        self._topics, self._progress_topic = topics, progress_topic
        self._ids = {name: fetch_id(name) for name in self._list_topics()}

    def check(self, batch: int) -> None:
        """JobError when a topic was recreated, or is missing."""
        for name in self._list_topics():
            before = self._ids.get(name)
            now = self._fetch_id(name)
            if _has_changed(before, now):
                self._wait(SECOND_REQUEST)
                now = self._fetch_id(name)
            if _has_changed(before, now):
                raise self._build_error(name, now)
            self._ids[name] = now or before

    def _list_topics(self) -> list[str]:
        return [*self._topics, *([self._progress_topic] if self._writes_marker() else [])]

    def _build_error(self, name: str, now: str | None) -> JobError:
        if name == self._progress_topic:
            return JobError(ExitCode.SINK_PROGRESS_LOST, f"the progress topic {name} was deleted{'' if now is None else ' and recreated'}")
        if now is None:
            return JobError(ExitCode.TOPIC_MISSING, f"the topic {name} does not exist", self._topics[name])
        message = f"the topic {name} was deleted and recreated: the records in the old topic are gone, and the job continues in the new one"
        return JobError(ExitCode.TOPIC_MISSING, message, self._topics[name])


def _has_changed(before: str | None, now: str | None) -> bool:
    """True for a missing topic and for another id. An empty id, from brokers that have no ids, is no evidence."""
    return now is None or bool(before and now and now != before)
