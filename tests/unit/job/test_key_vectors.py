"""The test vectors in the page about the key encoding, checked with the reference encoder.

`tests/kafka/test_parse.py` compares the driver with the same reference encoder.
"""

from pathlib import Path

import pytest

from kafka.reference import encode_key, hash_text

PAGE = Path(__file__).resolve().parents[3] / "docs" / "decisions" / "0002-key-encoding.md"


def read_vectors() -> list[tuple[list[str], str, str, str]]:
    rows = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `") and "`{" in line]
    return [([name.strip(" `") for name in fields.split(",")], *(cell.strip(" `") for cell in cells)) for fields, *cells in rows]  # type: ignore[misc]


@pytest.mark.parametrize(("fields", "value", "text", "key"), read_vectors())
def test_the_reference_encoder_gives_the_key_of_the_page(fields: list[str], value: str, text: str, key: str) -> None:
    encoded = encode_key(value.encode(), fields)
    if text == "invalid":
        assert encoded is None
        return
    assert encoded is not None
    assert (encoded.decode(), hash_text(encoded).hex()) == (text, key)


def test_all_vectors_of_the_page_are_read() -> None:
    assert len(read_vectors()) == 18
