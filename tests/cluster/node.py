"""The test bed's node from below: a pod's processes as this machine sees them, and faults that no API offers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.daemons import start_time
from testbed.layout import RUN

RUNC = RUN / "runc" / "k8s.io"


@dataclass(frozen=True)
class Process:
    pid: int
    started: int
    """Clock ticks from boot to start: tells the process from a later one with the same pid."""
    parent: int
    container: str
    command: str

    def is_alive(self) -> bool:
        return start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)


def list_processes(pod_uid: str) -> list[Process]:
    """Finds them by their cgroup, whose path contains `pod<uid>/<container>`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            path = (folder / "cgroup").read_text()
            started = start_time(int(folder.name))
            if f"/pod{pod_uid}/" in path and started is not None:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                container = path.split(f"/pod{pod_uid}/")[1].split()[0]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(Process(int(folder.name), started, parent, container, command))
    return found


def list_driver(pod_uid: str) -> list[Process]:
    """All processes of the driver's container, Python and the JVM among them."""
    processes = list_processes(pod_uid)
    containers = {process.container for process in processes if "dedup_job" in process.command}
    assert len(containers) == 1, f"pod {pod_uid} has no running driver: {processes}"
    return [process for process in processes if process.container in containers]


def kill_driver(pod_uid: str) -> None:
    """Sends SIGKILL to the Python process only: the kernel's out-of-memory killer also chooses a single process."""
    for process in list_driver(pod_uid):
        if process.command.startswith("python"):
            process.kill()


def find_shim(pod_uid: str) -> Process:
    """containerd's shim process of the pod. kubelet reaches the pod's containers only through it."""
    processes = list_processes(pod_uid)
    (pid,) = {process.parent for process in processes} - {process.pid for process in processes}
    started = start_time(pid)
    assert started is not None, f"the shim of pod {pod_uid} has ended"
    return Process(pid, started, 0, "", "shim")


@contextlib.contextmanager
def orphan_driver(pod_uid: str) -> Iterator[list[Process]]:
    """Kills the pod's shim while the driver lives on as a child of init. At the end the driver is killed.

    containerd ends the containers of a dead shim with runc. It cannot while runc's record of the container is missing.
    """
    driver, shim = list_driver(pod_uid), find_shim(pod_uid)
    container = driver[0].container
    hidden = RUN / f"hidden-{container}"
    try:
        (RUNC / container).rename(hidden)
        shim.kill()
        yield driver
    finally:
        for process in driver:
            process.kill()
        shutil.rmtree(hidden, ignore_errors=True)


def is_frozen(process: Process) -> bool:
    return process.is_alive() and (Path("/proc") / str(process.pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


@contextlib.contextmanager
def freeze(processes: list[Process]) -> Iterator[None]:
    """Stops the processes with everything they own, as when a machine is suspended. At the end they continue."""
    try:
        for process in processes:
            process.send(signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            process.send(signal.SIGCONT)
