"""The Python environment `.venv` of the checkout, from the locked requirements.

uv installs them, because it takes a quarter of the processor time that pip takes. Both check the same hashes. uv itself
comes with pip, from requirements/build.txt. Where uv does not work, pip installs everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from testbed.console import note, step
from testbed.layout import CHECKOUT, Layout
from testbed.locks import file_lock
from testbed.packages import apt_install, os_family
from testbed.shell import MissingPrerequisiteError, TestbedError, run, succeeds

VENV = CHECKOUT / ".venv"
READY = VENV / ".ready"
REQUIREMENTS = CHECKOUT / "requirements"
INPUTS = (CHECKOUT / "pyproject.toml", *(REQUIREMENTS / name for name in ("build.txt", "dev.txt", "wheel.cfg")))
UV_SETTINGS = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
WHEEL_SETTINGS = {"DIST_EXTRA_CONFIG": str(REQUIREMENTS / "wheel.cfg")}


def is_current() -> bool:
    return READY.exists() and all(READY.stat().st_mtime >= path.stat().st_mtime for path in INPUTS)


def ensure(layout: Layout) -> None:
    """Makes `.venv`, or updates it when a file that it depends on has changed."""
    if is_current():
        return
    log = layout.log / "setup.log"
    layout.make_folders()
    with file_lock(layout.state / ".setup.lock", "the installation of .venv"):
        if is_current():
            return
        with step("installing the Python environment .venv", log):
            log.unlink(missing_ok=True)
            make_venv(VENV, log)
            try:
                _install_with_uv(log)
            except TestbedError:
                note("  uv did not work, see .testbed/log/setup.log: pip installs instead, which takes longer")
                _install_with_pip(log)
            READY.touch()


def make_venv(folder: Path, log: Path) -> None:
    """An environment with pip. Debian's Python needs a package for that."""
    command: list[str | Path] = [sys.executable, "-m", "venv", folder]
    if not succeeds([sys.executable, "-c", "import ensurepip"]):
        if "debian" not in os_family() or os.geteuid() != 0:
            raise MissingPrerequisiteError("Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv")
        apt_install(["python3-venv"], log)
    run(command, log=log)


def _pip(*arguments: str | Path, log: Path) -> None:
    command: list[str | Path] = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*command, "--no-compile", *arguments], log=log, env=WHEEL_SETTINGS, attempts=2)


def _install_with_uv(log: Path) -> None:
    build = REQUIREMENTS / "build.txt"
    _pip("--require-hashes", "-r", build, log=log)
    command: list[str | Path] = [VENV / "bin" / "uv", "pip", "install", "--quiet", "--python", VENV / "bin" / "python"]
    hashed: list[str | Path] = ["--require-hashes", "--build-constraints", build, "--require-build-hashes"]
    settings = {**UV_SETTINGS, **WHEEL_SETTINGS, **_index_of_pip()}
    install = [*command, *hashed, "-r", REQUIREMENTS / "dev.txt"]
    try:
        # The cache first: where the registry does not say for how long an answer is valid, uv would fetch and build pyspark again.
        run([*install, "--offline"], log=log, env=settings)
    except TestbedError:
        run(install, log=log, env=settings, attempts=2)
    run([*command, "--no-build-isolation", "--no-deps", "--editable", CHECKOUT], log=log, env=settings)


def _index_of_pip() -> dict[str, str]:
    """uv does not read pip's configuration, where a company's mirror is usually named."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"UV_DEFAULT_INDEX": done.stdout.strip()} if done.returncode == 0 and done.stdout.strip() else {}


def _install_with_pip(log: Path) -> None:
    _pip("--require-hashes", "-r", REQUIREMENTS / "build.txt", log=log)
    _pip("--require-hashes", "--no-build-isolation", "-r", REQUIREMENTS / "dev.txt", log=log)
    _pip("--no-build-isolation", "--no-deps", "--editable", CHECKOUT, log=log)
