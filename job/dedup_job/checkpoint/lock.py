"""Allows one driver per checkpoint: an exclusive `flock` on the volume, which both processes of the driver hold.

The lock belongs to the open file, not to a process. The JVM inherits the descriptor (`jvm.start_jvm`), and the kernel
releases the lock when the last of the two processes has ended, however it ended. So a JVM that outlives a killed Python
process keeps every other driver out until it has ended too.
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
from dedup_job.checkpoint.volume import translate_volume_errors
from dedup_job.errors import JobError

LOCK_SECONDS = 60.0
"""A stopped driver has usually ended its last batch by then. If not, this start fails, and the next one waits."""
PAUSE = 0.5
"""Seconds between two tries."""
_OWNER_BYTES = 512

_LOG = logging.getLogger("dedup_job.checkpoint.lock")


@dataclass(frozen=True)
class CheckpointLock:
    fd: int
    """The JVM inherits it. Close-on-exec is set, so that no other child process does."""

    def close(self) -> None:
        """Releases the lock, unless another process still has the descriptor. The end of the process does the same."""
        os.close(self.fd)


def take_lock(root: Path, wait: Callable[[float], bool], seconds: float = LOCK_SECONDS) -> CheckpointLock | None:
    """Tries for `seconds`, then raises JobError with CHECKPOINT_LOCKED.

    `wait(pause)` returns whether a stop was requested meanwhile. If so, `take_lock` returns None.
    """
    with translate_volume_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if _wait_for(fd, wait, seconds):
                _write_owner(fd)
                return CheckpointLock(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None


def _wait_for(fd: int, wait: Callable[[float], bool], seconds: float) -> bool:
    """True with the lock, False when a stop was requested. Counts pauses instead of reading a clock, which may jump."""
    tries = max(1, round(seconds / PAUSE))
    for number in range(tries + 1):
        if _try_lock(fd):
            return True
        if number == 0:
            _LOG.warning("another driver holds the lock of the checkpoint: waiting for it", extra={"fields": {"holder": _read_owner(fd)}})
        if number < tries and wait(PAUSE):
            return False
    raise JobError(ExitCode.CHECKPOINT_LOCKED, f"another driver holds the checkpoint: {_read_owner(fd)}")


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_owner(fd: int) -> None:
    """For people only: no decision depends on it."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"host {socket.gethostname()}, process {os.getpid()}, since {started}\n".encode()[:_OWNER_BYTES], 0)


def _read_owner(fd: int) -> str:
    text = os.pread(fd, _OWNER_BYTES, 0).decode("utf-8", "replace").strip()
    return text or "a process that has not written its name yet"
