"""Container images without a registry: built once per content, kept as OCI archives, imported into containerd.

An image's tag is the hash of everything that goes into it, so a tag never means two things, a pod that runs an
old image can be told from one that runs the new one, and nothing is built or imported twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from testbed import golang, oci, trust
from testbed.console import note, step
from testbed.layout import CHECKOUT, CONTAINERD_SOCKET, Layout
from testbed.locks import file_lock, write_atomically
from testbed.probes import command_path
from testbed.shell import TestbedError, run, succeeds
from testbed.snapshot import mounts_below

SUITE = "bookworm"
# Everything that the Dockerfiles install from Debian anyway. In the base it is installed once for all images,
# and Java's trust store comes from the image's own certificates, not from those mounted during a build.
BASE_PACKAGES = ("ca-certificates", "openjdk-17-jre-headless", "python3", "python3-venv", "tini")
BASE_REVISION = "1"  # raise it to get newer Debian packages
KEPT_ARCHIVES = 3
# Mounted during a build where the machine has them, never copied into a layer: private certificates, mirrors.
BUILD_MOUNTS = ("/usr/local/share/ca-certificates", "/etc/pip.conf", "/etc/apt/apt.conf.d")

_KAFKA = "tests/testbed/images/kafka"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """What makes an image: a static binary, or a Dockerfile and its build context (relative to the checkout)."""

    name: str
    repository: str
    binary: str = ""
    dockerfile: str = ""
    context: str = "."


IMAGES: Mapping[str, Image] = {
    image.name: image
    for image in (
        Image("pause", "testbed-pause", binary="pause"),
        Image("coredns", "testbed-coredns", binary="coredns"),
        Image("base", "testbed-base"),
        Image("kafka", "testbed-kafka", dockerfile=f"{_KAFKA}/Dockerfile", context=_KAFKA),
        Image("operator", "dedup-operator", dockerfile="operator/Dockerfile"),
        Image("job", "dedup-job", dockerfile="job/Dockerfile"),
    )
}
CLUSTER_IMAGES = ("pause", "coredns", "base", "kafka")
PRODUCT_IMAGES = ("operator", "job")


def architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _hash_path(digest: hashlib._Hash, path: Path) -> None:
    files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts) if path.is_dir() else [path]
    for file in files:
        if file.exists():
            mode = file.stat().st_mode & 0o111
            digest.update(f"{file.relative_to(CHECKOUT)} {mode}\0".encode() + file.read_bytes() + b"\0")


def copied_paths(dockerfile: str) -> list[str]:
    """The sources of COPY and ADD that come from the build context: with the Dockerfile itself, all that the image depends on."""
    paths: list[str] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = line.split()
        if words and words[0].upper() in ("COPY", "ADD") and not any(word.startswith("--from=") for word in words):
            operands = [word for word in words[1:] if not word.startswith("--")]
            paths += operands[:-1]
    return paths


def _base_hash() -> str:
    return hashlib.sha256(f"{SUITE} {BASE_PACKAGES} {BASE_REVISION} {architecture()}".encode()).hexdigest()[:12]


def content_hash(image: Image, binary: Path | None = None) -> str:
    if image.name == "base":
        return _base_hash()
    digest = hashlib.sha256(architecture().encode())
    if binary is not None:
        digest.update(binary.read_bytes())
        return digest.hexdigest()[:12]
    digest.update(_base_hash().encode())
    dockerfile, context = CHECKOUT / image.dockerfile, CHECKOUT / image.context
    if not dockerfile.exists():
        raise TestbedError(f"{image.dockerfile} does not exist, so there is no image `{image.name}` to build")
    _hash_path(digest, dockerfile)
    _hash_path(digest, context / ".dockerignore")
    for pattern in copied_paths(dockerfile.read_text()):
        for path in sorted(context.glob(pattern.rstrip("/"))):
            _hash_path(digest, path)
    return digest.hexdigest()[:12]


class Builder:
    """Builds and imports images for one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.folder = layout.cache / "images"
        # Buildah ties a run folder to one storage folder, so each cache has its own.
        self.buildah_run = Path(f"/run/dedup-testbed-buildah-{hashlib.sha256(bytes(layout.cache)).hexdigest()[:8]}")

    @cached_property
    def binaries(self) -> Mapping[str, Path]:
        """Built when first asked for: the product's images need none of them."""
        return golang.ensure_binaries(self.layout)

    def reference(self, name: str) -> str:
        image = IMAGES[name]
        return f"localhost/{image.repository}:{content_hash(image, self.binaries[image.binary] if image.binary else None)}"

    def archive(self, reference: str) -> Path:
        return self.folder / f"{reference.removeprefix('localhost/').replace(':', '-')}.tar"

    def ensure(self, name: str) -> str:
        """Builds the archive unless the cache has it; returns the reference."""
        for _ in range(3):
            reference = self._ensure_once(name)
            if reference == self.reference(name):
                return reference
            # Somebody edits while this builds: what came out may hold both states, so its name would lie.
            self.archive(reference).unlink(missing_ok=True)
            note(f"  the sources of image {name} changed while it was built: building again")
        raise TestbedError(f"the sources of image {name} keep changing while it is built")

    def _ensure_once(self, name: str) -> str:
        image, reference = IMAGES[name], self.reference(name)
        archive = self.archive(reference)
        with file_lock(self.folder / f".{image.repository}.lock", f"the build of image {name}"):
            if archive.exists():
                archive.touch()
                return reference
            log = self.layout.log / f"image-{name}.log"
            log.unlink(missing_ok=True)
            with step(f"building image {reference}", log):
                if image.binary:
                    self._build_binary(image, reference, archive)
                elif name == "base":
                    self._build_base(reference, archive, log)
                else:
                    self._build_dockerfile(image, reference, archive, log)
            self._prune(image)
        return reference

    def _build_binary(self, image: Image, reference: str, archive: Path) -> None:
        layer = archive.with_name(f".{archive.name}.layer")
        try:
            oci.binary_layer(self.binaries[image.binary], layer)
            oci.write_image(layer, reference, archive, [f"/{image.binary}"], architecture())
        finally:
            layer.unlink(missing_ok=True)

    def _build_base(self, reference: str, archive: Path, log: Path) -> None:
        layer = archive.with_name(f".{archive.name}.layer")
        try:
            # Without a mirror's address mmdebstrap takes its own default; the host's apt settings apply as usual.
            packages = f"--include={','.join(BASE_PACKAGES)}"
            run(["mmdebstrap", "--variant=minbase", packages, "--format=tar", SUITE, layer], log=log, attempts=2)
            oci.write_image(layer, reference, archive, [], architecture())
        finally:
            layer.unlink(missing_ok=True)

    @property
    def _storage(self) -> list[str | Path]:
        return ["--root", self.layout.cache / "buildah", "--runroot", self.buildah_run]

    def _buildah(self, *args: str | Path, log: Path, attempts: int = 1) -> None:
        run(["buildah", *self._storage, *args], log=log, env={"BUILDAH_ISOLATION": "chroot"}, cwd=CHECKOUT, attempts=attempts)

    def _build_dockerfile(self, image: Image, reference: str, archive: Path, log: Path) -> None:
        base = self.ensure("base")
        temporary = archive.with_name(f".{archive.name}.{os.getpid()}")
        with file_lock(self.folder / ".buildah.lock", "image builds"):
            foreign_storage = Path("/var/lib/containers").exists()
            try:
                mounts = self._mounts()
                self._buildah("rm", "--all", log=log)  # what a build that was killed left behind
                self._buildah("pull", "--quiet", f"oci-archive:{self.archive(base)}", log=log)
                self._buildah(
                    "bud", "--isolation", "chroot", "--layers", "--force-rm", "--pull-never", "--build-arg", f"BASE={base}", *mounts,
                    "-f", image.dockerfile, "-t", reference, image.context, log=log, attempts=2,
                )  # fmt: skip
                self._buildah(
                    "push", "--quiet", "--compression-format", "zstd", "--compression-level", "1",
                    reference, f"oci-archive:{temporary}:{reference}", log=log,
                )  # fmt: skip
                temporary.rename(archive)
                self._buildah_prune(image, reference, log)
            finally:
                temporary.unlink(missing_ok=True)
                self._forget_mounts()
                if not foreign_storage:  # buildah notes layer digests there whatever its storage folder is
                    shutil.rmtree("/var/lib/containers", ignore_errors=True)

    def _mounts(self) -> list[str]:
        pairs = {path: path for path in BUILD_MOUNTS if Path(path).exists()}
        certificates = self.layout.cache / "build-certificates"
        if trust.copy_for_build(certificates):
            pairs[str(certificates)] = str(trust.HOST_CERTIFICATES)
        return [part for source, target in pairs.items() for part in ("-v", f"{source}:{target}:ro")]

    def _buildah_prune(self, image: Image, newest: str, log: Path) -> None:
        """Layers of the images before stay as the next build's cache; those of images long gone go."""
        listed = run(["buildah", *self._storage, "images", "--format", "{{.Name}}:{{.Tag}}"]).split()  # newest first
        same = [reference for reference in listed if reference.startswith(f"localhost/{image.repository}:")]
        for old in [reference for reference in same if reference != newest][KEPT_ARCHIVES - 1 :]:
            self._buildah("rmi", "--force", old, log=log)

    def _forget_mounts(self) -> None:
        """Buildah mounts its storage onto itself and leaves that, and its run folder, behind."""
        for point in reversed(mounts_below([self.layout.cache / "buildah"])):
            succeeds(["umount", "--lazy", point])
        shutil.rmtree(self.buildah_run, ignore_errors=True)

    def clean_after_killed_build(self) -> None:
        """What a build that was killed left on the machine; waits for one that still runs."""
        if self.buildah_run.exists():
            with file_lock(self.folder / ".buildah.lock", "image builds"):
                self._forget_mounts()

    def _prune(self, image: Image) -> None:
        """Keeps the newest archives of this image."""
        archives = sorted(self.folder.glob(f"{image.repository}-????????????.tar"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in archives[KEPT_ARCHIVES:]:
            old.unlink()

    def load(self, names: Sequence[str]) -> dict[str, str]:
        """Builds what lacks, imports what containerd lacks, records the references."""
        references = {name: self.ensure(name) for name in names}
        present = set(ctr("images", "list", "-q").split())
        for reference in references.values():
            if reference not in present:
                with step(f"importing image {reference}"):
                    ctr("images", "import", str(self.archive(reference)), timeout=600)
        known = read_references(self.layout)
        write_atomically(self.layout.images_json, json.dumps(known | references, indent=2) + "\n")
        return references


def read_references(layout: Layout) -> dict[str, str]:
    if not layout.images_json.exists():
        return {}
    known: dict[str, str] = json.loads(layout.images_json.read_text())
    return known


def ctr(*args: str, timeout: float = 60) -> str:
    try:
        return run([command_path("ctr") or "ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", *args], timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"`ctr {' '.join(args)}` did not end within {timeout:.0f} s") from error
