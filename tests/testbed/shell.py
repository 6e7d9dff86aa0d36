"""Running other programs, and the errors that the command line turns into exit codes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO


class TestbedError(Exception):
    """Something failed; `log` is the file that explains it."""

    __test__ = False
    exit_code = 1

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


class MissingPrerequisiteError(TestbedError):
    """The machine lacks something that only its owner can give."""

    exit_code = 2


class HeldError(TestbedError):
    """Another checkout's cluster runs on this machine."""

    exit_code = 3


RETRY_PAUSE = 3.0  # seconds

# Daemons and image builds talk to loopback, node and Service addresses; a proxy in between breaks them.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def environment(extra: Mapping[str, str] | None = None, *, without_proxy: bool = False) -> dict[str, str]:
    """This process's environment, with the folders of system commands on PATH even for a bare login."""
    env = dict(os.environ)
    path = env.get("PATH", "").split(":")
    env["PATH"] = ":".join([*path, *(p for p in ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin") if p not in path)])
    if without_proxy:
        for name in PROXY_VARIABLES:
            env.pop(name, None)
    env.update(extra or {})
    return env


_running: set[subprocess.Popen[bytes]] = set()
_stopped = threading.Event()


class StoppedError(TestbedError):
    """The program was not started, or was ended, because another step had failed."""


def run(
    args: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    attempts: int = 1,
    finish: bool = False,
) -> str:
    """Runs a program to its end and returns stdout; with `log`, everything that it prints is appended there instead.

    `attempts` is for programs that download: a registry that fails once in a while must not fail a build of minutes.
    `finish` is for programs that must not be ended halfway when another step fails.
    """
    for attempt in range(1, attempts + 1):
        try:
            return _run_once([str(a) for a in args], log, env, cwd, stdin, timeout, finish)
        except TestbedError:
            if attempt == attempts or _stopped.wait(RETRY_PAUSE):
                raise
    raise AssertionError("attempts must be at least 1")


def _run_once(
    command: list[str],
    log: Path | None,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: str | None,
    timeout: float | None,
    finish: bool,
) -> str:
    if _stopped.is_set() and not finish:
        raise StoppedError(f"`{Path(command[0]).name}` was not started, because another step has failed", log)
    with contextlib.ExitStack() as stack:
        if log is None:
            stdout: IO[bytes] | int = subprocess.PIPE
            stderr: int = subprocess.PIPE
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            stdout = stack.enter_context(log.open("ab"))
            stdout.write(f"$ {' '.join(command)}\n".encode())
            stdout.flush()
            stderr = subprocess.STDOUT
        source = subprocess.PIPE if stdin is not None else None
        process = stack.enter_context(subprocess.Popen(command, stdin=source, stdout=stdout, stderr=stderr, env=environment(env), cwd=cwd))
        if not finish:
            _running.add(process)
            if _stopped.is_set():  # set between the check above and this line
                process.terminate()
        try:
            out, err = process.communicate(stdin.encode() if stdin is not None else None, timeout)
        except BaseException:
            process.kill()
            raise
        finally:
            _running.discard(process)
    if process.returncode == 0:
        return (out or b"").decode(errors="replace")
    if log is not None:
        raise TestbedError(f"`{Path(command[0]).name}` failed with exit code {process.returncode}", log)
    said = (err.strip() or out.strip()).decode(errors="replace")
    raise TestbedError(f"`{' '.join(command)}` failed with exit code {process.returncode}: {said}")


def stop_running() -> None:
    """Ends the programs that run in other threads, and lets no new one start until `allow_running`."""
    _stopped.set()
    for process in list(_running):
        with contextlib.suppress(OSError):
            process.terminate()


def allow_running() -> None:
    _stopped.clear()


def succeeds(args: Sequence[str | Path]) -> bool:
    command = [str(a) for a in args]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), check=False).returncode == 0
