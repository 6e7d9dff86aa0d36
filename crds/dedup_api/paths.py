"""Paths of fields in the payload: `a.b`, `['event.id']`, `a['b.c'].d`, `items[0].id`.

A dot separates levels. A name that holds a dot, a bracket, a quote or a space stands in brackets and quotes. A number in
brackets is the position in an array, from 0. There are no escapes: a name with both kinds of quotes cannot be written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dedup_api.records import EventTime, Key

Step = str | int
"""The name of a field, or a position in an array."""

# A backslash in a bare name is refused by the CRD, but version 0.1.0 accepted it as a part of the name.
_STEP = re.compile(
    r"""(?P<dot>[.])?(?P<bare>[^.\t\n\f\r `"'\[\]]+)|\[(?P<quote>['"])(?P<quoted>[^\x00-\x1f]+?)(?P=quote)\]|\[(?P<index>[0-9]{1,4})\]"""
)


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps from the payload to the field. ValueError when `text` is not a path."""
    steps: list[Step] = []
    position = 0
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None or not _may_follow(found, steps):
            raise ValueError(f"the path {text} is not of the form a.b, ['a.b'] or a[0].b")
        steps.append(int(found["index"]) if found["index"] else found["bare"] or found["quoted"])
        position = found.end()
    if not steps:
        raise ValueError("the path is empty")
    return tuple(steps)


def _may_follow(found: re.Match[str], steps: list[Step]) -> bool:
    """A dot stands before every bare name but the first. The payload itself is an object, not an array."""
    if found["bare"]:
        return bool(found["dot"]) == bool(steps)
    return bool(steps) or not found["index"]


def find_path_problem(key: Key, event_time: EventTime) -> str | None:
    """The message for a path that is none, and for two paths of which no record can have both. None when all are fine."""
    paths = {f"spec.key.fields[{index}]": path for index, path in enumerate(key.fields or [])}
    if event_time.field is not None:
        paths["spec.eventTime.field"] = event_time.field
    parsed: dict[str, tuple[Step, ...]] = {}
    for field, path in paths.items():
        try:
            parsed[field] = parse_path(path)
        except ValueError as error:
            return f"Correct {field}: {error}"
    key_fields = [field for field in parsed if field != "spec.eventTime.field"]
    for position, field in enumerate(parsed):
        for other in list(parsed)[:position]:
            if parsed[field] == parsed[other] and {field, other} <= set(key_fields):
                return f"Correct {field}: it names the same field as {other}. List each field once"
            if _exclude_each_other(parsed[field], parsed[other]):
                return (
                    f"Correct {field}: no record can have both {paths[field]} and {paths[other]} ({other}), because a field is "
                    "either a value, an object or an array. Choose another field"
                )
    return None


def _exclude_each_other(one: Iterable[Step], other: Iterable[Step]) -> bool:
    """Whether one path leads through the other's end, or one takes a field where the other takes an array's element."""
    first, second = list(one), list(other)
    for mine, theirs in zip(first, second, strict=False):
        if mine != theirs:
            return isinstance(mine, int) != isinstance(theirs, int)
    return len(first) != len(second)
