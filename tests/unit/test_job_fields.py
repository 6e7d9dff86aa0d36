"""Paths in the payload as a tree, and paths that cannot be read together."""

from typing import Any

import pytest

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.fields import build_schema, build_tree


def paths(*names: str) -> dict[str, str]:
    return {name: f"spec.key.fields[{index}]" for index, name in enumerate(names)}


@pytest.mark.parametrize(
    ("names", "tree"),
    [
        (["id"], {"id": None}),
        (["a.b", "a.c", "d"], {"a": {"b": None, "c": None}, "d": None}),
        (["a.b.c", "a.d"], {"a": {"b": {"c": None}, "d": None}}),
        (["id", "ID"], {"id": None, "ID": None}),
        (["@t", "$x.a-b"], {"@t": None, "$x": {"a-b": None}}),
    ],
)
def test_trees(names: list[str], tree: dict[str, Any]) -> None:
    assert build_tree(paths(*names)) == tree


@pytest.mark.parametrize("names", [["a", "a.b"], ["a.b", "a"], ["a.b", "a.b.c.d"], ["a.b.c", "a.b"]])
def test_overlapping_paths_are_refused(names: list[str]) -> None:
    with pytest.raises(JobError, match=r"spec\.key\.fields\[1\]: the path") as caught:
        build_tree(paths(*names))
    assert caught.value.code is ExitCode.CONFIGURATION


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b"])
def test_empty_parts_are_refused(name: str) -> None:
    with pytest.raises(JobError, match="empty part"):
        build_tree(paths(name))


def test_schema() -> None:
    schema = build_schema(build_tree(paths("a.b-$@", "c")))
    assert schema.simpleString() == "struct<a:struct<b-$@:variant>,c:variant>"
