"""Which fields of the payload are read, as a schema for Spark's JSON parser. Only these are parsed, the rest is skipped.

Schemas are built as objects, never as text: a name may hold `@`, `$`, `-` or anything else that DDL would trip over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.errors import JobError

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

Tree = dict[str, Any]
"""Field name -> None for a value that is read, or the tree below it."""


def build_paths(config: JobConfig) -> dict[str, str]:
    """Path in the payload -> the spec's field that asks for it."""
    paths = {path: f"spec.key.fields[{index}]" for index, path in enumerate(config.key.fields)}
    return {config.event_time.field: "spec.eventTime.field", **paths}


def build_tree(paths: dict[str, str]) -> Tree:
    """From path -> the spec's field that names it. A path below another is refused: one of both could never be a value."""
    tree: Tree = {}
    for path, field in paths.items():
        node = tree
        *parents, last = path.split(".")
        if not all([*parents, last]):
            raise JobError(ExitCode.CONFIGURATION, f"{field}: the path {path!r} has an empty part")
        for name in parents:
            if name in node and node[name] is None:
                raise JobError(ExitCode.CONFIGURATION, _overlap(field, path))
            node = node.setdefault(name, {})
        if node.get(last) is not None:
            raise JobError(ExitCode.CONFIGURATION, _overlap(field, path))
        node[last] = None
    return tree


def _overlap(field: str, path: str) -> str:
    return f"{field}: the path {path} lies above or below another field that is read; a field cannot be a value and an object at once"


def build_schema(tree: Tree) -> StructType:
    """Values are read as VARIANT: the one type that keeps apart `1` and `"1"`."""
    from pyspark.sql.types import StructField, StructType, VariantType

    return StructType([StructField(name, VariantType() if below is None else build_schema(below)) for name, below in tree.items()])
