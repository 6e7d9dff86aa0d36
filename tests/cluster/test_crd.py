"""Every rule of the CRD on the real API server: what it accepts, and what it refuses with which message.

The tests use kubectl for refusals too, because users read kubectl's message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.crd_cases import (
    ACCEPTED,
    ACCESS_MODE,
    CHECKPOINTS,
    NAMESPACE,
    PLACE,
    REFUSED,
    SIZE,
    STORAGE_CLASS,
    Checkpoint,
    Edit,
    changed,
)
from cluster.harness import CRD, Cluster

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def namespace(cluster: Cluster) -> Iterator[None]:
    """Applies the CRD as users do, and creates a namespace. Removes the CRD again when it was not there before."""
    existed = cluster.find("crd", CRD, "") is not None
    cluster.kubectl("apply", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{CRD}")
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    yield
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    if not existed:
        cluster.kubectl("delete", "crd", CRD)


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_valid_job_is_accepted(cluster: Cluster, changes: dict[str, Any]) -> None:
    done = cluster.try_kubectl("apply", "--dry-run=server", "-f", "-", document=changed(changes))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_an_invalid_job_is_refused_with_the_name_of_the_field(cluster: Cluster, changes: dict[str, Any], message: str) -> None:
    done = cluster.try_kubectl("apply", "--dry-run=server", "-f", "-", document=changed(changes))
    assert done.returncode != 0
    assert message in done.stderr


def test_the_api_server_fills_in_defaults(cluster: Cluster) -> None:
    document = changed({"spec.trigger": None})
    done = cluster.try_kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", document=document)
    live = json.loads(done.stdout)
    assert live["status"] == {"observedGeneration": -1}
    spec = live["spec"]
    assert "trigger" not in spec and "checkpoint" not in spec, "no client would own a default in a union"
    assert spec["source"]["startingOffsets"] == "Earliest"
    assert spec["source"]["maxOffsetsPerTrigger"] == 200_000
    assert spec["format"] == "Json"
    assert spec["key"] == {"from": "Fields", "fields": ["eventId"]}
    assert spec["eventTime"] == {"from": "Field", "field": "timestamp", "format": "Iso8601", "maxFutureSkew": "1h"}
    assert (spec["onLate"], spec["onInvalid"]) == ("Drop", "Fail")
    assert "deadLetter" not in spec
    assert spec["sink"] == {"kafka": {"topic": "user_events_unique"}}
    assert spec["driver"] == {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "2", "memory": "2Gi"}}}
    assert spec["onIncompatibleChange"] == "Block"
    assert spec["suspend"] is False
    assert "parallelism" not in spec


@pytest.mark.parametrize(("created", "edits"), CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_edits_of_the_checkpoint_follow_the_rules(cluster: Cluster, created: Checkpoint, edits: list[Edit]) -> None:
    """The job is suspended, so that the operator creates nothing for it. The status says that its claim exists and that
    keys are stored."""
    fields = {"metadata.name": "transitions", "spec.suspend": True}
    done = cluster.try_kubectl(
        "create", "-f", "-", document=changed(fields | ({"spec.checkpoint": created} if created is not None else {}))
    )
    assert done.returncode == 0, done.stderr
    try:
        status = json.dumps({"status": {"checkpoint": {"claim": "recorded", "keysStored": True}}})
        cluster.kubectl("patch", "dedupjob", "transitions", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", status)
        for checkpoint, messages in edits:
            edited = changed(fields | ({"spec.checkpoint": checkpoint} if checkpoint is not None else {}))
            done = cluster.try_kubectl("replace", "-f", "-", document=edited)
            assert (done.returncode == 0) == (not messages), f"{checkpoint}: {done.stderr}"
            found = {message for message in (SIZE, STORAGE_CLASS, ACCESS_MODE, PLACE) if message in done.stderr}
            assert found == set(messages), f"{checkpoint}: {done.stderr}"
    finally:
        cluster.try_kubectl("delete", "dedupjob", "transitions", "-n", NAMESPACE)


def test_before_the_claim_exists_and_keys_are_stored_the_checkpoint_is_free(cluster: Cluster) -> None:
    fields = {"metadata.name": "free", "spec.suspend": True}
    assert cluster.try_kubectl("create", "-f", "-", document=changed(fields)).returncode == 0
    try:
        places: tuple[Checkpoint, ...] = (
            {"existing": {"claimName": "a"}},
            {"existing": {"claimName": "b", "subPath": "folder"}},
            None,
            {"claim": {"size": "20Gi", "storageClassName": "wrong"}},
            {"claim": {"size": "1Gi", "storageClassName": "right", "accessMode": "ReadWriteMany"}},
            {"existing": {"claimName": "a"}},
        )
        for place in places:
            edited = changed(fields | ({"spec.checkpoint": place} if place else {}))
            done = cluster.try_kubectl("replace", "-f", "-", document=edited)
            assert done.returncode == 0, f"{place}: {done.stderr}"
    finally:
        cluster.try_kubectl("delete", "dedupjob", "free", "-n", NAMESPACE)


def test_kubectl_explains_every_field(cluster: Cluster) -> None:
    done = cluster.try_kubectl("explain", "dedupjob.spec", "--recursive")
    assert done.returncode == 0, done.stderr
    assert "maxOffsetsPerTrigger" in done.stdout
    watermark = cluster.try_kubectl("explain", "dedupjob.spec.watermark").stdout
    assert "How far apart two copies of an event may be" in watermark


def test_kubectl_get_knows_the_short_name_and_the_columns(cluster: Cluster) -> None:
    job = changed({"metadata.name": "columns", "spec.suspend": True})
    assert cluster.try_kubectl("apply", "-f", "-", document=job).returncode == 0
    narrow = cluster.try_kubectl("get", "dj", "-n", NAMESPACE).stdout.splitlines()
    assert narrow[0].split() == ["NAME", "READY", "REASON", "TOPIC", "WATERMARK", "DUPLICATES", "LAG", "AGE"]
    assert {"columns", "user_events", "10m"} <= set(narrow[1].split())
    wide = cluster.try_kubectl("get", "dj", "-n", NAMESPACE, "-o", "wide").stdout.splitlines()[0].split()
    assert set(wide) - set(narrow[0].split()) == {"DRIVER", "RESTARTS", "RATE", "LATE", "INVALID", "STATE", "WARNING"}
    cluster.try_kubectl("delete", "dedupjob", "columns", "-n", NAMESPACE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_accepted_unchanged(cluster: Cluster, path: Path) -> None:
    done = cluster.try_kubectl("apply", "--dry-run=server", "-f", str(path))
    assert done.returncode == 0, done.stderr


def test_the_job_in_the_readme_is_the_smallest_example() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block in (ROOT / "docs" / "examples" / "user-events.yaml").read_text()
