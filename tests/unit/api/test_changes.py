"""The table of what an edit does: it has every field of the spec, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dedup_api.changes import CHANGES, Change
from dedup_api.checkpoint import Checkpoint
from dedup_api.crd import build_structural_schema
from dedup_api.spec import DedupJobSpec, Sink, Trigger

UNIONS = {union.union_path.removeprefix("spec."): set(union.list_members()) for union in (Trigger, Sink, Checkpoint)}
"""Which member of a union is set is a setting too, so the members themselves are in the table."""
FILE = "crds/dedup_api/changes.py"


def list_fields(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        if "properties" not in child or name in UNIONS.get(prefix.rstrip("."), set()):
            yield path
        yield from list_fields(child, f"{path}.")


def test_every_field_of_the_spec_is_in_the_table() -> None:
    missing = sorted(set(list_fields(build_structural_schema(DedupJobSpec))) - CHANGES.keys())
    assert not missing, f"Add {', '.join(f'`{path}`' for path in missing)} to CHANGES in {FILE}: say what an edit of the field does."


def test_the_table_has_no_field_that_the_spec_does_not_have() -> None:
    unknown = sorted(CHANGES.keys() - set(list_fields(build_structural_schema(DedupJobSpec))))
    assert not unknown, f"Remove {', '.join(f'`{path}`' for path in unknown)} from CHANGES in {FILE}: the spec has no such field."


def test_every_class_of_change_has_a_field() -> None:
    unused = set(Change) - set(CHANGES.values())
    assert not unused, f"No field has the change {', '.join(unused)}: remove it from Change in {FILE} and from crds/dedup_api/reference.py."
