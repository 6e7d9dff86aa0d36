"""Turns the objects at the end of a run into a form in which two runs that did the same are equal.

It removes what differs in every run (UIDs, times, versions) and replaces the names that contain the namespace or a hash
of it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from typing import Any

from dedup_api import names
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG, CHECKPOINT_IDENTITY, CLAIM_UID
from fault_injection.api import Json

VOLATILE_FIELDS = {
    "uid",
    CLAIM_UID,
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "lastTransitionTime",
    "startedAt",
    "observedAt",
    "finishedAt",
    "nodeName",
    "clusterIP",
    "clusterIPs",
    "controller-revision-hash",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
}
"""Fields and annotations that differ between two runs that did the same."""
_ADDRESS = re.compile(r"127\.\d+\.\d+\.\d+")


def build_state(present: dict[str, Json], namespace: str) -> Json:
    """By `plural/name`: metadata and spec (or data) of every object, and the status of DedupJobs."""
    return normalize({path: _keep_compared_fields(item, path.split("/")[0]) for path, item in present.items()}, namespace)


def _keep_compared_fields(item: Json, plural: str) -> Json:
    kept = {
        key: value
        for key, value in item.items()
        if key not in {"status", "apiVersion", "kind"} or (key, plural) == ("status", names.PLURAL)
    }
    if plural != names.PLURAL:
        kept["metadata"] = {key: value for key, value in kept["metadata"].items() if key != "generation"}
    return kept


def normalize(found: Json, namespace: str) -> Json:
    """Replaces the namespace, addresses, random names, and the hashes that depend on the namespace by values that are
    the same in all runs. A reference to a renamed object is replaced with it, so a reference to a wrong object still
    shows as a difference."""
    text = json.dumps(_drop_volatile_fields(found), sort_keys=True).replace(namespace, "NAMESPACE")
    text = _ADDRESS.sub("ADDRESS", text)
    for name, start in _list_random_names(found):
        text = text.replace(name, f"{start}RANDOM")
    document: Json = json.loads(text)
    for path, item in document.items():
        if path.startswith("configmaps/"):
            name = item["metadata"]["name"]
            text = text.replace(name, f"{name.rsplit('-', 1)[0]}-{_digest(item['data'])}")
        identity = item["metadata"].get("annotations", {}).get(CHECKPOINT_IDENTITY)
        if identity:
            text = text.replace(identity, _digest(item["metadata"]["annotations"].get(CHECKPOINT_CONFIG)))
    comparable: Json = json.loads(text)
    return comparable


def _list_random_names(found: Json) -> list[tuple[str, str]]:
    """(name, its fixed start) for the pods of Kubernetes Jobs. The pods of a StatefulSet have fixed names."""
    pods = [item["metadata"] for path, item in found.items() if path.startswith("pods/")]
    return [(pod["name"], pod["generateName"]) for pod in pods if any(owner["kind"] == "Job" for owner in pod.get("ownerReferences", []))]


def _drop_volatile_fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_volatile_fields(child) for key, child in value.items() if key not in VOLATILE_FIELDS}
    return [_drop_volatile_fields(child) for child in value] if isinstance(value, list) else value


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def describe_difference(expected: object, found: object) -> str:
    """Returns a unified diff: `-` is expected, `+` was found."""
    before, after = (json.dumps(value, indent=1, sort_keys=True).splitlines() for value in (expected, found))
    return "\n".join(line[:300] for line in difflib.unified_diff(before, after, "expected", "found", lineterm="", n=2))
