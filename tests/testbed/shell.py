"""Running other programs, and the errors that the command line turns into exit codes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


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


def run(
    args: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    attempts: int = 1,
) -> str:
    """Runs to the end and returns stdout; with `log`, everything it prints is appended there instead.

    `attempts` is for what downloads: a registry that fails once in a while must not fail a build of minutes.
    """
    if attempts > 1:
        try:
            return run(args, log=log, env=env, cwd=cwd, stdin=stdin, timeout=timeout)
        except TestbedError:
            time.sleep(RETRY_PAUSE)
            return run(args, log=log, env=env, cwd=cwd, stdin=stdin, timeout=timeout, attempts=attempts - 1)
    command = [str(a) for a in args]
    full_env = environment(env)
    if log is None:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=full_env, cwd=cwd, timeout=timeout, check=False)
        if done.returncode != 0:
            raise TestbedError(f"`{' '.join(command)}` failed with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        sink.write(f"$ {' '.join(command)}\n".encode())
        sink.flush()
        logged = subprocess.run(
            command, input=stdin.encode() if stdin is not None else None, stdout=sink, stderr=subprocess.STDOUT,
            env=full_env, cwd=cwd, timeout=timeout, check=False,
        )  # fmt: skip
    if logged.returncode != 0:
        raise TestbedError(f"`{Path(command[0]).name}` failed with {logged.returncode}", log)
    return ""


def succeeds(args: Sequence[str | Path]) -> bool:
    command = [str(a) for a in args]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), check=False).returncode == 0
