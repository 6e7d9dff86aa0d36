"""What the tests with a real broker and a real Spark share: the jars, the broker, a JVM for drivers, and a Spark
session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dedup_api.job_config import JobConfig
from dedup_job.jvm.memory import build_memory_plan
from dedup_job.jvm.process import connect_gateway, start_jvm
from dedup_job.stream.session import build_spark_conf, start_session
from faults.own_broker import OwnBroker, ensure_broker_jars
from kafka.broker import Broker
from kafka.driver import Driver, build_config
from kafka.jars import FASTER_START, ensure_class_archive, ensure_connector_jars
from kafka.shared_jvm import DriverHost, SharedJvmDriver
from testbed.layout import KAFKA_BOOTSTRAP

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def connector_jars() -> Path:
    """The folder of the jars. Also sets the environment in which the drivers of the tests start faster."""
    jars = ensure_connector_jars()
    os.environ.update(FASTER_START, DEDUP_CLASS_ARCHIVE=str(ensure_class_archive(jars)))
    return jars


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker that DEDUP_TEST_BOOTSTRAP names, else the test bed's if it runs, else one that the tests start."""
    named = os.environ.get("DEDUP_TEST_BOOTSTRAP")
    broker = Broker(named or KAFKA_BOOTSTRAP)
    if broker.answers():
        yield broker
        return
    assert named is None, f"DEDUP_TEST_BOOTSTRAP names {named}, where no broker answers: start it or unset the variable"
    with OwnBroker(tmp_path_factory.mktemp("broker") / "kafka", ensure_broker_jars(), {}) as own_broker:
        yield Broker(own_broker.bootstrap)


@pytest.fixture(scope="session")
def spark(connector_jars: Path) -> Iterator[SparkSession]:
    """A session with the settings of a driver, in a JVM of its own."""
    config = build_config("localhost:1", "none", None)
    memory = build_memory_plan(config.memory_bytes)
    os.environ["DEDUP_CONNECTOR_JARS"] = str(connector_jars)
    jvm, connection_file = start_jvm(memory, config.cpus)
    try:
        connect_gateway(jvm, connection_file)
        session = start_session(build_spark_conf(config, memory))
        yield session
        session.stop()
    finally:
        jvm.end()
        for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"):
            os.environ.pop(name, None)


@pytest.fixture
def start_driver(tmp_path: Path, connector_jars: Path) -> Callable[[JobConfig | str], Driver]:
    """Starts a driver as the image does, with a JVM of its own, on this test's checkpoint; use it with `with`."""
    return lambda config: Driver(tmp_path, config, connector_jars)


@pytest.fixture(scope="session")
def driver_host(connector_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriverHost]:
    host = DriverHost(tmp_path_factory.mktemp("driver-host"), connector_jars)
    yield host
    host.end()


@pytest.fixture
def start_in_shared_jvm(tmp_path: Path, connector_jars: Path, driver_host: DriverHost) -> Callable[[JobConfig | str], Driver]:
    """Starts a driver whose JVM other tests use too, on this test's checkpoint; use it with `with`."""
    return lambda config: SharedJvmDriver(tmp_path, config, connector_jars, driver_host)
