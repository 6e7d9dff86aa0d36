"""Writes one-layer images as OCI archives without any tool: a static binary, or a root file system.

Deterministic (no times, no owners from this machine), so the same input gives the same image id everywhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path

_MEDIA = "application/vnd.oci.image"


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def binary_layer(binary: Path, target: Path) -> None:
    """A layer that holds the one program at the root and the folders that a kubelet mounts into."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for folder in ("etc", "proc", "sys", "dev", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, binary.name, binary.read_bytes(), 0o755)


def write_image(layer: Path, reference: str, target: Path, entrypoint: list[str], architecture: str) -> None:
    """The archive that `ctr images import` and `buildah pull oci-archive:` read; replaces `target` in one step."""
    with layer.open("rb") as stream:
        layer_digest = hashlib.file_digest(stream, "sha256").hexdigest()
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": [path], **({"Entrypoint": entrypoint} if entrypoint else {"Cmd": ["/bin/sh"]})},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created_by": "test bed"}],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": _descriptor(f"{_MEDIA}.config.v1+json", hashlib.sha256(config).hexdigest(), len(config)),
            "layers": [_descriptor(f"{_MEDIA}.layer.v1.tar", layer_digest, layer.stat().st_size)],
        }
    ).encode()
    manifest_digest = hashlib.sha256(manifest).hexdigest()
    annotations = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    top = _descriptor(f"{_MEDIA}.manifest.v1+json", manifest_digest, len(manifest)) | {"annotations": annotations}
    index = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as sink, tarfile.open(fileobj=sink, mode="w") as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            _add(archive, "index.json", index)
            _add(archive, f"blobs/sha256/{manifest_digest}", manifest)
            _add(archive, f"blobs/sha256/{hashlib.sha256(config).hexdigest()}", config)
            entry = tarfile.TarInfo(f"blobs/sha256/{layer_digest}")
            entry.size, entry.mode = layer.stat().st_size, 0o644
            with layer.open("rb") as content:
                archive.addfile(entry, content)
        Path(name).rename(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}
