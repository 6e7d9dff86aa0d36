"""Jars that images need, built with the machine's own Maven where it has one.

A Dockerfile builds the same jars in its stage `jars`, but must first install Maven and a JDK there, which takes longer
than everything else in that stage.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.console import step
from testbed.layout import CHECKOUT, Layout
from testbed.locks import file_lock
from testbed.probes import command_path
from testbed.shell import environment, run

JAVA_AT_LEAST = 17
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


@dataclass(frozen=True)
class Jars:
    sources: tuple[str, ...]
    """Files and folders of the checkout; the first one is the Maven project."""
    goals: tuple[str, ...]
    """Maven's goals and settings. {output} is the folder for what the build writes."""
    output: str
    """The folder that Maven writes to, as the stage `jars` of the Dockerfile has it."""


JARS: Mapping[str, Jars] = {
    "kafka": Jars(("tests/testbed/images/kafka/pom.xml",), (_COPY, "-DincludeScope=runtime", "-DoutputDirectory={output}"), "build/lib"),
    "job": Jars(("job/pom.xml", "job/java"), ("package", "-Doutput={output}"), "build/output"),
}


def can_build() -> bool:
    """Whether the machine has Maven and a recent JDK."""
    javac = command_path("javac")
    if javac is None or command_path("mvn") is None:
        return False
    asked = subprocess.run([javac, "-version"], capture_output=True, text=True, env=environment(), check=False)
    version = re.match(r"javac (\d+)", asked.stdout)
    return version is not None and int(version[1]) >= JAVA_AT_LEAST


def ensure_jars(name: str, layout: Layout) -> Path | None:
    """A folder that looks like the root of the stage `jars`, whole or absent; None when only the Dockerfile can build them."""
    if not can_build():
        return None
    jars = JARS[name]
    folder = layout.cache / "jars" / f"{name}-{_digest(jars)}"
    log = layout.log / f"jars-{name}.log"
    with file_lock(folder.parent / ".lock", "another run of Maven"):  # Maven's repository is not made for two at a time
        if folder.exists():
            return folder
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
        try:
            with step(f"building the jars of image {name} with Maven", log):
                log.unlink(missing_ok=True)
                goals = [goal.format(output=partial / jars.output) for goal in jars.goals]
                maven = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", "--file", str(CHECKOUT / jars.sources[0])]
                run([*maven, *goals], log=log, attempts=2)
            partial.chmod(0o755)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _digest(jars: Jars) -> str:
    digest = hashlib.sha256(repr(jars.goals).encode())
    for source in jars.sources:
        path = CHECKOUT / source
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(CHECKOUT)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
