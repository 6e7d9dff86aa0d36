"""Operator processes: started in an instant, killed without a word, started again as kubelet would."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_injection.faults import OFTEN, Pace
from fault_injection.fork_server import KUBECONFIG, LOG
from testbed.layout import CHECKOUT
from testbed.shell import environment

ARGUMENTS = ("--job-image", "played/driver:1", "--port", "0")
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
        """Its operators end with it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def order(self, **order: Any) -> Any:
        """A caller that is cancelled leaves no answer behind for the next one."""
        return await asyncio.shield(asyncio.create_task(self._exchange(order)))

    async def _exchange(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        async with self._lock:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            async with asyncio.timeout(IMPORT_SECONDS):
                answer = await self._process.stdout.readline()
        assert answer, "the fork server has ended"
        return json.loads(answer)


@dataclass
class Operator:
    """One operator for one namespace. The kubeconfig in its folder says whether it talks to the API server or to a proxy."""

    server: ForkServer
    namespace: str
    folder: Path
    pace: Pace = OFTEN
    starts: int = 0
    pid: int | None = None

    async def start(self) -> None:
        arguments = [*ARGUMENTS, "--resync-seconds", str(self.pace.resync_seconds), "--namespace", self.namespace]
        order = {"arguments": arguments, "folder": str(self.folder), "relist_seconds": self.pace.relist_seconds}
        self.pid = await self.server.order(do="start", **order)
        self.starts += 1

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        pid, self.pid = self.pid, None
        if pid is not None:
            await self.server.order(do="kill", pid=pid)

    async def has_ended(self) -> bool:
        """By itself. A killed one has not."""
        if self.pid is None or await self.server.order(do="poll", pid=self.pid) is None:
            return False
        self.pid = None
        return True

    def describe(self) -> str:
        """The end of its log."""
        log = self.folder / LOG
        return log.read_text(errors="replace")[-LOG_TAIL:] if log.exists() else ""
