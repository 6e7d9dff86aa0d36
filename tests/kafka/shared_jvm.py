"""Drivers that share one JVM: for tests of what a driver does with records and brokers, not of its process.

A driver in a JVM that has run others before takes about a third of the processor time of one that starts a JVM. What
differs from the shipped driver is said in `driver_host`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dedup_api.job_config import JobConfig
from kafka.driver import ROOT, Driver
from kafka.driver_host import LOG

STOP_SECONDS = 120
"""After a test a driver gets as long to stop as a pod gives it. A driver that takes longer is killed, with the JVM."""
POLL = 0.02


class DriverHost:
    """The process of `driver_host`, seen from the tests. It ends with this process."""

    def __init__(self, folder: Path, jars: Path) -> None:
        paths = os.pathsep.join(str(ROOT / name) for name in ("crds", "job", "tests"))
        environment = {**os.environ, "PYTHONPATH": paths, "DEDUP_CONNECTOR_JARS": str(jars)}
        command = [sys.executable, "-W", "ignore", "-m", "kafka.driver_host", str(folder)]
        self.log = folder / LOG
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def order(self, do: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the driver host has ended; {self.log} says why:\n{self.log.read_text()[-3000:]}"
        return json.loads(answer)

    def end(self) -> None:
        self.order("end-jvm")
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class ForkedProcess:
    """As much of `subprocess.Popen` as `Driver` uses. The host alone can wait for the process."""

    def __init__(self, host: DriverHost, arguments: list[str], output: Path) -> None:
        found = host.order("start", arguments=arguments, output=str(output))
        self._host, self.pid, self.log_start = host, int(found["pid"]), int(found["log_start"])
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._host.order("poll", pid=self.pid)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked driver", timeout or 0)
            time.sleep(POLL)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            self._host.order("signal", pid=self.pid, number=int(number))

    def kill(self) -> None:
        """The JVM is ended too: this driver's Spark session is still in it."""
        self.send_signal(signal.SIGKILL)
        self._host.order("end-jvm")


class SharedJvmDriver(Driver):
    """A driver in the JVM of the host. When a test leaves it, it is stopped as a pod is."""

    def __init__(self, folder: Path, config: JobConfig | str, jars: Path, host: DriverHost) -> None:
        self._host = host
        super().__init__(folder, config, jars)

    def _start(self, jars: Path) -> ForkedProcess:
        self._forked = ForkedProcess(self._host, self.build_arguments(), self.output)
        return self._forked

    def __exit__(self, *exception: object) -> None:
        self.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            super().__exit__(*exception)

    def read_output(self) -> str:
        """Of the driver and, behind it, of the JVM since the driver's start."""
        with self._host.log.open("rb") as log:
            log.seek(self._forked.log_start)
            return super().read_output() + log.read().decode(errors="replace")[-8000:]

    def find_jvm(self) -> int:
        raise AssertionError("the JVM is shared: a test that inspects or kills the JVM must use start_driver")
