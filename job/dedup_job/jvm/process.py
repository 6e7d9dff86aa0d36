"""Starts the JVM that Spark runs in, and watches it.

Not with `spark-submit`: that starts a second JVM only to put the command line together (a second of start-up), and the
driver needs the process itself, to notice at once when it dies and to end it. The JVM ends when its standard input does,
so it never outlives the Python process, also not after `kill -9`.
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
"""Seconds until the gateway must answer: two on an idle machine, many on a node that is starting fifty drivers."""
END_TIMEOUT = 10.0
OUT_OF_MEMORY_EXIT = 3
"""What HotSpot ends with under ExitOnOutOfMemoryError."""

_OPENED = (
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio"),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
    *("jdk.internal.ref", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)
"""Packages of java.base that Spark reaches into: org.apache.spark.launcher.JavaModuleOptions of 4.2."""


@dataclass(frozen=True)
class Jvm:
    process: subprocess.Popen[bytes]

    def check(self, patience: float = 0) -> None:
        """JobError when the process has ended, or does within `patience` seconds."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return
        if code == OUT_OF_MEMORY_EXIT:
            raise JobError(ExitCode.INTERNAL, "the JVM's heap is exhausted", Reason.OUT_OF_MEMORY)
        raise JobError(ExitCode.INTERNAL, f"the JVM ended with code {code}")

    def end(self, timeout: float = END_TIMEOUT) -> None:
        """Ends the process: politely, so that it removes its temporary files, then not."""
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
        raise JobError(ExitCode.INTERNAL, "pyspark is not installed")
    return Path(spec.origin).parent


def list_jars(spark_home: Path, connector_jars: Path | None) -> list[Path]:
    """The class path, in an order that does not depend on the file system: the class-data archive holds for this order only.

    The image has the connector's jars among Spark's own; elsewhere they lie in a folder of their own.
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
        "-Xlog:cds=off,cds+dynamic=off",  # an archive that does not fit is left aside, which is no news
        "--add-modules=jdk.incubator.vector",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
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
    if dump is not None:
        return [f"-XX:ArchiveClassesAtExit={dump}"]
    return [] if archive is None else [f"-XX:SharedArchiveFile={archive}"]


def read_path(variable: str) -> Path | None:
    """What the environment says, if it is there: the image sets these, tests too."""
    text = os.environ.get(variable)
    return Path(text) if text and Path(text).exists() else None


def start_jvm(memory: MemoryPlan, cpus: int, dump_archive: Path | None = None, lock_fd: int | None = None) -> tuple[Jvm, Path]:
    """The process, and the file in which it will say how to reach it. Does not wait for it.

    `lock_fd`: of the checkpoint's lock, which the JVM then holds too, see `lock`.
    """
    spark_home = find_spark_home()
    jars = list_jars(spark_home, read_path("DEDUP_CONNECTOR_JARS"))
    archive_option = build_archive_option(dump_archive, read_path("DEDUP_CLASS_ARCHIVE"))
    command = build_jvm_command(":".join(str(jar) for jar in jars), memory, cpus, archive_option)
    info = Path(tempfile.mkdtemp(prefix="dedup-gateway-")) / "connection"
    # glibc makes an allocation arena per thread by default, and RocksDB's threads fragment them all.
    environment = {
        "MALLOC_ARENA_MAX": "2",
        **os.environ,
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "_PYSPARK_DRIVER_CONN_INFO_PATH": str(info),
    }
    try:
        # A session of its own: Ctrl-C in a terminal is for the Python process, which stops between batches.
        inherited = () if lock_fd is None else (lock_fd,)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True, pass_fds=inherited)
    except FileNotFoundError as error:
        raise JobError(ExitCode.INTERNAL, "there is no java on the PATH: install a Java 17 runtime") from error
    return Jvm(process), info


def connect_gateway(jvm: Jvm, info: Path) -> None:
    """Waits for the JVM and tells PySpark, through the environment, where it is."""
    deadline = time.monotonic() + START_TIMEOUT
    while not info.exists():
        jvm.check()
        if time.monotonic() > deadline:
            raise JobError(ExitCode.INTERNAL, f"the JVM did not answer within {START_TIMEOUT:.0f} s")
        time.sleep(0.02)
    port, secret = _read_connection(info.read_bytes())
    info.unlink()
    info.parent.rmdir()
    os.environ["PYSPARK_GATEWAY_PORT"], os.environ["PYSPARK_GATEWAY_SECRET"] = str(port), secret


def _read_connection(content: bytes) -> tuple[int, str]:
    """Two numbers of four bytes, port and length of the secret, and the secret."""
    port, length = struct.unpack("!ii", content[:8])
    return port, content[8 : 8 + length].decode()
