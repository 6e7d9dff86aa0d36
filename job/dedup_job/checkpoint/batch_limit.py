"""`limit.json`: how many offsets a batch may read after a batch of this job has failed, and whether the last one did.

A batch that is too large for the memory of the pod, for its grace period or for the time of a transaction fails again
each time that it is repeated. So the driver plans it smaller by itself: half of its size after each failure, down to one
offset. After `COMMITS_BEFORE_GROWTH` commits the limit doubles, until `spec.source.maxOffsetsPerTrigger` is reached.

A driver that is killed cannot say so. Therefore each driver notes the batch with which it starts, and removes the note
at its first commit and at an orderly end. It does the same for the batch that runs when the driver is asked to stop. A note
that is left means that a driver has died in that batch.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from dedup_api.reasons import Reason
from dedup_job.checkpoint.durable_files import write_durably
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.volume import translate_volume_errors

COMMITS_BEFORE_GROWTH = 10
"""Enough to see that batches of this size work, and few enough to be back at the normal size soon: a limit that was
reduced ten times has grown back after a hundred batches."""
TOO_LARGE = frozenset({Reason.OUT_OF_MEMORY, Reason.FENCED})
"""A driver that ends with one of these may have had too large a batch. The broker fences a producer whose transaction has
lasted too long."""
UNKNOWN = frozenset({Reason.DRIVER_FAILED})
"""After such an end, the driver cannot tell whether the batch was too large: the kernel may have killed the JVM."""

_WRITE_LOCK = threading.Lock()
"""The batch thread and the main thread write the file."""

_LOG = logging.getLogger("dedup_job.checkpoint.batch_limit")


@dataclass(frozen=True)
class BatchLimit:
    """Pure: every method returns a new value."""

    offsets: int | None = None
    """The reduced limit; None while `spec.source.maxOffsetsPerTrigger` holds."""
    commits: int = 0
    """Batches that have committed since the limit changed last."""
    unfinished: int | None = None
    """The batch in which the last driver has died, if that driver is no longer running."""
    failed: bool = False
    """The last driver ended with a reason of `TOO_LARGE`."""

    def decide_offsets(self, configured: int) -> int:
        """The limit in force. `configured`: `spec.source.maxOffsetsPerTrigger`."""
        return configured if self.offsets is None else min(self.offsets, configured)

    def start(self, due: int, pending_offsets: int | None, configured: int) -> BatchLimit:
        """The limit for a driver that starts with batch `due`.

        `pending_offsets`: how many offsets the drivers before have planned for this batch; None when it is not planned.
        """
        reduced = self
        if pending_offsets is not None and (self.failed or self.unfinished == due):
            half = max(1, min(pending_offsets, self.decide_offsets(configured)) // 2)
            reduced = replace(self, offsets=half, commits=0)
        if reduced.offsets is not None and reduced.offsets >= configured:  # the user has lowered the field
            reduced = replace(reduced, offsets=None, commits=0)
        return replace(reduced, unfinished=due, failed=False)

    def count_commit(self, configured: int) -> BatchLimit:
        """After a batch of this driver has committed."""
        after = replace(self, unfinished=None)
        if after.offsets is None:
            return after
        if after.commits + 1 < COMMITS_BEFORE_GROWTH:
            return replace(after, commits=after.commits + 1)
        doubled = 2 * after.offsets
        return replace(after, offsets=None if doubled >= configured else doubled, commits=0)

    def note_batch(self, batch: int) -> BatchLimit:
        """Before the driver may die in this batch."""
        return replace(self, unfinished=batch)

    def end(self, reason: Reason | None) -> BatchLimit:
        """After the end of the query. `reason`: with which the driver ends; None when it was stopped or has finished."""
        return self if reason in UNKNOWN else replace(self, unfinished=None, failed=reason in TOO_LARGE)


@dataclass(frozen=True)
class BatchLimitFile:
    layout: CheckpointLayout

    def read(self) -> BatchLimit:
        """No limit for a new checkpoint, and for a file that cannot be understood: the job then fails once more before the
        driver reduces the limit again."""
        with translate_volume_errors(self.layout.root):
            try:
                document = json.loads(self.layout.batch_limit_file.read_bytes())
                return _build(document)
            except FileNotFoundError:
                return BatchLimit()
            except (ValueError, KeyError, TypeError) as error:
                path = self.layout.describe(self.layout.batch_limit_file)
                _LOG.warning("%s cannot be read, so batches have their normal size: %s", path, error)
                return BatchLimit()

    def update(self, change: Callable[[BatchLimit], BatchLimit]) -> None:
        """JobError when the volume cannot be read or written."""
        before = self.read()
        after = change(before)
        if after != before:
            self.write(after)

    def write(self, limit: BatchLimit) -> None:
        with _WRITE_LOCK, translate_volume_errors(self.layout.root):
            write_durably(self.layout.batch_limit_file, json.dumps(asdict(limit)).encode())


def _build(document: dict[str, object]) -> BatchLimit:
    """ValueError, KeyError or TypeError for another content than `BatchLimitFile.write` writes."""
    offsets, commits, unfinished, failed = (document[name] for name in ("offsets", "commits", "unfinished", "failed"))
    if not all(value is None or (isinstance(value, int) and value >= 0) for value in (offsets, unfinished)) or offsets == 0:
        raise ValueError("offsets or unfinished is not a number that can occur")
    if not isinstance(commits, int) or not isinstance(failed, bool):
        raise TypeError("commits is not a number, or failed is not true or false")
    return BatchLimit(offsets, commits, unfinished, failed)  # type: ignore[arg-type]
