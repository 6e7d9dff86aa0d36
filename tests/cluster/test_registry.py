"""`REGISTRY=…` of `make demo`: buildah builds an image and pushes it, and the test bed's node pulls it.

The registry is Debian's `docker-registry` on this machine. The image is a small one, because the test is about the way,
not about the content: Docker and Podman differ from Buildah only in the command lines that tests/unit/demo checks.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.harness import Cluster, Jobs, wait_until
from demo import images
from demo.settings import Settings
from testbed import golang
from testbed.layout import Layout
from testbed.locks import file_lock
from testbed.shell import run

pytestmark = pytest.mark.testbed("it runs a registry on the node")

BUILDAH_STATE = Path("/var/lib/containers")
"""buildah writes to this folder too, whatever its storage is."""


def fetch_registry(layout: Layout) -> Path:
    """The program of the Debian package, without installing it: the package would start a service."""
    folder = layout.cache / "docker-registry"
    program = folder / "usr" / "bin" / "docker-registry"
    with file_lock(layout.cache / ".docker-registry.lock", "the download of docker-registry"):
        if not program.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            log = layout.log / "docker-registry.log"
            run(["apt-get", "update", "-q"], log=log, attempts=2)
            run(["apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", "docker-registry"], log=log, cwd=folder, attempts=2)
            (package,) = folder.glob("*.deb")
            run(["dpkg-deb", "--extract", package, folder], log=log)
            package.unlink()
    return program


@pytest.fixture
def registry(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """Address of a registry that has nothing yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = tmp_path / "registry.yaml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    config.write_text(json.dumps({"version": 0.1, "log": {"level": "warn"}, "storage": storage, "http": {"addr": address}}))
    log = tmp_path / "registry.log"
    with log.open("wb") as output:
        program = fetch_registry(cluster.testbed.layout)
        process = subprocess.Popen([program, "serve", config], stdout=output, stderr=subprocess.STDOUT)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/v2/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answers, "the registry answers", 30, log.read_text)
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A storage for buildah that ends with the test."""
    existed = BUILDAH_STATE.exists()
    config = tmp_path / "storage.conf"
    config.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(config))
    yield
    if not existed:
        shutil.rmtree(BUILDAH_STATE, ignore_errors=True)


@pytest.mark.usefixtures("storage")
def test_an_image_reaches_the_cluster_by_a_registry(
    cluster: Cluster, jobs: Jobs, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(golang.ensure_binaries(cluster.testbed.layout, {"pause"})["pause"], context / "pause")
    dockerfile = context / "Dockerfile"
    dockerfile.write_text('FROM scratch\nCOPY pause /pause\nUSER 10001:10001\nENTRYPOINT ["/pause"]\n')
    source = images.Source("registry-test", str(dockerfile), str(context))
    monkeypatch.setitem(images.SOURCES, "operator", source)

    settings = Settings(kubeconfig="any", registry=f"{registry}/me", builder="buildah")
    (built,) = images.provide_images(["operator"], settings, "", "").values()
    assert built.reference.startswith(f"{registry}/me/registry-test:") and built.pull_policy == "IfNotPresent"

    container = {
        "name": "pushed",
        "image": built.reference,
        "imagePullPolicy": "Always",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {"containers": [container], "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pushed"}, "spec": spec}
    cluster.kubectl("apply", "-n", jobs.namespace, "-f", "-", document=pod)

    def is_running() -> bool:
        return bool(jobs.get_object("pod", "pushed")["status"].get("phase") == "Running")

    wait_until(is_running, "a pod runs the pushed image", 60, lambda: cluster.kubectl("describe", "pod", "pushed", "-n", jobs.namespace))

    again = images.provide_images(["operator"], settings, "", "")
    assert list(again.values()) == [built], "the same content must have the same tag"
