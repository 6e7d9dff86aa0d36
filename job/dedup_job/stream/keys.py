"""Builds keys for records that are not deduplicated.

`job/java/dev/streamdedup/ReadRecord.java` builds the keys of events; `docs/decisions/0002-key-encoding.md` describes
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column

KEY_BYTES = 16


def build_unique_key(partition: Column, offset: Column) -> Column:
    """16 bytes that no other record has: the hash of a text that starts with `x`, which no text of an event's key
    does."""
    text = F.concat(F.lit("x"), partition.cast("string"), F.lit(":"), offset.cast("string"))
    return F.unhex(F.substring(F.sha2(text, 256), 1, 2 * KEY_BYTES))
