"""The lock on the checkpoint: which driver gets it, which one waits, and when it is free again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.lock import CheckpointLock, take_lock
from dedup_job.errors import JobError

HOLD = "import sys; print('here', flush=True); sys.stdin.read()"


def take(root: Path, stop: bool = False, seconds: float = 1.0) -> CheckpointLock | None:
    return take_lock(root, lambda pause: stop, seconds)


def is_free(root: Path) -> bool:
    try:
        lock = take(root, seconds=0.5)
    except JobError as error:
        assert error.code is ExitCode.CHECKPOINT_LOCKED
        return False
    assert lock is not None
    lock.close()
    return True


def test_the_second_driver_waits_and_then_names_the_owner(tmp_path: Path) -> None:
    first = take(tmp_path / "volume")
    assert first is not None
    pauses: list[float] = []

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return False

    with pytest.raises(JobError, match=f"process {os.getpid()}, since 20") as caught:
        take_lock(tmp_path / "volume", wait, 3.0)
    assert caught.value.code is ExitCode.CHECKPOINT_LOCKED
    assert pauses == [0.5] * 6
    first.close()
    assert is_free(tmp_path / "volume")


def test_a_waiting_driver_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    first = take(tmp_path)
    assert first is not None

    def wait(pause: float) -> bool:
        first.close()
        return False

    second = take_lock(tmp_path, wait)
    assert second is not None
    assert not is_free(tmp_path)
    second.close()


def test_a_requested_stop_ends_the_wait(tmp_path: Path) -> None:
    first = take(tmp_path)
    assert first is not None
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    assert take(tmp_path, stop=True) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    first.close()


def test_the_lock_is_held_until_the_last_of_two_processes_ends(tmp_path: Path) -> None:
    lock = take(tmp_path)
    assert lock is not None
    child = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, pass_fds=(lock.fd,))
    lock.close()
    assert not is_free(tmp_path)
    child.kill()
    child.communicate()
    assert is_free(tmp_path)


def test_other_child_processes_do_not_hold_the_lock(tmp_path: Path) -> None:
    lock = take(tmp_path)
    assert lock is not None
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"here\n"  # until then a child has all descriptors
            lock.close()
            assert is_free(tmp_path)
        finally:
            child.kill()


def test_the_name_of_an_earlier_owner_is_replaced_completely(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("x" * 2000)
    lock = take(tmp_path)
    assert lock is not None
    assert "x" not in (tmp_path / "lock").read_text()
    lock.close()


def test_a_volume_that_fails_stops_the_driver(tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("no folder")
    with pytest.raises(JobError, match="EEXIST") as caught:
        take(tmp_path / "volume")
    assert caught.value.code is ExitCode.CHECKPOINT_NOT_WRITABLE
