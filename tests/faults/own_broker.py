"""A Kafka broker that belongs to one test or run, which may kill it and start it again on its data."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from kafka.broker import READER
from testbed.layout import CHECKOUT, Layout
from testbed.locks import file_lock
from testbed.packages import JAVA_COMMANDS, ensure_system_packages
from testbed.ports import find_free_ports

ANSWER_SECONDS = 180
"""The broker must answer within so many seconds. On an idle machine it takes five."""

_POM = CHECKOUT / "tests" / "testbed" / "images" / "kafka" / "pom.xml"
_CLUSTER_ID = "ZmF1bHRzLWthZmthLS0wMQ"
_SETTINGS = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# The records of a plan are years old.
log.retention.ms=-1
# The broker aborts a transaction soon after its timeout.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""


def ensure_broker_jars() -> Path:
    """The folder of the broker's jars. It is complete or absent."""
    layout = Layout.of_this_checkout()
    ensure_system_packages(layout.log / "java.log", JAVA_COMMANDS)
    folder = layout.cache / f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"
    with file_lock(layout.cache / ".kafka.lock", "the broker's jars, which are downloaded"):
        if not folder.is_dir():
            partial = Path(tempfile.mkdtemp(dir=layout.cache, prefix=".kafka-"))
            try:
                command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-f", str(_POM), "-DincludeScope=runtime"]
                subprocess.run([*command, f"-DoutputDirectory={partial}"], check=True, timeout=600)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


class OwnBroker:
    """Use it with `with`. Its data stay in `folder`."""

    def __init__(
        self,
        folder: Path,
        jars: Path,
        environment: dict[str, str],
        settings: dict[str, str] | None = None,
        cluster_id: str = _CLUSTER_ID,
    ) -> None:
        """`settings` of the broker add to those above, or replace them."""
        self._cluster_id = cluster_id
        self._folder, self._jars, self._environment = folder, jars, environment
        self._settings = settings or {}
        self._port, self._controller = find_free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    def build_second(self, folder: Path) -> OwnBroker:
        """A second broker of this broker's cluster, which has the only controller."""
        second = OwnBroker(folder, self._jars, self._environment, cluster_id=self._cluster_id)
        second._settings = {
            "process.roles": "broker",
            "node.id": "2",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{second._port}",
            "broker.heartbeat.interval.ms": "1000",
        }
        return second

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        return self._folder / "broker.log"

    def __enter__(self) -> OwnBroker:
        self._folder.mkdir(parents=True)
        self._write_settings()
        self._run_java("-Xmx128m", "kafka.tools.StorageTool", "format", "--cluster-id", self._cluster_id, "--config").wait(ANSWER_SECONDS)
        self.start()
        self.wait_until_it_answers()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def _write_settings(self) -> None:
        """Kafka uses the last of several lines with the same name."""
        settings = _SETTINGS.format(port=self._port, controller=self._controller, data=self._folder / "data")
        more = "".join(f"{name}={value}\n" for name, value in self._settings.items())
        (self._folder / "server.properties").write_text(settings + more)

    def configure(self, settings: dict[str, str]) -> None:
        """Restarts the broker with these settings changed."""
        self.kill()
        self._settings |= settings
        self._write_settings()
        self.start()
        self.wait_until_it_answers()

    def start(self) -> None:
        self._process = self._run_java("-Xmx512m", "kafka.Kafka")

    def kill(self) -> None:
        """Sends SIGKILL, and waits for the end of the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _run_java(self, heap: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["java", heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        command += ["-cp", f"{self._jars}/*", *arguments, str(self._folder / "server.properties")]
        environment = {**os.environ, **self._environment}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while not self.answers():
            assert time.monotonic() < deadline, f"the broker does not answer after {ANSWER_SECONDS} s:\n{self._read_log()}"

    def answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, f"the broker has ended:\n{self._read_log()}"
        try:
            AdminClient(self._build_client()).list_topics(timeout=2)
        except KafkaException:
            return False
        return True

    def _read_log(self) -> str:
        return self.log.read_text()[-3000:]

    def create(self, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
        admin = AdminClient(self._build_client())
        admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(60)

    def open_reader(self, topic: str, isolation: str) -> tuple[Consumer, list[int]]:
        """A consumer at the start of all partitions, and the numbers of the partitions."""
        settings = {**self._build_client(), **READER, "group.id": "faults", "isolation.level": isolation}
        consumer = Consumer({**settings, "enable.auto.commit": False})
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        return consumer, list(partitions)

    def _build_client(self) -> dict[str, Any]:
        # Without log_level librdkafka writes to stderr that the broker is away, which is intended here.
        return {"bootstrap.servers": self.bootstrap, "log_level": 0}
