"""Paths of fields in the payload."""

from __future__ import annotations

import pytest

from dedup_api.paths import Step, find_path_problem, parse_path
from dedup_api.records import EventTime, Key


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", ("a",)),
        ("a.b.c", ("a", "b", "c")),
        ("['event.id']", ("event.id",)),
        ('["it\'s"].x', ("it's", "x")),
        ("a['b.c'].d", ("a", "b.c", "d")),
        ("items[0].id", ("items", 0, "id")),
        ("m[10][2]", ("m", 10, 2)),
        ("a['0']", ("a", "0")),
        ("a\\", ("a\\",)),  # version 0.1.0 accepted a backslash as a part of the name
    ],
)
def test_a_path_has_its_steps(text: str, steps: tuple[Step, ...]) -> None:
    assert parse_path(text) == steps


NO_PATHS = ("", ".", "a.", ".a", "a..b", "a b", "[0].id", "a[", "a[x]", "a['b", "a['']", "a.[0]", "a[0]b", "['a']b", "a[12345]")


@pytest.mark.parametrize("text", NO_PATHS)
def test_a_text_that_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="path"):
        parse_path(text)


@pytest.mark.parametrize(
    ("fields", "time", "problem"),
    [
        (["id"], "at", None),
        (["a.b", "a.c"], "a.d", None),
        (["items[0].id", "items[1].id"], "items[0].at", None),
        (["id"], "id", None),
        (["a..b"], "at", "spec.key.fields[0]: the path a..b is not"),
        (["a.b", "['a'].b"], "at", "spec.key.fields[1]: it names the same field as spec.key.fields[0]"),
        (["a", "a['b']"], "at", "spec.key.fields[1]: no record can have both a['b'] and a"),
        (["a[0]", "a.b"], "at", "no record can have both a.b and a[0]"),
        (["a.b"], "a", "spec.eventTime.field: no record can have both a and a.b"),
    ],
)
def test_two_paths_of_which_no_record_can_have_both_are_refused(fields: list[str], time: str, problem: str | None) -> None:
    found = find_path_problem(Key(fields=fields), EventTime(field=time))
    assert found is None if problem is None else found is not None and problem in found


@pytest.mark.parametrize("name", ["my\u00a0field", "a\u3000b", "x\x0by", "a\x1cb", "größe", "a\u2028b"])
def test_names_that_the_crd_accepts_are_paths(name: str) -> None:
    """The CRD's pattern knows only the white space of ASCII."""
    assert parse_path(name) == (name,) and parse_path(f"a.{name}") == ("a", name)
