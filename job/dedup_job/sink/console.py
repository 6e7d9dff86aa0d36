"""The console sink: prints the first rows of each batch to the driver's log.

It keeps no record of what it has printed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from dedup_job.sink.sink import Sink, SinkContext

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ROWS = 20
CHARACTERS = 2000
"""Of each field, so that a person can read the line."""
COLUMNS = ("key", "value", "headers")


class ConsoleOpening:
    def __init__(self, context: SinkContext) -> None:
        """The console needs nothing of the context."""

    def open(self) -> None:
        return None

    def build(self) -> Sink:
        return ConsoleSink()


class ConsoleSink:
    writes_marker = False

    def begin(self, batch: int, entry: str) -> bool:
        return False

    def write(self, rows: DataFrame, batch: int) -> None:
        print_rows(rows, batch)

    def confirm(self, rows: int) -> None:
        """A printed line cannot be taken back, so nothing is left to confirm."""

    def abort(self) -> None:
        """A printed line cannot be taken back."""


def print_rows(batch: DataFrame, number: int) -> None:
    """Prints up to 20 rows as JSON lines.

    It picks rows by their index in the partition, so that the action still reads all rows.
    """
    index_in_partition = F.monotonically_increasing_id().bitwiseAND(F.lit((1 << 33) - 1))
    picked = batch.select(*COLUMNS, index_in_partition.alias("index")).agg(
        F.collect_list(F.when(F.col("index") < ROWS, F.struct(*COLUMNS)))
    )
    for row in picked.collect()[0][0][:ROWS]:
        print(json.dumps(build_console_row(number, row["key"], row["value"], row["headers"]), ensure_ascii=False), flush=True)


def build_console_row(number: int, key: bytes | None, value: bytes | None, headers: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"batch": number, "key": _decode(key), "value": _decode(value)}
    if headers:
        document["headers"] = {header["key"]: _decode(header["value"]) for header in headers}
    return document


def _decode(content: bytes | None) -> str | None:
    return None if content is None else bytes(content).decode("utf-8", "replace")[:CHARACTERS]
