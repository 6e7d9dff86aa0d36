"""The driver's jars and its class archive for tests that run the driver outside its image. Both are made once and
cached."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from testbed.layout import Layout
from testbed.locks import file_lock
from testbed.packages import JAVA_COMMANDS, ensure_system_packages

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "job"
FASTER_START = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
"""No optimizing compiler: its work pays only in longer runs than those of tests."""


def _build_digest() -> str:
    sources = [JOB / "pom.xml", *sorted((JOB / "java").rglob("*.java"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def ensure_connector_jars() -> Path:
    """The folder of the jars for the present content of `job/pom.xml` and `job/java`. It is complete or absent."""
    layout = Layout.of_this_checkout()
    ensure_system_packages(layout.log / "java.log", JAVA_COMMANDS)
    folder = layout.cache / f"jars-{_build_digest()}"
    with file_lock(layout.cache / ".jars.lock", "the driver's jars, which are built"):
        if not folder.is_dir():
            partial = Path(tempfile.mkdtemp(dir=layout.cache, prefix=".jars-"))
            try:
                command = ["mvn", "-q", "-B", "package", "-f", str(JOB / "pom.xml"), f"-Doutput={partial}"]
                subprocess.run(command, check=True, timeout=600)
                (partial / "jars").rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def ensure_class_archive(jars: Path) -> Path:
    """The class-data archive that the image has, too. Building it takes half a minute; with it each driver starts
    seconds sooner. Java accepts it only for the same jars in the same folders, so each checkout has its own."""
    java = subprocess.run(["java", "-version"], capture_output=True, check=True).stderr
    content = "\n".join([sys.prefix, platform.node(), str(jars), java.decode()])
    archive = jars.parent / f"classes-{hashlib.sha256(content.encode()).hexdigest()[:12]}.jsa"
    with file_lock(jars.parent / ".classes.lock", "the class archive, which is built"):
        if not archive.exists():
            _build_class_archive(jars, archive)
    return archive


def _build_class_archive(jars: Path, archive: Path) -> None:
    partial = archive.with_name(f".{archive.name}")
    paths = os.pathsep.join(str(ROOT / name) for name in ("crds", "job"))
    environment = {**os.environ, **FASTER_START, "PYTHONPATH": paths, "DEDUP_CONNECTOR_JARS": str(jars)}
    command = [sys.executable, "-W", "ignore", "-m", "dedup_job.jvm.class_archive", str(partial)]
    subprocess.run(command, env=environment, check=True, timeout=600)
    partial.rename(archive)
