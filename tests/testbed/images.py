"""Container images without a registry: built once per content, kept as OCI archives, imported into containerd.

An image's tag is the hash of everything that decides its content. So a tag never means two images, a pod with an old
image is recognized by its tag, and nothing is built or imported twice.
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

from testbed import golang, java, oci, trust
from testbed.console import note, step
from testbed.layout import CHECKOUT, CONTAINERD_SOCKET, Layout
from testbed.locks import file_lock, write_atomically
from testbed.probes import command_path
from testbed.shell import TestbedError, run, succeeds
from testbed.snapshot import mounts_below

SUITE = "bookworm"
# Everything that the Dockerfiles need from Debian. The base has it once for all images, so their own apt-get steps have
# nothing to do, and Java's trust store comes from the image's own certificates, not from those mounted during a build.
BASE_PACKAGES = ("ca-certificates", "openjdk-17-jre-headless", "python3", "python3-venv", "tini")
BASE_REVISION = "2"  # raise it to get newer Debian packages
KEPT_ARCHIVES = 3
# Mounted during a build where the machine has them, never copied into a layer: private certificates, mirrors.
IMAGE_UV_CACHE = "/root/.cache/uv"
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
    jars: str = ""
    """The name in java.JARS of what the machine's Maven can build instead of the Dockerfile's stage `jars`."""


IMAGES: Mapping[str, Image] = {
    image.name: image
    for image in (
        Image("pause", "testbed-pause", binary="pause"),
        Image("coredns", "testbed-coredns", binary="coredns"),
        Image("base", "testbed-base"),
        Image("kafka", "testbed-kafka", dockerfile=f"{_KAFKA}/Dockerfile", context=_KAFKA, jars="kafka"),
        Image("operator", "dedup-operator", dockerfile="operator/Dockerfile"),
        Image("job", "dedup-job", dockerfile="job/Dockerfile", jars="job"),
    )
}
BINARY_IMAGES = ("pause", "coredns")
DOCKERFILE_IMAGES = ("base", "kafka")
CLUSTER_IMAGES = (*BINARY_IMAGES, *DOCKERFILE_IMAGES)
PRODUCT_IMAGES = ("operator", "job")


def find_uv_cache(environment: Mapping[str, str]) -> Path:
    """Where uv keeps its cache on this machine."""
    if environment.get("UV_CACHE_DIR"):
        return Path(environment["UV_CACHE_DIR"]).absolute()
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "uv"


def architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _hash_path(digest: hashlib._Hash, path: Path) -> None:
    files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts) if path.is_dir() else [path]
    for file in files:
        if file.exists():
            mode = file.stat().st_mode & 0o111
            digest.update(f"{file.relative_to(CHECKOUT)} {mode}\0".encode() + file.read_bytes() + b"\0")


def copied_paths(dockerfile: str) -> list[str]:
    """The sources of COPY and ADD in the build context. The image depends on them and on the Dockerfile, and on nothing else there."""
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
        """Built when first asked for, because the product's images need none of them."""
        return golang.ensure_binaries(self.layout, [image.binary for image in IMAGES.values() if image.binary])

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
            # A file was edited during the build. The image may hold some old and some new files, so it must not have this tag.
            self.archive(reference).unlink(missing_ok=True)
            note(f"  the sources of image {name} changed while it was built: building again")
        raise TestbedError(f"the sources of image {name} keep changing while it is built")

    def prepare_jars(self, names: Sequence[str]) -> None:
        """Runs Maven for the images that will be built. It needs none of what the images need, so it can run before them."""
        for name in names:
            if IMAGES[name].jars and not self.archive(self.reference(name)).exists():
                java.ensure_jars(IMAGES[name].jars, self.layout)

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
            # A build that the machine's failure interrupts is repeated, so dpkg need not wait for the disk after every file.
            quick = "--dpkgopt=force-unsafe-io"
            run(["mmdebstrap", "--variant=minbase", packages, quick, "--format=tar", SUITE, layer], log=log, attempts=2)
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
        settings = ["--build-arg", f"BASE={base}", *self._mounts(), *self._jars(image)]
        temporary = archive.with_name(f".{archive.name}.{os.getpid()}")
        with file_lock(self.folder / ".buildah.lock", "image builds"):
            foreign_storage = Path("/var/lib/containers").exists()
            try:
                self._buildah("rm", "--all", log=log)  # what a killed build left behind
                self._buildah("pull", "--quiet", f"oci-archive:{self.archive(base)}", log=log)
                self._buildah(
                    "bud", "--isolation", "chroot", "--layers", "--force-rm", "--pull-never", *settings,
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
        mounts = [part for source, target in pairs.items() for part in ("-v", f"{source}:{target}:ro")]
        # The same cache as for .venv, so that pyspark is fetched and built once.
        uv_cache = find_uv_cache(os.environ)
        uv_cache.mkdir(parents=True, exist_ok=True)
        return [*mounts, "-v", f"{uv_cache}:{IMAGE_UV_CACHE}"]

    def _jars(self, image: Image) -> list[str]:
        """Puts jars that the machine's Maven has built in the place of the Dockerfile's stage `jars`."""
        if not image.jars or "--build-context" not in run(["buildah", "build", "--help"]):  # buildah before 1.27
            return []
        jars = java.ensure_jars(image.jars, self.layout)
        return ["--build-context", f"jars={jars}"] if jars else []

    def _buildah_prune(self, image: Image, newest: str, log: Path) -> None:
        """Keeps the layers of the last images as the cache of the next build, and removes older ones."""
        listed = run(["buildah", *self._storage, "images", "--format", "{{.Name}}:{{.Tag}}"]).split()  # newest first
        same = [reference for reference in listed if reference.startswith(f"localhost/{image.repository}:")]
        for old in [reference for reference in same if reference != newest][KEPT_ARCHIVES - 1 :]:
            self._buildah("rmi", "--force", old, log=log)

    def _forget_mounts(self) -> None:
        """Buildah mounts its storage onto itself. It leaves that mount and its run folder behind."""
        for point in reversed(mounts_below([self.layout.cache / "buildah"])):
            succeeds(["umount", "--lazy", point])
        shutil.rmtree(self.buildah_run, ignore_errors=True)

    def clean_after_killed_build(self) -> None:
        """Removes what a killed build left on the machine. Waits for a build that still runs."""
        if self.buildah_run.exists():
            with file_lock(self.folder / ".buildah.lock", "image builds"):
                self._forget_mounts()

    def _prune(self, image: Image) -> None:
        """Keeps the newest archives of this image."""
        archives = sorted(self.folder.glob(f"{image.repository}-????????????.tar"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in archives[KEPT_ARCHIVES:]:
            old.unlink()

    def load(self, names: Sequence[str]) -> dict[str, str]:
        """Builds images that the cache lacks, imports those that containerd lacks, and records the references."""
        return self.import_images({name: self.ensure(name) for name in names})

    def import_images(self, references: Mapping[str, str]) -> dict[str, str]:
        present = set(ctr("images", "list", "-q").split())
        for reference in references.values():
            if reference not in present:
                with step(f"importing image {reference}"):
                    ctr("images", "import", str(self.archive(reference)), timeout=600)
        known = read_references(self.layout)
        write_atomically(self.layout.images_json, json.dumps(known | dict(references), indent=2) + "\n")
        return dict(references)


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
