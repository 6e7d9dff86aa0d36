"""The generated CRD: the rules that Kubernetes' API conventions and its cost limits ask of every schema."""

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
"""`kubectl apply` keeps the whole object in an annotation of at most 262,144 bytes."""


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


def test_the_file_is_small_enough_for_plain_apply() -> None:
    assert CRD_FILE.stat().st_size < MAX_BYTES


def test_generated_files_are_fresh() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "crds" / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("path", "node"), NODES, ids=[path for path, _ in NODES])
def test_a_field_is_structural_bounded_and_described(path: str, node: dict[str, Any]) -> None:
    assert not {"$ref", "anyOf", "oneOf", "title", "const", "nullable"} & set(node)
    quantity = node.get("x-kubernetes-int-or-string", False)
    assert quantity or "type" in node, "a node needs a type"
    if not path.endswith("[]"):
        assert node.get("description", "").endswith("."), "`kubectl explain` needs a sentence"
    if node.get("type") == "string":
        assert "maxLength" in node or "enum" in node, "the cost of CEL rules is bounded by maxLength"
    if node.get("type") == "array":
        assert "maxItems" in node
        assert "x-kubernetes-list-type" in node
    assert node.get("type") != "number", "no floats in an API"
    for rule in node.get("x-kubernetes-validations", []):
        assert ".spec"[1:] in rule["message"], "a message names the field"


def test_defaults_of_unions_name_one_member() -> None:
    spec = schema()["properties"]["spec"]["properties"]
    assert spec["trigger"]["default"] == {"processingTime": "5s"}
    assert "default" not in spec["trigger"]["properties"]["processingTime"]
    assert "default" not in spec["sink"]


def test_a_fresh_object_is_not_ready_for_kstatus() -> None:
    assert schema()["properties"]["status"]["default"] == {"observedGeneration": -1}
