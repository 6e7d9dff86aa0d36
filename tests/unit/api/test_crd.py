"""The generated CRD follows the API conventions of Kubernetes and stays within its limits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dedup_api.crd import build_crd

ROOT = Path(__file__).resolve().parents[3]
CRD_FILE = ROOT / "crds" / "dedupjobs.streamdedup.dev.yaml"
MAX_BYTES = 200_000
"""`kubectl apply` stores the whole object in an annotation, which may have 262,144 bytes."""


def schema() -> dict[str, Any]:
    root: dict[str, Any] = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def walk(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")


NODES = [(path, node) for path, node in walk(schema()) if path.startswith((".spec", ".status"))]


def test_kubectl_apply_can_store_the_crd_in_its_annotation() -> None:
    size = CRD_FILE.stat().st_size
    assert size < MAX_BYTES, f"The CRD has {size} bytes, the limit is {MAX_BYTES}: shorten the descriptions in crds/dedup_api."


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "crds" / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("path", "node"), NODES, ids=[path for path, _ in NODES])
def test_a_field_has_a_type_a_limit_and_a_description(path: str, node: dict[str, Any]) -> None:
    forbidden = {"$ref", "anyOf", "oneOf", "title", "const", "nullable"} & set(node)
    assert not forbidden, f"{path}: a structural schema must not have {forbidden}; extend _flatten in crds/dedup_api/crd.py."
    assert node.get("x-kubernetes-int-or-string", False) or "type" in node, f"{path}: give the field a type."
    if not path.endswith("[]"):
        described = node.get("description", "").endswith(".")
        assert described, f"{path}: give the field a description of full sentences, which `kubectl explain` shows."
    if node.get("type") == "string":
        assert "maxLength" in node or "enum" in node, f"{path}: add max_length, which limits the estimated cost of the CEL rules."
    if node.get("type") == "array":
        assert "maxItems" in node, f"{path}: add max_length, which limits the estimated cost of the CEL rules."
        assert "x-kubernetes-list-type" in node, f"{path}: add x-kubernetes-list-type, which server-side apply needs."
    assert node.get("type") != "number", f"{path}: use an integer or a quantity; the API conventions allow no floating-point numbers."
    for rule in node.get("x-kubernetes-validations", []):
        assert "spec." in rule["message"], f"{path}: the message must name the field with its path below spec: {rule['message']}"


def list_defaults(node: dict[str, Any], path: str) -> list[str]:
    found = [path] if "default" in node else []
    return found + [below for name, child in node.get("properties", {}).items() for below in list_defaults(child, f"{path}.{name}")]


def test_the_api_server_stores_no_default_in_or_for_a_union() -> None:
    """No client would own it, so it would stand beside the member that a user sets later."""
    spec = schema()["properties"]["spec"]["properties"]
    found = [path for name in ("trigger", "sink", "checkpoint") for path in list_defaults(spec[name], name)]
    assert found == ["checkpoint.reclaimPolicy"], "reclaimPolicy is no member of a union"


def test_kstatus_does_not_consider_a_new_object_ready() -> None:
    assert schema()["properties"]["status"]["default"] == {"observedGeneration": -1}
