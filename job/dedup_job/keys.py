"""The key of an event as one column of 16 bytes. The encoding and its test vectors: `docs/decisions/0002-key-encoding.md`.

A change here gives every event a new key: all that a checkpoint remembers would come out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column

KEY_BYTES = 16


def build_part(leaf: Column) -> Column:
    """`<tag><length>:<text>` of one VARIANT, length in bytes; null unless it is a text, a number held exactly or a boolean."""
    kind, text = F.schema_of_variant(leaf), F.try_variant_get(leaf, "$", "string")
    tag = (
        F.when((kind == "STRING") & (text != ""), F.lit("s"))
        .when((kind == "BIGINT") | kind.startswith("DECIMAL"), F.lit("n"))
        .when(kind == "BOOLEAN", F.lit("b"))
    )
    return F.concat(tag, F.octet_length(text).cast("string"), F.lit(":"), text)


def build_key_text(leaves: list[Column]) -> Column:
    """All parts in their order; null when one is."""
    return F.concat(*(build_part(leaf) for leaf in leaves))


def build_own_key_text(partition: Column, offset: Column) -> Column:
    """For a record without a valid key: a text that no other record has, and no event's key begins like it."""
    return F.concat(F.lit("x"), partition.cast("string"), F.lit(":"), offset.cast("string"))


def build_digest(text: Column) -> Column:
    """The first 16 bytes of the text's SHA-256."""
    return F.unhex(F.substring(F.sha2(text, 256), 1, 2 * KEY_BYTES))
