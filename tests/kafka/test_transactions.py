"""The transactions of exactly-once delivery against a real broker, without a driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dedup_api.exits import ExitCode
from dedup_api.spec import Ordering
from dedup_job.checkpoint.last_delivered import NOTHING_DELIVERED
from dedup_job.errors import JobError
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.sink_topics import ensure_progress_topic
from dedup_job.sink.exactly_once import ExactlyOnceSink
from dedup_job.sink.marker import Marker
from dedup_job.sink.transactions import REOPEN_AFTER, Transactions
from kafka.broker import Broker, use_topics
from kafka.driver import build_config

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark-session")


def test_a_new_producer_is_opened_after_a_long_pause(broker: Broker, spark: SparkSession) -> None:
    """The brokers forget the id of a producer that pauses for long. The new producer does not write when another driver
    has written in the meantime."""
    with use_topics(broker, 1, 3) as (source, sink_topic):
        now, job = [0.0], build_config(broker.bootstrap, source, sink_topic)
        settings = ClientSettings(broker.bootstrap)
        ensure_progress_topic(settings, job.progress_topic)

        def build_transactions() -> Transactions:
            return Transactions(
                spark=spark,
                settings=settings,
                transactional_id=f"{job.transactional_id_prefix}.pause",
                topic=sink_topic,
                progress_topic=job.progress_topic,
                output="pause",
                batch_bytes=65536,
                clock=lambda: now[0],
            )

        def send(sink: ExactlyOnceSink, batch: int) -> None:
            row = f"SELECT CAST(NULL AS BINARY) key, CAST('{batch}' AS BINARY) value, timestamp_millis(1) timestamp"
            headers, topic = "CAST(NULL AS ARRAY<STRUCT<key: STRING, value: BINARY>>) headers", "CAST(NULL AS STRING) topic"
            sink.begin(batch, f"entry {batch}")
            sink.write(spark.sql(row).selectExpr("*", headers, topic, "0 partition", "0L offset"), batch)
            sink.confirm(1)

        ours, other = build_transactions(), build_transactions()
        try:
            ours.open()
            first = Marker(batch=NOTHING_DELIVERED, entry="", attempt=1, rows=0)
            sink = ExactlyOnceSink(ours, first, attempt=1, ordering=Ordering.NONE, partitions=1)
            send(sink, 0)
            other.open()  # fences the producer of `ours`
            now[0] += REOPEN_AFTER + 1
            send(sink, 1)
            assert sorted(record.value or b"" for record in broker.read_all(sink_topic)) == [b"0", b"1"]
            other.open()
            other.begin()
            other.commit(Marker(batch=2, entry="another", attempt=2, rows=0))
            now[0] += REOPEN_AFTER + 1
            with pytest.raises(JobError, match="another driver wrote to the output") as raised:
                sink.begin(2, "entry 2")
            assert raised.value.code is ExitCode.FENCED
        finally:
            ours.close()
            other.close()
