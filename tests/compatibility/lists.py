"""A list is a mapping from an item to its detail, both as text. Helpers that turn schemas and documents into lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

List = dict[str, str]
Json = dict[str, Any]


def text(value: object) -> str:
    """One spelling per value, so that details can be compared."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def walk_schema(schema: Json, path: str = "") -> Iterator[tuple[str, Json, bool]]:
    """Path, schema and "is required" of every field below `schema`."""
    for name, child in schema.get("properties", {}).items():
        below = f"{path}.{name}".lstrip(".")
        yield below, child, name in schema.get("required", [])
        yield from walk_schema(child, below)
        if child.get("type") == "array":
            yield from walk_schema(child["items"], f"{below}[]")


def list_types(schema: Json, path: str = "") -> List:
    found = {}
    for below, child, _ in walk_schema(schema, path):
        items = child.get("items", {}).get("type") or child.get("additionalProperties", {}).get("type")
        kind = "quantity" if child.get("x-kubernetes-int-or-string") else child.get("type", "object")
        found[below] = f"{kind} of {items}" if items else kind
    return found


def list_defaults(schema: Json, path: str = "") -> List:
    return {below: text(child["default"]) for below, child, _ in walk_schema(schema, path) if "default" in child}


def list_enum_values(schema: Json, path: str = "") -> List:
    values = ((below, value) for below, child, _ in walk_schema(schema, path) for value in child.get("enum", []))
    return {f"{below}: {value}": "" for below, value in values}


def list_optional(schema: Json, path: str = "") -> List:
    return {below: "" for below, _, required in walk_schema(schema, path) if not required}


def flatten(document: object, path: str = "") -> List:
    """Every value of a document by its path. A text that holds a JSON object is read too; elements of a list go by their name."""
    if isinstance(document, str) and document.startswith("{"):
        return flatten(json.loads(document), f"{path} (JSON)")
    if isinstance(document, dict) and document:
        return _join(flatten(value, f"{path}.{name}".lstrip(".")) for name, value in document.items())
    if isinstance(document, list) and document:
        names = [str(item["name"]) if isinstance(item, dict) and "name" in item else str(place) for place, item in enumerate(document)]
        return _join(flatten(item, f"{path}[{name}]") for name, item in zip(names, document, strict=True))
    return {path: text(document)}


def _join(lists: Iterator[List]) -> List:
    joined: List = {}
    for found in lists:
        joined.update(found)
    return joined


def list_keys(document: object, path: str = "") -> List:
    """As `flatten`, but without the values, which are examples."""
    return dict.fromkeys(flatten(document, path), "")


def list_metrics(registry: Any) -> List:
    """Name, type and labels of every metric. The public interface of a registry shows only labels that have a value already."""
    known = [found for found in registry._collector_to_names if hasattr(found, "_name")]
    found = {metric._name: f"{metric._type}, labels: {', '.join(sorted(metric._labelnames)) or 'none'}" for metric in known}
    computed = [family for other in registry._collector_to_names if other not in known for family in other.collect()]
    return found | {family.name: f"{family.type}, labels: {', '.join(sorted(family._labelnames)) or 'none'}" for family in computed}
