"""The test bed's own cgroup: every process of the cluster is in it, pods and daemons alike.

That makes "all of it and nothing else" exact: whatever started what, stopping the cluster is ending the
processes of one subtree. Works with cgroup v1 (one tree per controller) and v2 (one tree).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from testbed.layout import CGROUP
from testbed.shell import TestbedError

MOUNT = Path("/sys/fs/cgroup")
DAEMONS = "daemons"
SHARE = 32
"""Processes that the cluster counts as when the machine's processors are divided."""
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")


def is_v2() -> bool:
    return (MOUNT / "cgroup.controllers").exists()


def trees() -> list[Path]:
    if is_v2():
        return [MOUNT]
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] == "cgroup" and Path(fields[1]).is_relative_to(MOUNT)]


def _all_trees() -> list[Path]:
    """Also the tree without controllers that hybrid systems have beside v1: container runtimes make groups there too."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2") and Path(fields[1]).is_relative_to(MOUNT)]


def create() -> None:
    for tree in trees():
        own = tree / CGROUP
        try:
            (own / DAEMONS).mkdir(parents=True, exist_ok=True)
            if is_v2():
                _enable_controllers(tree)
                _enable_controllers(own)
            else:
                _inherit_cpuset(tree, own)
                _inherit_cpuset(own, own / DAEMONS)
            _set_share(own)
        except OSError as error:
            raise TestbedError(f"cannot set up the cgroup {own}: {error}") from error


def _enable_controllers(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    enabled = (group / "cgroup.subtree_control").read_text().split()
    for controller in _V2_CONTROLLERS:
        if controller in available and controller not in enabled:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(parent: Path, child: Path) -> None:
    """A new v1 cpuset is empty and takes no process until it has processors and memory."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (child / name).exists() and not (child / name).read_text().strip():
            (child / name).write_text((parent / name).read_text())


def _set_share(group: Path) -> None:
    """Against processes outside, each of which counts as much as a whole group of the default weight: a cluster is many of them."""
    for name, default in (("cpu.weight", 100), ("cpu.shares", 1024)):
        if (group / name).exists():
            (group / name).write_text(str(default * SHARE))


def daemon_files() -> list[str]:
    """A process that writes its id to each of these is in the cgroup."""
    return [str(tree / CGROUP / DAEMONS / "cgroup.procs") for tree in trees()]


def folders() -> list[Path]:
    """Deepest first, so that they can be removed in this order."""
    found: list[Path] = []
    for tree in _all_trees():
        for current, _, _ in os.walk(tree / CGROUP, topdown=False):
            found.append(Path(current))
    return found


def processes() -> set[int]:
    pids: set[int] = set()
    for folder in folders():
        with contextlib.suppress(OSError):
            pids |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    return pids - {0}


def kill_all(timeout: float = 20.0) -> None:
    """Ends every process of the cluster; new ones that appear meanwhile too."""
    deadline = time.monotonic() + timeout
    while remaining := processes():
        for pid in remaining:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TestbedError(f"processes of the cluster do not end: {sorted(remaining)}")
        time.sleep(0.05)


def remove(timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while left := folders():
        for folder in left:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if time.monotonic() > deadline:
            raise TestbedError(f"cgroups are busy: {', '.join(map(str, left[:5]))}")
        time.sleep(0.02)
