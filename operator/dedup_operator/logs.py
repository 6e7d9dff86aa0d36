"""The operator's log: the level, the format, and the DedupJob that each line is about."""

from __future__ import annotations

import logging
from contextvars import ContextVar

from dedup_operator.domain.types import Key

_job: ContextVar[Key | None] = ContextVar("job", default=None)
NOISY = {
    # kopf logs one line for each watch event. The operator logs what it does about the event.
    "kopf.objects": logging.WARNING,
    # It warns that it handles no signals in a thread. The operator handles them itself.
    "kopf._core.reactor.running": logging.ERROR,
}
"""The lowest level of loggers that say too much, except in the level debug."""


def set_job(key: Key) -> None:
    """From now on all log lines of the present task are about the DedupJob `key`."""
    _job.set(key)


class JobFields(logging.Filter):
    """Adds the fields `namespace` and `dedupjob` to each line about a DedupJob. In text it puts them before the message."""

    def __init__(self, *, as_text: bool) -> None:
        super().__init__()
        self.as_text = as_text

    def filter(self, record: logging.LogRecord) -> bool:
        key = _job.get()
        if key is not None and self.as_text:
            record.msg, record.args = f"{key}: {record.getMessage()}", ()
        elif key is not None:
            record.namespace, record.dedupjob = key.namespace, key.name
        return True


def set_up_handlers(level: str, *, as_text: bool) -> None:
    """Applies the level to everything that the process logs, and names the DedupJob in each line about one. `level`:
    debug, info, warning or error."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in root.handlers:
        handler.addFilter(JobFields(as_text=as_text))
    for name, lowest in NOISY.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else max(lowest, root.level))
