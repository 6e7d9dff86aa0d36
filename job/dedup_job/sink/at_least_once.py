"""The Kafka sink with AtLeastOnce: Spark's own writer. A batch that runs again is written again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup_api.spec import Ordering
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.sink.rows import build_topic, order

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class AtLeastOnceSink:
    writes_marker = False

    def __init__(self, settings: ClientSettings, *, topic: str, batch_bytes: int, ordering: Ordering, partitions: int) -> None:
        self._topic, self._options = topic, settings.build_spark_sink(batch_bytes)
        self._ordering, self._partitions = ordering, partitions

    def begin(self, batch: int, entry: str) -> bool:
        return False

    def write(self, rows: DataFrame, batch: int) -> None:
        ordered = order(rows, self._ordering, self._partitions)
        ordered.select("key", "value", "headers", build_topic(self._topic)).write.format("kafka").options(**self._options).save()

    def confirm(self, rows: int) -> None:
        """The brokers have acknowledged every row when `write` returns."""

    def abort(self) -> None:
        """Rows that the brokers have acknowledged cannot be taken back."""
