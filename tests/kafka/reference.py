"""The key encoding in plain Python, written from `docs/decisions/0002-key-encoding.md` and not from the driver's
code."""

from __future__ import annotations

import hashlib
import json
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


def find(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


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
