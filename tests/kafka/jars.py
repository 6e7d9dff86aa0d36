"""The connector's jars for tests that run outside the image: fetched once per content of `job/pom.xml`, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).resolve().parents[2] / "job" / "pom.xml"


def find_cache() -> Path:
    base = os.environ.get("DEDUP_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dedup-operator"


def fetch_connector_jars() -> Path:
    """The folder with the jars; whole or absent, also when two test runs fetch at once."""
    for tool, package in (("java", "openjdk-17-jre-headless"), ("mvn", "maven")):
        if shutil.which(tool) is None:
            raise RuntimeError(f"these tests need {tool}: apt-get install {package}")
    cache = find_cache()
    folder = cache / f"jars-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=cache, prefix=".jars-"))
    try:
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-f", str(POM), f"-DoutputDirectory={partial}"]
        subprocess.run(command, check=True, timeout=300)
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
