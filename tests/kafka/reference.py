"""The key encoding in plain Python, written from `docs/decisions/0002-key-encoding.md` and not from the driver's
code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Number:
    """A JSON number with the digits that stand in the record."""

    literal: str


def read_object(value: bytes | None) -> dict[str, Any] | None:
    """The JSON object in the value; None when the value is not a JSON object."""
    if value is None:
        return None
    try:
        decoder = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_refuse)
        text = value.decode("utf-8").strip(" \t\r\n")
        document, end = decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and end == len(text) else None


def _refuse(literal: str) -> None:
    raise ValueError(literal)


_STEP = re.compile(r"""\['(?P<quoted>[^']+)'\]|\["(?P<double>[^"]+)"\]|\[(?P<index>\d+)\]|\.?(?P<name>[^.\[]+)""")


def find(document: Any, path: str) -> Any:
    """`path`: as docs/reference.md describes it: `a.b`, `['a.b']`, `items[0].id`."""
    for step in _STEP.finditer(path):
        if step["index"] is not None:
            index = int(step["index"])
            document = document[index] if isinstance(document, list) and index < len(document) else None
        else:
            name = step["quoted"] or step["double"] or step["name"]
            document = document.get(name) if isinstance(document, dict) else None
    return document


def find_header(headers: Sequence[tuple[str, bytes | None]], name: str) -> bytes | None:
    """The last one of this name counts."""
    return next((value for found, value in reversed(headers) if found == name), None)


def encode_headers(headers: Sequence[tuple[str, bytes | None]], names: Sequence[str], *, tombstone: bool = False) -> bytes | None:
    """The parts of key.headers; None when a header is missing or empty."""
    values = [find_header(headers, name) for name in names]
    if not all(values):
        return None
    return b"".join(f"{'d' if tombstone else 'h'}{len(value or b'')}:".encode() + (value or b"") for value in values)


def encode_part(value: Any) -> bytes | None:
    match value:
        case bool():
            tag, text = "b", "true" if value else "false"
        case str() if value:
            tag, text = "s", value
        case Number(literal):
            tag, text = "n", literal
        case _:
            return None
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return f"{tag}{len(content)}:".encode() + content


def encode_key(value: bytes | None, fields: list[str]) -> bytes | None:
    """The text whose hash is the key; None for a record without a valid key."""
    document = read_object(value)
    parts = [encode_part(find(document, field)) for field in fields]
    return None if None in parts else b"".join(part for part in parts if part is not None)


def hash_text(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:16]
