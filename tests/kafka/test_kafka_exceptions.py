"""The table of Kafka's exceptions has each class of the client that the driver uses."""

from __future__ import annotations

import zipfile
from pathlib import Path

from dedup_job.kafka_failures import FAILURES, OUTSIDE_OF_THE_PACKAGE

PACKAGE = "org/apache/kafka/common/errors/"


def test_each_exception_of_the_client_is_in_the_table(connector_jars: Path) -> None:
    [jar] = connector_jars.glob("kafka-clients-*.jar")
    with zipfile.ZipFile(jar) as archive:
        files = [Path(name).stem for name in archive.namelist() if name.startswith(PACKAGE) and name.endswith(".class")]
    classes = {name for name in files if "$" not in name}
    assert len(classes) > 100 and classes | OUTSIDE_OF_THE_PACKAGE == FAILURES.keys()
