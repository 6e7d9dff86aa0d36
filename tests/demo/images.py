"""The project's images for a cluster of the user's: built by docker, podman or buildah, then pushed or loaded.

The tag comes from the built image's own id. So a tag never means two images, and a node that has an older image of the
same name never runs it by mistake.
"""

from __future__ import annotations

import platform
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from demo.settings import Loader, Settings, SettingsError
from testbed.console import note, step
from testbed.layout import CHECKOUT, Layout
from testbed.shell import run

BUILDERS = {"docker": ("docker", "version"), "podman": ("podman", "info"), "buildah": ("buildah", "info")}
"""Each with a command that succeeds only when the builder can work: docker's program is often there without its
daemon."""
LOCAL_REGISTRIES = ("localhost", "127.0.0.1", "[::1]")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "AMD64": "amd64"}
LOAD_COMMANDS = {
    Loader.KIND: ("kind", "load", "docker-image", "{image}", "--name", "{cluster}"),
    Loader.K3D: ("k3d", "image", "import", "{image}", "--cluster", "{cluster}"),
    Loader.MINIKUBE: ("minikube", "image", "load", "{image}", "--profile", "{cluster}"),
    Loader.DOCKER_DESKTOP: (),  # its Kubernetes runs the images that docker has built
}


@dataclass(frozen=True)
class Source:
    """What an image is built from; paths are relative to the checkout."""

    repository: str
    dockerfile: str
    context: str = "."
    takes_base: bool = True
    """Whether BASE_IMAGE is meant for this image too."""


SOURCES = {
    "operator": Source("dedup-operator", "operator/Dockerfile"),
    "job": Source("dedup-job", "job/Dockerfile"),
    "fake_driver": Source("dedup-fake-driver", "tests/cluster/fake_driver/Dockerfile", "tests/cluster/fake_driver", takes_base=False),
}


@dataclass(frozen=True)
class Built:
    reference: str
    pull_policy: str
    """Never for an image that was loaded: if it is missing, the pod says so at once instead of asking a registry."""


def provide_images(names: Iterable[str], settings: Settings, context: str, architecture: str) -> dict[str, Built]:
    """Builds and hands over the images that the user has not named. `architecture`: that of the cluster's nodes, or
    empty."""
    names = list(names)
    settings.raise_without_images(names)
    found = {name: Built(settings.given_image(name), "IfNotPresent") for name in names if settings.given_image(name)}
    missing = [name for name in names if name not in found]
    if missing:
        builder = choose_builder(settings)
        log = Layout.of_this_checkout().log
        for name in missing:
            with step(f"building image {SOURCES[name].repository} with {builder}", log / f"demo-image-{name}.log"):
                found[name] = _provide(name, builder, settings, context, architecture, log / f"demo-image-{name}.log")
            note(f"    {found[name].reference}")
    return found


def _provide(name: str, builder: str, settings: Settings, context: str, architecture: str, log: Path) -> Built:
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        identity = Path(folder) / "id"
        # Without attestations the result is one plain image; `kind load` and older registries fail on more than that.
        plain = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        run(build_command(builder, SOURCES[name], identity, settings.base_image, architecture), log=log, cwd=CHECKOUT, env=plain)
        image_id = identity.read_text().strip()
    reference = f"{settings.registry or 'localhost'}/{SOURCES[name].repository}:{image_id.removeprefix('sha256:')[:12]}"
    run([builder, "tag", image_id, reference], log=log)
    if settings.registry:
        run(push_command(builder, reference), log=log, attempts=2)
        return Built(reference, "IfNotPresent")
    loader = settings.loader
    assert loader is not None, "raise_without_images has checked this"
    if LOAD_COMMANDS[loader]:
        run(load_command(loader, reference, context), log=log)
    return Built(reference, "Never")


def choose_builder(settings: Settings) -> str:
    """The first one that works, or the one that the user named. kind, k3d and minikube load from docker."""
    if settings.builder and settings.builder not in BUILDERS:
        raise SettingsError(f"BUILDER={settings.builder} is unknown. Use one of {', '.join(BUILDERS)}.")
    candidates = [settings.builder] if settings.builder else ["docker"] if settings.load else list(BUILDERS)
    failures = []
    for builder in candidates:
        try:
            done = subprocess.run(BUILDERS[builder], capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError:
            failures.append(f"{builder} is not installed")
            continue
        if done.returncode == 0:
            return builder
        failures.append(f"{builder} does not work: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    raise SettingsError("The images cannot be built here: " + "; ".join(failures))


def build_command(builder: str, source: Source, identity: Path, base_image: str, architecture: str) -> list[str | Path]:
    command: list[str | Path] = [builder, "build", "--file", source.dockerfile, "--iidfile", identity]
    if builder == "buildah":
        command.append("--layers")  # the others keep layers without being asked
    if base_image and source.takes_base:
        command += ["--build-arg", f"BASE={base_image}"]
    if architecture and architecture != MACHINES.get(platform.machine()):
        command += ["--platform", f"linux/{architecture}"]
    return [*command, source.context]


def push_command(builder: str, reference: str) -> list[str | Path]:
    registry = reference.split("/")[0].rsplit(":", 1)[0]
    # docker speaks plain HTTP to a registry of this machine without being asked.
    insecure = ["--tls-verify=false"] if registry in LOCAL_REGISTRIES and builder != "docker" else []
    return [builder, "push", *insecure, reference]


def load_command(loader: Loader, reference: str, context: str) -> list[str | Path]:
    return [part.format(image=reference, cluster=loader.cluster_name(context)) for part in LOAD_COMMANDS[loader]]
