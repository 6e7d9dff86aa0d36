"""Starts one JVM and forks drivers that use it, one driver at a time.

`python -m kafka.driver_host FOLDER` reads orders from stdin and answers on stdout, one line of JSON each. Most of a
short driver's time goes into the imports of Python and into a JVM that has yet to load and compile Spark. Here both are
done once. Everything else is the shipped driver: `main.main` in a process of its own, with its own Spark session, HTTP
server, signals and exit code. Two things differ. The JVM does not end with the driver: the driver stops its Spark
session, closes its Kafka producer, and resets the static fields of our Java classes. The JVM does not hold the
checkpoint's lock. Therefore tests of the process itself (kills, the lock, a JVM that dies) must use `driver.Driver`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import dedup_job.main
import dedup_job.query_run  # imports PySpark before the fork
from dedup_job.jvm.memory import MemoryPlan, build_memory_plan
from dedup_job.jvm.process import Jvm, connect_gateway, start_jvm

CPUS, MEMORY_BYTES = 2, 1536 * 1024 * 1024
"""Of the JVM. Drivers with other settings need a JVM of their own."""
LOG = "jvm.log"
"""In the folder: what the JVM writes, for all drivers one after the other."""
PR_SET_PDEATHSIG = 1


class SharedJvm(Jvm):
    """Stands for the JVM in a forked driver, which is not the JVM's parent and must not end it."""

    def check(self, patience: float = 0) -> None:
        os.kill(self.process.pid, 0)

    def end(self, timeout: float = 0) -> None:
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        if SparkSession._instantiatedSession is not None:
            SparkSession._instantiatedSession.stop()
        if SparkContext._gateway is not None:
            reset_static_fields(SparkContext._gateway.jvm)


def reset_static_fields(jvm: Any) -> None:
    """A JVM that has just started has no samples of event times and no producer."""
    sink = read_static_field(jvm, "TransactionalSink", "CURRENT").getAndSet(None)
    if sink is not None:
        sink.close()
    read_static_field(jvm, "BatchTimes", "SAMPLES").clear()


def read_static_field(jvm: Any, name: str, field: str) -> Any:
    found = jvm.java.lang.Class.forName(f"dev.streamdedup.{name}").getDeclaredField(field)
    found.setAccessible(True)
    return found.get(None)


class Host:
    def __init__(self, folder: Path) -> None:
        self._memory = build_memory_plan(MEMORY_BYTES)
        self._log = folder / LOG
        self._jvm: Jvm | None = None

    def obey(self, order: dict[str, Any]) -> Any:
        match order["do"]:
            case "start":
                return self._start(order["arguments"], order["output"])
            case "poll":
                pid, status = os.waitpid(order["pid"], os.WNOHANG)
                return os.waitstatus_to_exitcode(status) if pid else None
            case "signal":
                return os.kill(order["pid"], order["number"])
            case "end-jvm":
                return self._end_jvm()
        raise ValueError(f"unknown order: {order}")

    def _start(self, arguments: list[str], output: str) -> dict[str, int]:
        """The driver's process id, and where in the log of the JVM its part begins."""
        jvm = self._ensure_jvm()
        start = self._log.stat().st_size
        pid = os.fork()
        if pid == 0:
            run_driver(arguments, output, jvm, self._memory)
        return {"pid": pid, "log_start": start}

    def _ensure_jvm(self) -> Jvm:
        if self._jvm is None or self._jvm.process.poll() is not None:
            self._jvm, connection_file = start_jvm(self._memory, CPUS)
            connect_gateway(self._jvm, connection_file)  # tells the drivers where it is, through the environment
        return self._jvm

    def _end_jvm(self) -> None:
        if self._jvm is not None:
            self._jvm.process.kill()
            self._jvm.process.wait()
            self._jvm = None


def run_driver(arguments: list[str], output: str, jvm: Jvm, memory: MemoryPlan) -> NoReturn:
    """The life of a forked driver."""
    code = 70
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        use_shared_jvm(jvm, memory)
        code = dedup_job.main.main(arguments)
    except BaseException:  # noqa: BLE001  a forked driver must not return into the host
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def use_shared_jvm(jvm: Jvm, memory: MemoryPlan) -> None:
    def start(wanted: MemoryPlan, cpus: int, lock_fd: int | None = None) -> tuple[Jvm, Path]:
        assert (wanted, cpus) == (memory, CPUS), "this driver needs a JVM of its own: start it with start_driver"
        return SharedJvm(jvm.process), Path()

    def connect(jvm: Jvm, connection_file: Path) -> None:
        """The environment names the JVM already."""

    dedup_job.main.start_jvm, dedup_job.main.connect_gateway = start, connect  # type: ignore[assignment, attr-defined]


def main(folder: Path) -> None:
    answers = os.fdopen(os.dup(1), "w")
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    host = Host(folder)
    gc.freeze()
    for line in sys.stdin:
        answers.write(json.dumps(host.obey(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
