"""What the demo does for a cluster of the user's before and beside kubectl: command lines, manifests, judgement."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.access import Access
from demo.client import Report
from demo.client_pod import PROGRAM, build_pod, parse_log
from demo.cluster import find_problem, image_values
from demo.images import MACHINES, SOURCES, build_command, load_command, push_command
from demo.places import EXAMPLE, KAFKA_MANIFEST, render_job, render_kafka
from demo.preflight import DEFAULT_CLASS, find_crd_owner, pick_storage_class
from demo.settings import Loader, SettingsError
from testbed.shell import MissingPrerequisiteError

ROOT = Path(__file__).resolve().parents[3]
HERE = MACHINES[platform.machine()]
OTHER = {"amd64": "arm64", "arm64": "amd64"}[HERE]


def text(command: list[Any]) -> str:
    return " ".join(map(str, command))


def test_every_command_names_the_context() -> None:
    access = Access(Path("/bin/kubectl"), Path("/bin/helm"), "/tmp/config", "kind-try")
    assert access.kubectl_command("get", "pods") == ["/bin/kubectl", "--context", "kind-try", "get", "pods"]
    assert access.helm_command("list") == ["/bin/helm", "--kube-context", "kind-try", "list"]
    assert access.environment()["KUBECONFIG"] == "/tmp/config"


@pytest.mark.parametrize(
    ("builder", "base", "architecture", "expected"),
    [
        ("docker", "", HERE, "docker build --file operator/Dockerfile --iidfile id ."),
        ("docker", "", "", "docker build --file operator/Dockerfile --iidfile id ."),
        ("podman", "", OTHER, f"podman build --file operator/Dockerfile --iidfile id --platform linux/{OTHER} ."),
        ("buildah", "b:1", HERE, "buildah build --file operator/Dockerfile --iidfile id --layers --build-arg BASE=b:1 ."),
    ],
)
def test_the_build_fits_builder_and_nodes(builder: str, base: str, architecture: str, expected: str) -> None:
    assert text(build_command(builder, SOURCES["operator"], Path("id"), base, architecture)) == expected


def test_the_fake_driver_keeps_its_own_base() -> None:
    assert "BASE" not in text(build_command("docker", SOURCES["fake_driver"], Path("id"), "debian:12", HERE))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_exists(source: Any) -> None:
    assert (ROOT / source.dockerfile).is_file() and (ROOT / source.context).is_dir()


@pytest.mark.parametrize(
    ("builder", "reference", "expected"),
    [
        ("docker", "registry.example.com/me/dedup-job:1", "docker push registry.example.com/me/dedup-job:1"),
        ("docker", "localhost:5000/dedup-job:1", "docker push localhost:5000/dedup-job:1"),
        ("podman", "localhost:5000/dedup-job:1", "podman push --tls-verify=false localhost:5000/dedup-job:1"),
        ("buildah", "127.0.0.1:5000/a/dedup-job:1", "buildah push --tls-verify=false 127.0.0.1:5000/a/dedup-job:1"),
        ("buildah", "registry.example.com:5000/dedup-job:1", "buildah push registry.example.com:5000/dedup-job:1"),
    ],
)
def test_only_a_registry_of_this_machine_is_used_without_tls(builder: str, reference: str, expected: str) -> None:
    assert text(push_command(builder, reference)) == expected


@pytest.mark.parametrize(
    ("loader", "context", "expected"),
    [
        (Loader.KIND, "kind-try", "kind load docker-image i:1 --name try"),
        (Loader.K3D, "k3d-try", "k3d image import i:1 --cluster try"),
        (Loader.MINIKUBE, "minikube", "minikube image load i:1 --profile minikube"),
        (Loader.DOCKER_DESKTOP, "docker-desktop", ""),
    ],
)
def test_an_image_is_loaded_into_the_cluster_of_the_context(loader: Loader, context: str, expected: str) -> None:
    assert text(load_command(loader, "i:1", context)) == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("r.example.com:5000/a/b:1", {"image.repository": "r.example.com:5000/a/b", "image.tag": "1"}),
        ("r.example.com:5000/a/b", {"image.repository": "r.example.com:5000/a/b", "image.tag": "latest"}),
        ("a/b:1@sha256:0f", {"image.repository": "a/b", "image.digest": "sha256:0f"}),
    ],
)
def test_the_chart_gets_the_image_as_the_user_wrote_it(reference: str, expected: dict[str, str]) -> None:
    assert image_values("image", reference, "Never") == {**expected, "image.pullPolicy": "Never"}


def storage_class(name: str, default: str | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, **({"annotations": {DEFAULT_CLASS: default}} if default else {})}}


def test_the_default_storage_class_needs_no_name() -> None:
    assert pick_storage_class([storage_class("slow"), storage_class("fast", "true")], "") == ""
    assert pick_storage_class([storage_class("slow"), storage_class("fast", "true")], "slow") == "slow"


@pytest.mark.parametrize(
    ("classes", "wanted", "error", "message"),
    [
        ([], "", MissingPrerequisiteError, "It has none at all: install a provisioner."),
        ([storage_class("slow", "false")], "", MissingPrerequisiteError, r"Name one with STORAGE_CLASS=…; it has: slow\."),
        ([storage_class("slow")], "fast", SettingsError, r"no storage class fast\. It has: slow\."),
    ],
)
def test_a_missing_storage_class_is_named(classes: list[dict[str, Any]], wanted: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pick_storage_class(classes, wanted)


def test_the_crd_belongs_to_the_release_that_brought_it() -> None:
    assert find_crd_owner(None) == find_crd_owner({"metadata": {}}) == ""
    assert find_crd_owner({"metadata": {"annotations": {"meta.helm.sh/release-namespace": "dedup-demo"}}}) == "dedup-demo"


def test_the_kafka_manifest_names_a_public_image_and_takes_another() -> None:
    def images(manifest: str) -> list[str]:
        documents = [document for document in yaml.safe_load_all(manifest) if document["kind"] == "StatefulSet"]
        return [document["spec"]["template"]["spec"]["containers"][0]["image"] for document in documents]

    assert images(render_kafka("")) == ["apache/kafka:4.1.1"]
    assert images(render_kafka("mine:1")) == ["mine:1"]
    plain = list(yaml.safe_load_all(KAFKA_MANIFEST.read_text()))
    assert list(yaml.safe_load_all(render_kafka("apache/kafka:4.1.1"))) == plain
    assert not any("namespace" in document["metadata"] for document in plain), "the user chooses the namespace"


def test_the_job_is_the_example_with_this_kafka() -> None:
    example = yaml.safe_load(EXAMPLE.read_text())
    job = yaml.safe_load(render_job(EXAMPLE.read_text(), "kafka.dedup-demo.svc:9092", ""))
    example["spec"]["source"]["bootstrapServers"] = "kafka.dedup-demo.svc:9092"
    assert job == example
    example["spec"]["checkpoint"]["claim"]["storageClassName"] = "fast"
    assert yaml.safe_load(render_job(EXAMPLE.read_text(), "kafka.dedup-demo.svc:9092", "fast")) == example


def test_the_newest_report_is_found_among_error_messages() -> None:
    reports = [json.dumps({"step": "sending", "stored": stored}) for stored in (500, 1000)]
    log = "\n".join([*reports, "%3|1|FAIL| connection refused", '{"other": 1}'])
    assert parse_log(log) == Report(step="sending", stored=1000)
    assert parse_log("") == Report()


def test_the_pod_gets_every_module_that_its_program_imports() -> None:
    folder = ROOT / "tests" / "demo"
    assert all((folder / f"{name}.py").is_file() for name in PROGRAM)
    lines = [line for name in PROGRAM for line in (folder / f"{name}.py").read_text().splitlines()]
    imported = {line.split()[1] for line in lines if line.startswith(("from ", "import "))}
    own = {name for name in imported if name.startswith("demo.")}
    assert own <= {f"demo.{name}" for name in PROGRAM}
    assert not {name for name in imported - own if name.split(".")[0] in {"testbed", "dedup_api", "yaml"}}


def test_the_pod_satisfies_the_restricted_standard_like_kafkas() -> None:
    pods = [build_pod("image:1", "Never", ["feed"])["spec"]]
    kafka = next(item for item in yaml.safe_load_all(KAFKA_MANIFEST.read_text()) if item["kind"] == "StatefulSet")
    pods.append(kafka["spec"]["template"]["spec"])
    for spec in pods:
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


WAITING = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, ""),
        ({"containerStatuses": [{"state": WAITING}]}, "ImagePullBackOff: Back-off pulling image"),
        ({"containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}, "OOMKilled: 137"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}]},
            "Unschedulable: Insufficient cpu",
        ),
    ],
)
def test_a_pods_problem_is_told_in_one_line(status: dict[str, Any], problem: str) -> None:
    assert find_problem({"status": status}) == problem
