"""The table of what an edit does: every field is in it once, and the operator acts on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dedup_api.changes import CHANGES, Change
from dedup_api.checkpoint import Checkpoint
from dedup_api.crd import build_structural_schema
from dedup_api.spec import DedupJobSpec, Sink, Trigger

EXAMPLE: dict[str, Any] = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "ts"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "out"}},
}
UNIONS = {union.union_path.removeprefix("spec."): set(union.list_members()) for union in (Trigger, Sink, Checkpoint)}
"""Which member of a union is set is a setting too, so the members themselves are in the table."""


def list_fields(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        if "properties" not in child or name in UNIONS.get(prefix.rstrip("."), set()):
            yield path
        yield from list_fields(child, f"{path}.")


def test_every_field_is_in_the_table_and_nothing_else() -> None:
    fields = list(list_fields(build_structural_schema(DedupJobSpec)))
    assert sorted(fields) == sorted(CHANGES)


def test_no_class_is_without_a_field() -> None:
    assert set(CHANGES.values()) == set(Change)
