"""Compares the lists of this version with those of the previous one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatibility import api_lists, driver_lists, operator_lists
from compatibility.lists import List
from dedup_api.version import VERSION

DATA = Path(__file__).with_name("previous.json")
COMMAND = "PYTHONPATH=tests .venv/bin/python -m compatibility"

REMEDY = f"""
Objects, dashboards, alerts, scripts and volumes of version {{version}} have these names. Restore them; a new name may stand beside an old
one. If a change cannot be avoided, write in CHANGELOG.md what users must do before they upgrade, and write the new lists with
`{COMMAND}`."""


@dataclass(frozen=True)
class Previous:
    version: str
    lists: dict[str, List]


COLLECTORS: dict[str, Callable[[], List]] = {**api_lists.COLLECTORS, **operator_lists.COLLECTORS, **driver_lists.COLLECTORS}
"""Each is called alone, so that one that fails hides no other."""


def render() -> str:
    """The content of `previous.json` for the code of this checkout."""
    lists = {name: collect() for name, collect in COLLECTORS.items()}
    return json.dumps({"version": VERSION, "lists": lists}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read_previous() -> Previous:
    document: dict[str, Any] = json.loads(DATA.read_text())
    return Previous(document["version"], document["lists"])


def list_breaks(before: List, after: List) -> list[str]:
    """One sentence for each item that is gone or has changed. Items that are only in `after` are no break."""
    sentences = []
    for item, detail in before.items():
        if item not in after:
            sentences.append(f"`{item}` is gone{f' (it was: {detail})' if detail else ''}.")
        elif after[item] != detail:
            sentences.append(f"`{item}` has changed from {detail} to {after[item]}.")
    return sentences


def build_message(name: str, version: str, breaks: list[str]) -> str:
    return "\n".join([f"Of the list '{name}':", *breaks]) + REMEDY.format(version=version)
