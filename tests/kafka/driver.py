"""A driver as the image runs it: a process of its own with a JVM of its own, seen through its HTTP port."""

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
"""A test waits so long for what its driver is to do. A driver that starts takes ten seconds on an idle machine of two
cores."""

GRACE = 120
"""Seconds that a pod gives its driver to end."""
POLL = 0.1


def build_config(bootstrap: str, source_topic: str, sink_topic: str | None, **changes: Any) -> JobConfig:
    """The settings of a small job; `changes` are top-level fields of `job.json`. The job has the name of its source
    topic, so that it does not wait for the transactions of another test's job."""
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
    """The part of `subprocess.Popen` that the tests need of a driver's process."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


class Driver:
    """One run of a driver. `folder` holds the checkpoint, and the next run continues from it."""

    command_prefix: tuple[str, ...] = ()
    """A command that runs the driver, such as strace."""
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
        """None as long as the driver does not answer."""
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
            time.sleep(POLL)
        raise AssertionError(f"the condition did not hold within {seconds} s; last status {status}\n{self.read_output()}")

    def wait_for_rows(self, rows: int) -> DriverStatus:
        """Waits until the committed batches of all runs have read so many records."""
        return self.wait_until(lambda status: status.progress.rows_in >= rows and status.phase is Phase.RUNNING)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait_for_end(self, seconds: float = START_SECONDS) -> int:
        """The exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver did not end within {seconds} s:\n{self.read_output()}") from None

    def stop(self) -> int:
        """Stops the driver as a pod is stopped. Returns the exit code."""
        self.terminate()
        return self.wait_for_end()

    def read_output(self) -> str:
        """The end of what the driver and its JVM have written to stdout and stderr."""
        return self.output.read_text(errors="replace")[-8000:]

    def read_termination_message(self) -> TerminationMessage:
        content = self.termination_log.read_bytes()
        assert len(content) <= 4096, "Kubernetes cuts off a longer termination message"
        return TerminationMessage.model_validate_json(content)

    def find_jvm(self) -> int:
        """The process id of the driver's JVM."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return next(int(child) for child in children if "java" in Path(f"/proc/{child}/comm").read_text())

    def kill_jvm(self) -> None:
        """Sends SIGKILL to the JVM alone."""
        os.kill(self.find_jvm(), signal.SIGKILL)


StartDriver = Callable[[JobConfig | str], Driver]
"""The fixtures `start_driver` and `start_in_shared_jvm`."""
