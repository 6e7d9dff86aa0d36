"""System commands that the cluster and the image builds call; installed when that is possible, named when not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from testbed.console import step
from testbed.shell import MissingPrerequisiteError, environment, run

# Command (or file) -> Debian package that brings it.
COMMANDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "socat": "socat",
    "ethtool": "ethtool",
    "nft": "nftables",
    "openssl": "openssl",
    "mount": "mount",
    "nsenter": "util-linux",
}
JAVA_COMMANDS = {"java": "openjdk-17-jdk-headless", "javac": "openjdk-17-jdk-headless", "mvn": "maven"}
"""For tests that run the driver outside of its image."""
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PLUGINS = ("bridge", "host-local", "portmap", "loopback")
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def cni_folder() -> Path | None:
    return next((f for f in CNI_FOLDERS if all((f / plugin).exists() for plugin in CNI_PLUGINS)), None)


def missing_packages(commands: Mapping[str, str] = COMMANDS) -> list[str]:
    """Debian packages for the commands that are not there; with those of the cluster also what it needs besides commands."""
    path = environment()["PATH"]
    missing = [package for command, package in commands.items() if shutil.which(command, path=path) is None]
    if commands is not COMMANDS:
        return list(dict.fromkeys(missing))
    if cni_folder() is None:
        missing.append("containernetworking-plugins")
    if not DEBIAN_KEYRING.exists():
        missing.append("debian-archive-keyring")
    return list(dict.fromkeys(missing))


def os_family() -> str:
    release = Path("/etc/os-release")
    if not release.exists():
        return ""
    fields = dict(line.split("=", 1) for line in release.read_text().splitlines() if "=" in line)
    return " ".join(fields.get(key, "").strip('"') for key in ("ID", "ID_LIKE"))


def apt_install(packages: list[str], log: Path) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], log=log, env=quiet, attempts=2)
    # A second installation waits for the first. An installation that is ended halfway leaves a broken system.
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages]
    run(command, log=log, env=quiet, attempts=2, finish=True)


def require_root() -> None:
    if os.geteuid() != 0:
        raise MissingPrerequisiteError("The test bed runs a kubelet and containerd: run it as root (for example `sudo -E make cluster`).")


def ensure_system_packages(log: Path, commands: Mapping[str, str] = COMMANDS) -> None:
    missing = missing_packages(commands)
    if not missing:
        return
    family = os_family()
    if not any(name in family for name in ("debian", "ubuntu")) or shutil.which("apt-get") is None:
        raise MissingPrerequisiteError(
            "These system commands are missing and this is not Debian or Ubuntu. Install what your system calls: " + " ".join(missing)
        )
    if os.geteuid() != 0:
        raise MissingPrerequisiteError(f"Install these packages, or run this as root: apt-get install {' '.join(missing)}")
    with step(f"apt-get install {' '.join(missing)}", log):
        apt_install(missing, log)
    still = missing_packages(commands)
    if still:
        raise MissingPrerequisiteError(f"apt-get installed them, yet they are not found: {' '.join(still)}", log)
