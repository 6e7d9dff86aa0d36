"""Turns an OSError of the checkpoint volume into a JobError with CHECKPOINT_NOT_WRITABLE that names the cause."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM}
_LOCKLESS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def translate_volume_errors(root: Path) -> Iterator[None]:
    """Replaces an OSError of the block by a JobError."""
    try:
        yield
    except OSError as error:
        raise build_volume_error(root, error) from error


def build_volume_error(root: Path, error: OSError) -> JobError:
    """The message names the file and the error, and what an administrator needs to know, such as the free space."""
    name = errno.errorcode.get(error.errno or 0, "no errno")
    where = "" if error.filename is None else f" at {_shorten(root, error.filename)}"
    message = f"the checkpoint volume {root} cannot be used: {error.strerror or error} ({name}){where}: {_explain(root, error)}"
    return JobError(ExitCode.CHECKPOINT_NOT_WRITABLE, message)


def _shorten(root: Path, name: str | bytes) -> str:
    path = Path(os.fsdecode(name))
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _explain(root: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return _describe_space(root)
    if error.errno in _REFUSED:
        return f"the driver runs as user {os.geteuid()} and group {os.getegid()}, and {_describe_owner(root, error)}"
    if error.errno == errno.EROFS:
        return "it is mounted read-only, which a file system also does to itself after an error of its disk"
    if error.errno in _LOCKLESS:
        return "its file system does not support locks (flock), without which two drivers could write to it: use another storage class"
    return "the file system reports an error: check the volume and its disk"


def _describe_space(root: Path) -> str:
    try:
        found = os.statvfs(root)
    except OSError:
        return "it is full"
    return f"{found.f_bavail * found.f_frsize >> 20} MiB of {found.f_blocks * found.f_frsize >> 20} MiB and {found.f_favail} files are free"


def _describe_owner(root: Path, error: OSError) -> str:
    """Describes the file itself, or the nearest folder above it that the driver may read."""
    path = root if error.filename is None else Path(os.fsdecode(error.filename))
    for candidate in (path, *path.parents):
        try:
            found = candidate.stat()
        except OSError:
            continue
        return f"{_shorten(root, str(candidate))} belongs to {found.st_uid}:{found.st_gid} with mode {found.st_mode & 0o7777:04o}"
    return "its owner cannot be read"
