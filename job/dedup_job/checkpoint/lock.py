"""One driver per checkpoint: an exclusive `flock` on the volume, held by both processes that write to it.

The lock belongs to the open file, not to a process: the JVM inherits the descriptor (`jvm.start_jvm`), and the kernel
lets go when the last of the two has ended, however it ended. So a JVM that outlives a killed Python process keeps every
newcomer out until it is gone too.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.volume import build_volume_error
from dedup_job.errors import JobError

LOCK_SECONDS = 60.0
"""A driver that was told to end and hangs in its last batch is mostly gone by then; the next start waits again."""
PAUSE = 0.5
_HOLDER_BYTES = 512

_LOG = logging.getLogger("dedup_job.checkpoint.lock")


@dataclass(frozen=True)
class CheckpointLock:
    fd: int
    """For the JVM to inherit. No other child may: close-on-exec is set."""

    def close(self) -> None:
        """Lets go, unless another process still has the descriptor. The end of the process does the same."""
        os.close(self.fd)


def take_lock(root: Path, wait: Callable[[float], bool], seconds: float = LOCK_SECONDS) -> CheckpointLock | None:
    """Tries for `seconds`, then JobError with CHECKPOINT_LOCKED. `wait(pause)` says whether a stop was requested meanwhile: None then."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise build_volume_error(root, error) from error
    taken = False
    try:
        taken = _wait_for(fd, wait, seconds)
        if taken:
            _write_holder(fd)
            return CheckpointLock(fd)
    except OSError as error:
        taken = False
        raise build_volume_error(root, error) from error
    finally:
        if not taken:
            os.close(fd)
    return None


def _wait_for(fd: int, wait: Callable[[float], bool], seconds: float) -> bool:
    """True with the lock, False when a stop was requested. Counts its pauses, so that a clock that jumps does not matter."""
    tries = max(1, round(seconds / PAUSE))
    for number in range(tries + 1):
        if _try_lock(fd):
            return True
        if number == 0:
            _LOG.warning("waiting for the checkpoint's lock", extra={"fields": {"holder": _read_holder(fd)}})
        if number < tries and wait(PAUSE):
            return False
    raise JobError(ExitCode.CHECKPOINT_LOCKED, f"another driver holds the checkpoint: {_read_holder(fd)}")


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(fd: int) -> None:
    """For people only: nothing is decided by it."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"host {socket.gethostname()}, process {os.getpid()}, since {started}\n".encode()[:_HOLDER_BYTES], 0)


def _read_holder(fd: int) -> str:
    text = os.pread(fd, _HOLDER_BYTES, 0).decode("utf-8", "replace").strip()
    return text or "a process that has not written its name yet"
