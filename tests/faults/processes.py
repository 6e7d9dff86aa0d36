"""The processes of a run: drivers with a fault, and a tag by which the run finds and kills all its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from dedup_api.job_config import JobConfig
from faults.files import build_environment, read_time
from faults.schedule import Fault
from kafka.driver import Driver

TRANSACTION_SECONDS = 15
"""A transaction may last so long in these runs. A frozen process stays frozen for longer."""
_TAG = "DEDUP_FAULTS_RUN"
_END_SECONDS = 20.0


@dataclass(frozen=True)
class Tag:
    """A variable in the environment of every process of a run. Child processes inherit it."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def environment(self) -> dict[str, str]:
        return {_TAG: self.name}

    def list_processes(self, also: str = "") -> list[int]:
        """The processes that have the tag, and the variable `also`, in their environment."""
        wanted = {f"{_TAG}={self.name}".encode(), *([also.encode()] if also else [])}
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if wanted <= _read_environment(path)]

    def kill_all(self) -> None:
        """Sends SIGKILL until no process is left."""
        deadline = time.monotonic() + _END_SECONDS
        while (left := self.list_processes()) and time.monotonic() < deadline:
            for process in left:
                _send(process, signal.SIGKILL)
            time.sleep(0.1)


def _read_environment(path: Path) -> set[bytes]:
    try:
        return set(path.read_bytes().split(b"\0"))
    except OSError:
        return set()


def _send(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return


class FaultyDriver(Driver):
    """A driver with a fault, or a healthy one if `fault` is None. The folder holds the checkpoint, as that of
    `Driver` does."""

    def __init__(
        self, folder: Path, config: JobConfig, jars: Path, tag: Tag, environment: dict[str, str], fault: Fault | None, lock_seconds: float
    ) -> None:
        self._tag, self._fault, self._lock_seconds = tag, fault, lock_seconds
        self._life = uuid.uuid4().hex
        self._environment = {**environment, **tag.environment, "DEDUP_FAULTS_LIFE": self._life, "DEDUP_CONNECTOR_JARS": str(jars)}
        for old in folder.glob("at-*"):
            old.unlink()
        self.started = time.time()
        super().__init__(folder, config, jars)

    def _start(self, jars: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-m", "faults.faulty_driver", str(self.folder)]
        command += ["--transaction-seconds", str(TRANSACTION_SECONDS), "--lock-seconds", str(self._lock_seconds)]
        if self._fault is not None:
            command += ["--fault", self._fault.to_json()]
        command += ["--", *self.build_arguments()]
        with self.output.open("wb") as output:
            environment = build_environment(self._environment)
            return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self) -> FaultyDriver:
        return self

    @property
    def mark(self) -> Path:
        assert self._fault is not None
        return self.folder / f"at-{self._fault.point}"

    def read_mark(self) -> float | None:
        """The time of the fault in seconds since 1970; None as long as it has not happened."""
        return read_time(self.mark)

    def poll(self) -> int | None:
        """The exit code; None as long as the driver runs."""
        return self._process.poll()

    def thaw(self) -> None:
        for process in self._tag.list_processes(f"DEDUP_FAULTS_LIFE={self._life}"):
            _send(process, signal.SIGCONT)

    def find_reason(self) -> str | None:
        """The reason in the termination message; None without a message."""
        try:
            found = json.loads(self.termination_log.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return str(found.get("reason"))
