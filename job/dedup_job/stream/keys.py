"""Keys of records that are not deduplicated. The encoding of events' keys: `job/java/dev/streamdedup/ReadRecord.java` and
`docs/decisions/0002-key-encoding.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column

KEY_BYTES = 16


def build_own_key(partition: Column, offset: Column) -> Column:
    """16 bytes that no other record has: the hash of a text that no event's key begins like."""
    text = F.concat(F.lit("x"), partition.cast("string"), F.lit(":"), offset.cast("string"))
    return F.unhex(F.substring(F.sha2(text, 256), 1, 2 * KEY_BYTES))
