"""A driver as the image runs it: a process of its own, watched from outside through its HTTP port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from dedup_api.driver_status import DriverStatus, Phase, TerminationMessage
from dedup_api.job_config import JobConfig
from kafka.broker import NAMESPACE

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240
"""Until a driver must have done what a test waits for: ten on an idle machine of two cores."""

GRACE = 120
"""Seconds that a pod gives its driver to end."""


def build_config(bootstrap: str, source_topic: str, sink_topic: str | None, **changes: Any) -> JobConfig:
    """A small job of its own name, so that none waits for the transactions of another; `changes` are top-level fields of `job.json`."""
    document: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": source_topic,
        "source": {"bootstrapServers": bootstrap, "topic": source_topic},
        "format": "Json",
        "key": {"fields": ["id"]},
        "eventTime": {"field": "at"},
        "watermark": "1h",
        "onInvalid": "Drop",
        "processingTime": "0s",
        "sink": {"console": {}} if sink_topic is None else {"kafka": {"topic": sink_topic}},
        "parallelism": 2,
        "cpus": 2,
        "memoryBytes": 1536 * 1024 * 1024,
    }
    return JobConfig.model_validate({**document, **changes})


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process(Protocol):
    """As much of `subprocess.Popen` as a driver's process needs here."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


class Driver:
    """One run. `folder` holds the checkpoint and is kept from run to run."""

    command_prefix: tuple[str, ...] = ()
    """What the driver is started under."""
    program: tuple[str, ...] = ("-m", "dedup_job")

    def __init__(self, folder: Path, config: JobConfig | str, jars: Path) -> None:
        self.folder, self.port, self.jars = folder, find_free_port(), jars
        self.checkpoint, self.termination_log = folder / "checkpoint", folder / "termination-log"
        self.output = folder / f"output-{self.port}"
        text = config if isinstance(config, str) else json.dumps(config.to_json_dict())
        (folder / "job.json").write_text(text)
        self.checkpoint.mkdir(exist_ok=True)
        self.termination_log.unlink(missing_ok=True)
        self._process = self._start(jars)

    def build_arguments(self) -> list[str]:
        paths = {"--config": self.folder / "job.json", "--checkpoint": self.checkpoint, "--termination-log": self.termination_log}
        return ["--port", str(self.port), *(word for name, path in paths.items() for word in (name, str(path)))]

    def _start(self, jars: Path) -> Process:
        command = [*self.command_prefix, sys.executable, "-W", "ignore", *self.program, *self.build_arguments()]
        paths = os.pathsep.join(str(ROOT / name) for name in ("crds", "job"))
        environment = {**os.environ, "PYTHONPATH": paths, "DEDUP_CONNECTOR_JARS": str(jars)}
        with self.output.open("wb") as output:
            return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def read_status(self) -> DriverStatus | None:
        try:
            return DriverStatus.model_validate_json(self.get("/status")[1])
        except OSError:
            return None

    def wait_until(self, condition: Callable[[DriverStatus], bool], seconds: float = START_SECONDS) -> DriverStatus:
        deadline = time.monotonic() + seconds
        status = None
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"the driver ended with {self._process.poll()}:\n{self.read_output()}"
            status = self.read_status()
            if status is not None and condition(status):
                return status
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s; last status {status}\n{self.read_output()}")

    def wait_for_rows(self, rows: int) -> DriverStatus:
        """Until so many records have gone through committed batches of all runs."""
        return self.wait_until(lambda status: status.progress.rows_in >= rows and status.phase is Phase.RUNNING)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait_for_end(self, seconds: float = START_SECONDS) -> int:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver did not end:\n{self.read_output()}") from None

    def stop(self) -> int:
        self.terminate()
        return self.wait_for_end()

    def read_output(self) -> str:
        return self.output.read_text(errors="replace")[-8000:]

    def read_termination_message(self) -> TerminationMessage:
        content = self.termination_log.read_bytes()
        assert len(content) <= 4096
        return TerminationMessage.model_validate_json(content)

    def find_jvm(self) -> int:
        """Its process id."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return next(int(child) for child in children if "java" in Path(f"/proc/{child}/comm").read_text())

    def kill_jvm(self) -> None:
        """kill -9 of the JVM alone."""
        os.kill(self.find_jvm(), signal.SIGKILL)
