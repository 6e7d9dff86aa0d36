"""Starts the JVM that Spark runs in, and ends it.

`spark-submit` is not used, for two reasons. It starts a second JVM only to compute the command line, which takes a
second. And the driver needs the JVM's process itself, to see at once when it ends. The JVM ends when its standard input
is closed, so it never outlives the Python process, not even after `kill -9`.
"""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.errors import JobError
from dedup_job.jvm.memory import MemoryPlan

START_TIMEOUT = 120.0
"""Seconds that the JVM has to open its gateway. It takes 2 s on an idle machine, and much longer on a node that starts
fifty drivers at once."""
END_TIMEOUT = 10.0
"""Seconds that the JVM has to end after the driver has closed its standard input. Then the driver kills it."""
OUT_OF_MEMORY_EXIT = 3
"""HotSpot's exit code under -XX:+ExitOnOutOfMemoryError."""

_OPENED_PACKAGES = (
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio"),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
    *("jdk.internal.ref", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)
"""Packages of java.base that Spark accesses by reflection. The source is org.apache.spark.launcher.JavaModuleOptions of
Spark 4.2."""


@dataclass(frozen=True)
class Jvm:
    process: subprocess.Popen[bytes]

    def check(self, wait_seconds: float = 0) -> None:
        """JobError when the process has ended or ends within `wait_seconds`."""
        try:
            code = self.process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            return
        if code == OUT_OF_MEMORY_EXIT:
            raise JobError(ExitCode.INTERNAL, "the JVM has used up its heap", Reason.OUT_OF_MEMORY)
        raise JobError(ExitCode.INTERNAL, f"the JVM ended with code {code}")

    def end(self, timeout: float = END_TIMEOUT) -> None:
        """Closes the JVM's standard input: the JVM then removes its temporary files and ends. Kills it after `timeout`
        seconds."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_spark_home() -> Path:
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JobError(ExitCode.INTERNAL, "the Python package pyspark is not installed")
    return Path(spec.origin).parent


def list_jars(spark_home: Path, connector_jars: Path | None) -> list[Path]:
    """The jars of the class path, always in the same order: a class-data archive is valid for one order only.

    `connector_jars`: the folder with the jars of Spark's Kafka connector. None in the image, which has copied them to
    Spark's own jars.
    """
    folders = [spark_home / "jars"] if connector_jars is None else [spark_home / "jars", connector_jars]
    return [jar for folder in folders for jar in sorted(folder.glob("*.jar"))]


def build_jvm_command(class_path: str, memory: MemoryPlan, cpus: int, archive_option: list[str]) -> list[str]:
    java_home = os.environ.get("JAVA_HOME")
    collector = "-XX:+UseParallelGC" if cpus > 1 else "-XX:+UseSerialGC"
    return [
        f"{java_home}/bin/java" if java_home else "java",
        f"-Xmx{memory.heap}m",
        f"-XX:MaxDirectMemorySize={memory.direct}m",
        "-XX:ReservedCodeCacheSize=128m",
        collector,
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-XX:+IgnoreUnrecognizedVMOptions",
        *archive_option,
        "-Xlog:cds=off,cds+dynamic=off",  # without this, the JVM logs when it ignores an archive that does not fit
        "--add-modules=jdk.incubator.vector",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED_PACKAGES),
        "--add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
        "-Djdk.reflect.useDirectMethodHandle=false",
        "-Dio.netty.tryReflectionSetAccessible=true",
        "-Duser.timezone=UTC",
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
        "-cp",
        class_path,
        "org.apache.spark.api.python.PythonGatewayServer",
    ]


def build_archive_option(dump: Path | None, archive: Path | None) -> list[str]:
    """`dump`: the archive that the JVM writes when it ends. `archive`: the one that it loads; ignored with `dump`."""
    if dump is not None:
        return [f"-XX:ArchiveClassesAtExit={dump}"]
    return [] if archive is None else [f"-XX:SharedArchiveFile={archive}"]


def read_path(variable: str) -> Path | None:
    """The path that an environment variable names; None when the variable is unset or the path does not exist."""
    text = os.environ.get(variable)
    return Path(text) if text and Path(text).exists() else None


def start_jvm(memory: MemoryPlan, cpus: int, dump_archive: Path | None = None, lock_fd: int | None = None) -> tuple[Jvm, Path]:
    """Starts the JVM without waiting for it. Returns the process and the file into which it will write its connection.

    `lock_fd`: the file descriptor of the checkpoint's lock. The JVM inherits it and so holds the lock, too; see
    `checkpoint/lock.py`.
    """
    spark_home = find_spark_home()
    jars = list_jars(spark_home, read_path("DEDUP_CONNECTOR_JARS"))
    archive_option = build_archive_option(dump_archive, read_path("DEDUP_CLASS_ARCHIVE"))
    command = build_jvm_command(":".join(str(jar) for jar in jars), memory, cpus, archive_option)
    connection_file = Path(tempfile.mkdtemp(prefix="dedup-gateway-")) / "connection"
    # By default, glibc creates up to eight allocation arenas for each core, and RocksDB's threads fragment all of them.
    environment = {
        "MALLOC_ARENA_MAX": "2",
        **os.environ,
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "_PYSPARK_DRIVER_CONN_INFO_PATH": str(connection_file),
    }
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C in a terminal must reach only Python, which stops between two batches
            pass_fds=() if lock_fd is None else (lock_fd,),
        )
    except FileNotFoundError as error:
        message = "the program java was not found: install a Java 17 runtime and set JAVA_HOME, or add it to the PATH"
        raise JobError(ExitCode.INTERNAL, message) from error
    return Jvm(process), connection_file


def connect_gateway(jvm: Jvm, connection_file: Path) -> None:
    """Waits until the JVM has written `connection_file`, and passes port and secret to PySpark in environment
    variables.

    JobError when the JVM ends before that, or takes longer than START_TIMEOUT.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while not connection_file.exists():
        jvm.check()
        if time.monotonic() > deadline:
            raise JobError(ExitCode.INTERNAL, f"the JVM did not start within {START_TIMEOUT:.0f} s")
        time.sleep(0.02)
    port, secret = _read_connection(connection_file.read_bytes())
    connection_file.unlink()
    connection_file.parent.rmdir()
    os.environ["PYSPARK_GATEWAY_PORT"], os.environ["PYSPARK_GATEWAY_SECRET"] = str(port), secret


def _read_connection(content: bytes) -> tuple[int, str]:
    """(port, secret). The file holds the port and the length of the secret, four bytes each, and then the secret."""
    port, length = struct.unpack("!ii", content[:8])
    return port, content[8 : 8 + length].decode()
