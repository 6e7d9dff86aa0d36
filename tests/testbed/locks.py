"""Locks between runs of the test bed and between its threads. They are on files, so they end with the process that holds them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.console import note


@contextmanager
def file_lock(path: Path, waiting_for: str, *, remove: bool = False) -> Iterator[None]:
    """Holds the lock. `remove` deletes the file at the end, for locks in folders that must be left as they were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"  waiting for the end of {waiting_for}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # The previous owner may have removed the file after this run opened it. Then this lock keeps nobody out.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            break
        os.close(descriptor)
    try:
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Readers see the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as sink:
            sink.write(text)
        temporary.chmod(mode)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
