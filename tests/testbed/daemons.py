"""Long-running programs of the cluster: started detached, found again by process id and start time.

A process id alone is reused after a while; together with the start time of /proc it names one process for ever,
so nothing is ever killed that this test bed did not start.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed import cgroups
from testbed.layout import RUN, Layout
from testbed.locks import write_atomically
from testbed.shell import TestbedError, environment

PIDS = RUN / "pids"
_started: list[subprocess.Popen[bytes]] = []  # kept: they outlive this process, and Python warns of one that is forgotten
_MAX_LOG = 64 * 1024 * 1024  # bytes; a log above it is put aside at the next start


@dataclass(frozen=True)
class Daemon:
    name: str
    args: tuple[str, ...]
    ready: Callable[[], bool]
    ready_within: float = 60.0  # seconds


def start_time(pid: int) -> int | None:
    """Clock ticks after boot; None when there is no such process or only its zombie."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if after_name[0] in ("Z", "X") else int(after_name[19])


def recorded_pid(name: str) -> int | None:
    """The daemon's process id, if that very process is alive."""
    record = PIDS / f"{name}.json"
    try:
        known = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    pid = int(known["pid"])
    return pid if start_time(pid) == known["start"] else None


# A shell enters the cgroups and becomes the daemon: no Python runs between fork and exec, where threads make that unsafe.
_BECOME = 'for group; do [ "$group" = -- ] && break; echo $$ >"$group"; shift; done; shift; ulimit -n "$(ulimit -H -n)"; exec "$@"'


def start(daemon: Daemon, layout: Layout) -> None:
    log = layout.log / f"{daemon.name}.log"
    if log.exists() and log.stat().st_size > _MAX_LOG:
        log.rename(log.with_suffix(".log.1"))
    with log.open("ab") as sink:
        process = subprocess.Popen(
            ["sh", "-ec", _BECOME, "sh", *cgroups.daemon_files(), "--", *daemon.args],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=layout.state,
            env=environment(without_proxy=True),
            start_new_session=True,
        )
    _started.append(process)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, 0)  # not the caller's niceness
    write_atomically(PIDS / f"{daemon.name}.json", json.dumps({"pid": process.pid, "start": start_time(process.pid)}) + "\n")


def wait_ready(daemon: Daemon, layout: Layout) -> None:
    log = layout.log / f"{daemon.name}.log"
    deadline = time.monotonic() + daemon.ready_within
    while not daemon.ready():
        if recorded_pid(daemon.name) is None:
            raise TestbedError(f"{daemon.name} ended at its start", log)
        if time.monotonic() > deadline:
            raise TestbedError(f"{daemon.name} is not ready after {daemon.ready_within:.0f} s", log)
        time.sleep(0.1)


def stop(name: str, how: signal.Signals = signal.SIGTERM, timeout: float = 20.0) -> None:
    """Ends the daemon and waits for it; harder after half of the time."""
    pid = recorded_pid(name)
    if pid is None:
        return
    begun = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
    while recorded_pid(name) is not None:
        elapsed = time.monotonic() - begun
        if elapsed > timeout:
            raise TestbedError(f"{name} (process {pid}) does not end")
        if elapsed > timeout / 2:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)
