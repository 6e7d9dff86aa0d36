"""Operator processes: the test starts them in milliseconds, kills them with SIGKILL, and starts them again as kubelet
would."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_injection.faults import SHORT_INTERVALS, Intervals
from fault_injection.fork_server import KUBECONFIG, LOG
from testbed.layout import CHECKOUT
from testbed.shell import environment

ARGUMENTS = ("--job-image", "simulated/driver:1", "--port", "0")
IMPORT_SECONDS = 60
LOG_TAIL = 4000


@dataclass
class ForkServer:
    folder: Path
    _process: asyncio.subprocess.Process = field(init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __aenter__(self) -> ForkServer:
        paths = [str(CHECKOUT / name) for name in ("tests", "operator", "crds")]
        env = environment({"PYTHONPATH": ":".join(paths), "PYTHONUNBUFFERED": "1", "KUBECONFIG": KUBECONFIG}, without_proxy=True)
        command = ("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "fault_injection.fork_server")
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=env, cwd=self.folder
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends the fork server. The kernel then kills its operators."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def request(self, **request: Any) -> Any:
        """Sends a request and returns the answer. When the caller is cancelled, the answer is still read, so the next
        caller does not receive it."""
        return await asyncio.shield(asyncio.create_task(self._exchange(request)))

    async def _exchange(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        async with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            async with asyncio.timeout(IMPORT_SECONDS):
                answer = await self._process.stdout.readline()
        assert answer, "the fork server has ended: see its error output above"
        return json.loads(answer)


@dataclass
class Operator:
    """One operator for one namespace. The kubeconfig in its folder names the API server or a proxy."""

    server: ForkServer
    namespace: str
    folder: Path
    intervals: Intervals = SHORT_INTERVALS
    starts: int = 0
    pid: int | None = None

    async def start(self) -> None:
        arguments = [*ARGUMENTS, "--resync-seconds", str(self.intervals.resync_seconds), "--namespace", self.namespace]
        request = {"arguments": arguments, "folder": str(self.folder), "relist_seconds": self.intervals.relist_seconds}
        self.pid = await self.server.request(do="start", **request)
        self.starts += 1

    async def kill(self) -> None:
        """Sends SIGKILL and returns when the process has ended."""
        pid, self.pid = self.pid, None
        if pid is not None:
            await self.server.request(do="kill", pid=pid)

    async def has_ended(self) -> bool:
        """Whether the operator ended without being killed."""
        if self.pid is None or await self.server.request(do="poll", pid=self.pid) is None:
            return False
        self.pid = None
        return True

    def describe(self) -> str:
        """Returns the end of the operator's log."""
        log = self.folder / LOG
        return log.read_text(errors="replace")[-LOG_TAIL:] if log.exists() else ""
