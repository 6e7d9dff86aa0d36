"""Whatever users have from the previous version still works with this one: no name is gone, no default has changed."""

from __future__ import annotations

import pytest

from compatibility.api_lists import list_required_fields
from compatibility.compare import COLLECTORS, build_message, list_breaks, read_previous

PREVIOUS = read_previous()


@pytest.mark.parametrize("name", PREVIOUS.lists)
def test_nothing_of_the_previous_version_is_gone_or_changed(name: str) -> None:
    breaks = list_breaks(PREVIOUS.lists[name], COLLECTORS[name]())
    assert not breaks, build_message(name, PREVIOUS.version, breaks)


def test_no_new_field_is_required() -> None:
    """A required field inside a new object is fine: no DedupJob of the previous version has that object."""
    known = PREVIOUS.lists["API fields"]
    new = sorted(path for path in list_required_fields() if path not in known and path.rpartition(".")[0] in known)
    assert not new, f"{', '.join(new)}: the API server would refuse every DedupJob of version {PREVIOUS.version}. Give the field a default."


def test_every_list_is_compared() -> None:
    """A list that is empty or missing in the previous version is never different from anything."""
    empty = [name for name, items in PREVIOUS.lists.items() if not items]
    assert not empty, f"{empty}: the collector in tests/compatibility found nothing. Correct it and write previous.json again."
    missing = sorted(COLLECTORS.keys() - PREVIOUS.lists.keys())
    assert not missing, f"{missing}: add these lists to tests/compatibility/previous.json, collected from the previous version's code."


def test_additions_are_allowed_and_removals_and_changes_are_named() -> None:
    assert list_breaks({"a": "1"}, {"a": "1", "b": ""}) == []
    assert list_breaks({"a": "1", "b": ""}, {}) == ["`a` is gone (it was: 1).", "`b` is gone."]
    assert list_breaks({"a": "1"}, {"a": "2"}) == ["`a` has changed from 1 to 2."]
