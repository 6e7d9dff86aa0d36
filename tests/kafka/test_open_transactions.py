"""Records behind an open transaction of a producer are visible, and the driver reads them when the transaction ends."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from dedup_api.driver_status import DriverStatus
from kafka.broker import Broker, Record, use_topics
from kafka.driver import Driver, StartDriver, build_config
from kafka.events import sum_samples

RECORDS = 100
AFTER = 10
"""Records that another producer writes without a transaction after those."""


def open_transaction(broker: Broker, topic: str) -> Producer:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"{topic}-producer"})
    producer.init_transactions(60)
    producer.begin_transaction()
    for number in range(RECORDS):
        producer.produce(topic, build_value(number), partition=0)
    assert producer.flush(60) == 0
    return producer


def build_value(number: int) -> bytes:
    return b'{"id": "%d", "at": "2024-05-06T12:00:00Z"}' % number


def read_numbers(driver: Driver) -> tuple[float, float]:
    metrics = driver.get("/metrics")[1]
    return sum_samples(metrics, "dedup_lag_records"), sum_samples(metrics, "dedup_open_transaction_records")


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "abort"])
def test_records_behind_an_open_transaction_are_lag_and_a_number_of_their_own(
    broker: Broker, start_in_shared_jvm: StartDriver, commits: bool
) -> None:
    with use_topics(broker, 1, 1) as (source, sink):
        broker.send(source, [Record(None, build_value(-1))])
        producer = open_transaction(broker, source)
        broker.send(source, [Record(None, build_value(1000 + number)) for number in range(AFTER)])
        with start_in_shared_jvm(build_config(broker.bootstrap, source, sink)) as driver:
            driver.wait_for_rows(1)

            def is_waiting(status: DriverStatus) -> bool:
                return status.progress.lag_records == RECORDS + AFTER

            status = driver.wait_until(is_waiting)
            assert status.progress.open_transaction_records == RECORDS + AFTER
            assert status.progress.lag_seconds is not None
            assert status.pending_since is None, "records that the driver cannot read must not count as a delay of the driver"
            assert driver.get("/healthz")[0] == driver.get("/readyz")[0] == 200
            assert read_numbers(driver) == (RECORDS + AFTER, RECORDS + AFTER)
            assert status.warnings == [] and status.progress.rows_in == 1

            (producer.commit_transaction if commits else producer.abort_transaction)(60)
            rows = 1 + AFTER + (RECORDS if commits else 0)
            driver.wait_for_rows(rows)
            status = driver.wait_until(lambda status: status.progress.lag_records == 0)
            assert (status.progress.open_transaction_records, status.progress.rows_in) == (0, rows)
            assert read_numbers(driver) == (0, 0)
        assert len(broker.read_all(sink)) == rows
