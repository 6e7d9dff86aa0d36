"""The driver's jars for tests that run outside the image: built once per content of `job/pom.xml` and `job/java`, kept in the cache."""

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
from testbed.packages import JAVA_COMMANDS, ensure_system_packages

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "job"


def _build_digest() -> str:
    sources = [JOB / "pom.xml", *sorted((JOB / "java").rglob("*.java"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def fetch_connector_jars() -> Path:
    """The folder with the jars; whole or absent, also when two test runs fetch at once."""
    layout = Layout.of_this_checkout()
    ensure_system_packages(layout.log / "java.log", JAVA_COMMANDS)
    cache = layout.cache
    folder = cache / f"jars-{_build_digest()}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=cache, prefix=".jars-"))
    try:
        command = ["mvn", "-q", "-B", "package", "-f", str(JOB / "pom.xml"), f"-Doutput={partial}"]
        subprocess.run(command, check=True, timeout=600)
        (partial / "jars").rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def make_class_archive(jars: Path) -> Path:
    """The class-data archive as the image has it, made once in half a minute: each of the tests' drivers starts seconds sooner."""
    java = subprocess.run(["java", "-version"], capture_output=True, check=True).stderr
    content = "\n".join([sys.prefix, platform.node(), str(jars), java.decode()])
    archive = jars.parent / f"classes-{hashlib.sha256(content.encode()).hexdigest()[:12]}.jsa"
    if archive.exists():
        return archive
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    paths = os.pathsep.join(str(ROOT / name) for name in ("crds", "job"))
    environment = {**os.environ, "PYTHONPATH": paths, "DEDUP_CONNECTOR_JARS": str(jars)}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "dedup_job.jvm.class_archive", str(partial)], env=environment, check=True, timeout=300
    )
    partial.rename(archive)
    return archive
