"""Builds records that the driver cannot deduplicate, in at least one form for each fault. Pure; `plan` decides their
places."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from dedup_api.faults import Fault

Document = dict[str, Any]
Form = Callable[[Document], bytes | None]

SHIFTS: dict[Fault | None, timedelta] = {Fault.LATE: -timedelta(days=365), Fault.TIME_IN_FUTURE: timedelta(days=1)}
"""The faults that lie in the event time alone, and by how much it is shifted. Records with other faults have no
event time that the driver reads."""


def encode(document: Document) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def build_value(document: Document, fault: Fault, draw: int) -> bytes | None:
    """The document with the fault. `draw` chooses one of the fault's forms. The first fields of `document` are id
    and at."""
    forms = _FORMS[fault]
    return forms[draw % len(forms)](document)


def _replace(field: str, value: Any) -> Form:
    return lambda document: encode({**document, field: value})


def _remove(field: str) -> Form:
    return lambda document: encode({name: value for name, value in document.items() if name != field})


_FORMS: dict[Fault, tuple[Form, ...]] = {
    Fault.TOMBSTONE: (lambda document: None,),
    Fault.NOT_UTF8: (
        lambda document: encode(document).replace(b'"id": "e', b'"id": "\xff'),
        lambda document: encode(document) + b"\xe2\x82",
    ),
    Fault.NOT_JSON: (
        lambda document: encode(document)[:-1],
        lambda document: encode(document) + b"}",
        lambda document: b"[" + encode(document) + b"]",
        lambda document: b"",
        lambda document: b"no JSON",
    ),
    Fault.KEY_MISSING: (_remove("id"), _replace("id", None)),
    Fault.KEY_EMPTY: (_replace("id", ""),),
    Fault.KEY_UNREADABLE: (_replace("id", {"e": 1}), _replace("id", ["e1"])),
    Fault.TIME_MISSING: (_remove("at"), _replace("at", None)),
    Fault.TIME_UNREADABLE: (_replace("at", "2024-02-30T00:00:00Z"), _replace("at", ""), _replace("at", [])),
    Fault.TIME_IN_FUTURE: (encode,),
    Fault.LATE: (encode,),
}
