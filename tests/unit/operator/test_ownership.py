"""What the operator does when a name that it needs is already in use."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_api import names
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG
from dedup_operator.domain.errors import ApiConflict, CheckpointTaken, NameTaken
from dedup_operator.domain.manifests.metadata import build_labels
from dedup_operator.domain.observe.ownership import find_name_conflict, find_record_conflict
from dedup_operator.domain.types import Json

OWN = {"kind": names.KIND, "name": "demo", "uid": "uid"}
EARLIER = {**OWN, "uid": "earlier"}
OTHER = {"kind": "Backup", "name": "backup", "uid": "other"}


def make(kind: str, owners: list[Json], **metadata: Any) -> Json:
    return {"kind": kind, "metadata": {"name": "demo-x", "labels": build_labels("demo"), "ownerReferences": owners, **metadata}}


SERVICE = make("Service", [OWN])
RETAINED = make("PersistentVolumeClaim", [], annotations={CHECKPOINT_CONFIG: "config"})
OWNED_CLAIM = make("PersistentVolumeClaim", [OWN], annotations={CHECKPOINT_CONFIG: "config"})


@pytest.mark.parametrize(
    ("wanted", "found", "error"),
    [
        (SERVICE, make("Service", [OWN]), None),
        (SERVICE, None, ApiConflict),
        (SERVICE, make("Service", [OWN], deletionTimestamp="2026-01-01T00:00:00Z"), ApiConflict),
        (SERVICE, make("Service", [EARLIER]), ApiConflict),
        (SERVICE, make("Service", [OTHER]), NameTaken),
        (SERVICE, make("Service", []), NameTaken),
        (RETAINED, RETAINED, None),
        (RETAINED, make("PersistentVolumeClaim", [], annotations={CHECKPOINT_CONFIG: "older"}), ApiConflict),
        (RETAINED, OWNED_CLAIM, ApiConflict),
        (OWNED_CLAIM, RETAINED, ApiConflict),
        (RETAINED, make("PersistentVolumeClaim", [], labels={}), NameTaken),
    ],
    ids=[
        "our own object",
        "gone again",
        "being deleted",
        "of an earlier DedupJob",
        "of another owner",
        "without an owner",
        "our own retained claim",
        "a retained claim with other settings",
        "a claim that has an owner now",
        "a claim that has no owner any more",
        "a claim without our labels",
    ],
)
def test_a_name_in_use_is_our_own_or_an_error(wanted: Json, found: Json | None, error: type[Exception] | None) -> None:
    conflict = find_name_conflict(wanted, found)
    assert type(conflict) is (error or type(None))
    assert error is not NameTaken or str(conflict) == f"{wanted['kind']} demo-x"


@pytest.mark.parametrize(
    ("labels", "error", "owner"),
    [
        (None, ApiConflict, ""),
        (build_labels("demo"), ApiConflict, ""),
        (build_labels("other"), CheckpointTaken, "DedupJob other"),
        ({}, CheckpointTaken, "ConfigMap demo-x"),
    ],
    ids=["gone again", "our own record", "of another DedupJob", "of an unknown owner"],
)
def test_a_folder_belongs_to_the_job_that_created_its_record(labels: dict[str, str] | None, error: type[Exception], owner: str) -> None:
    found = None if labels is None else make("ConfigMap", [], labels=labels)
    conflict = find_record_conflict(make("ConfigMap", []), found)
    assert type(conflict) is error and owner in str(conflict)
