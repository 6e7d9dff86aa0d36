"""Image archives and their names: the same content has the same name, other content another."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from testbed import images, oci, trust
from testbed.shell import TestbedError

DOCKERFILE = """ARG BASE=debian
FROM ${BASE} AS jars
COPY pom.xml /build/
FROM ${BASE}
COPY --from=jars /build/lib /lib
COPY --chmod=0755 a.py \\
     folder /app/
RUN echo COPY nothing /here
"""


def test_inputs_are_what_is_copied_from_the_context() -> None:
    assert images.copied_paths(DOCKERFILE) == ["pom.xml", "a.py", "folder"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"Dockerfile": DOCKERFILE, "pom.xml": "<p/>", "a.py": "1", "folder/b.py": "2", "other.md": "3"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(images, "CHECKOUT", tmp_path)
    return tmp_path


IMAGE = images.Image("x", "x", dockerfile="Dockerfile")


@pytest.mark.parametrize("changed", ["Dockerfile", "pom.xml", "a.py", "folder/b.py", "folder/new.py", ".dockerignore"])
def test_a_changed_input_changes_the_tag(checkout: Path, changed: str) -> None:
    before = images.content_hash(IMAGE)
    (checkout / changed).write_text(DOCKERFILE + "# changed")
    assert images.content_hash(IMAGE) != before


@pytest.mark.parametrize("changed", ["other.md", "folder/__pycache__/b.pyc"])
def test_what_is_not_copied_does_not(checkout: Path, changed: str) -> None:
    before = images.content_hash(IMAGE)
    (checkout / changed).parent.mkdir(exist_ok=True)
    (checkout / changed).write_text("changed")
    assert images.content_hash(IMAGE) == before


def test_a_missing_dockerfile_is_named(checkout: Path) -> None:
    with pytest.raises(TestbedError, match="job/Dockerfile does not exist"):
        images.content_hash(images.Image("job", "job", dockerfile="job/Dockerfile"))


def test_an_archive_holds_the_binary_and_names_the_image(tmp_path: Path) -> None:
    binary, layer, archive = tmp_path / "pause", tmp_path / "layer.tar", tmp_path / "image.tar"
    binary.write_bytes(b"\x7fELF")
    oci.binary_layer(binary, layer)
    oci.write_image(layer, "localhost/pause:1", archive, ["/pause"], "amd64")
    first = archive.read_bytes()
    oci.write_image(layer, "localhost/pause:1", archive, ["/pause"], "amd64")
    assert archive.read_bytes() == first

    with tarfile.open(archive) as opened:
        blobs = {member.name: stream.read() for member in opened if (stream := opened.extractfile(member))}
    for name, content in blobs.items():
        if name.startswith("blobs/sha256/"):
            assert name.removeprefix("blobs/sha256/") == hashlib.sha256(content).hexdigest()
    top = json.loads(blobs["index.json"])["manifests"][0]
    assert top["annotations"]["io.containerd.image.name"] == "localhost/pause:1"
    manifest = json.loads(blobs[f"blobs/{top['digest'].replace(':', '/')}"])
    config = json.loads(blobs[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])
    assert config["config"]["Entrypoint"] == ["/pause"]
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]


def test_java_trust_store_has_its_header_and_its_check() -> None:
    store = trust.java_key_store([b"one", b"two"])
    assert store[:12] == bytes.fromhex("feedfeed 00000002 00000002")
    assert hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + store[:-20]).digest() == store[-20:]
