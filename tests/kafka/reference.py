"""The key encoding in plain Python, written from `docs/decisions/0002-key-encoding.md` and not from the driver's code."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

MAX_DIGITS = 38


@dataclass(frozen=True)
class Number:
    """A JSON number as it was written."""

    literal: str


def read_object(value: bytes | None) -> dict[str, Any] | None:
    """The JSON object at the beginning of the value; None when there is none."""
    if value is None:
        return None
    try:
        decoder = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_refuse)
        document, _ = decoder.raw_decode(value.decode("utf-8").lstrip(" \t\r\n"))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _refuse(literal: str) -> None:
    raise ValueError(literal)


def find(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def encode_number(literal: str) -> str | None:
    """The number by its value, in plain digits; None when it has an exponent or cannot be held in 38 digits."""
    match = re.fullmatch(r"(-?)([0-9]+)(?:\.([0-9]+))?", literal)
    if match is None:
        return None
    sign, whole, fraction = match.group(1), match.group(2), match.group(3) or ""
    if len(fraction) > MAX_DIGITS or len((whole + fraction).lstrip("0")) > MAX_DIGITS:
        return None
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    digits = f"{whole}.{fraction}" if fraction else whole
    return digits if digits == "0" else sign + digits


def encode_part(value: Any) -> bytes | None:
    match value:
        case bool():
            tag, text = "b", "true" if value else "false"
        case str() if value:
            tag, text = "s", value
        case Number(literal):
            number = encode_number(literal)
            if number is None:
                return None
            tag, text = "n", number
        case _:
            return None
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return f"{tag}{len(content)}:".encode() + content


def encode_key(value: bytes | None, fields: list[str]) -> bytes | None:
    """The text that is hashed; None for a record without a valid key."""
    document = read_object(value)
    parts = [encode_part(find(document, field)) for field in fields]
    return None if None in parts else b"".join(part for part in parts if part is not None)


def hash_text(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:16]
