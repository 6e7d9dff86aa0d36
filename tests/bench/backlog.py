"""`python -m bench.backlog` reads a year of flights, in partitions of very different size, from the start of the topic.

It prints for each run the number of late records, the seconds of all batches, and the largest state in keys and bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

from demo.flights import KEY_FIELDS, Flight, read_events, write_events
from faults.own_broker import OwnBroker, ensure_broker_jars
from kafka.driver import Driver, build_config
from kafka.jars import ensure_class_archive, ensure_connector_jars
from testbed.layout import Layout

START_MONTHS = (1, 1, 1, 1, 7, 7, 10, 10)
"""By partition: the month in which it was added to the topic. Then the carriers are distributed among all partitions
again."""
SOURCE = "flights"


class NewestDriver(Driver):
    program = (str(Path(__file__).with_name("newest_driver.py")),)


RULES: dict[str, type[Driver]] = {"partitions": Driver, "newest": NewestDriver}


@dataclass
class Run:
    rule: str
    late: int = 0
    unique: int = 0
    seconds: float = 0.0
    most_keys: int = 0
    most_bytes: int = 0

    def describe(self) -> str:
        return (
            f"{self.rule:<12}{self.late:>10,}{self.unique:>12,}{self.seconds:>10.1f}{self.most_keys:>12,}{self.most_bytes / 2**20:>12.1f}"
        )


def find_partition(flight: Flight) -> int:
    """The hash of the key chooses among the partitions of that month, as a producer's partitioner does."""
    existing = [partition for partition, month in enumerate(START_MONTHS) if month <= json.loads(flight.value)["month"]]
    return existing[zlib.crc32(flight.key[:2]) % len(existing)]


def load_flights(cache: Path) -> list[Flight]:
    path = cache / "flights.tsv"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        write_events(partial)
        partial.rename(path)
    return read_events(path)


def send(bootstrap: str, flights: list[Flight]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "enable.idempotence": True})
    for flight in flights:
        while True:
            try:
                producer.produce(SOURCE, flight.value, flight.key, partition=find_partition(flight))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


def measure(rule: str, folder: Path, bootstrap: str, sink: str, records: int, arguments: argparse.Namespace) -> Run:
    source = {"bootstrapServers": bootstrap, "topic": SOURCE, "maxOffsetsPerTrigger": arguments.batch}
    config = build_config(
        bootstrap,
        SOURCE,
        sink,
        name=sink,
        source=source,
        key={"fields": list(KEY_FIELDS)},
        eventTime={"field": "time_hour"},
        watermark=arguments.watermark,
    )
    run = Run(rule)
    folder.mkdir()
    began = time.monotonic()
    with RULES[rule](folder, config, ensure_connector_jars()) as driver:
        while True:
            progress = driver.wait_until(lambda status: True).progress
            if progress.rows_in == 0:
                began = time.monotonic()
            run.most_keys, run.most_bytes = max(run.most_keys, progress.state_rows or 0), max(run.most_bytes, progress.state_bytes or 0)
            if progress.rows_in >= records:
                break
            time.sleep(0.05)
        run.seconds = time.monotonic() - began
        run.late, run.unique = progress.late, progress.unique
        driver.stop()
    return run


def run_all(arguments: argparse.Namespace) -> Iterator[Run]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dedup-bench-")))
        os.environ["DEDUP_CLASS_ARCHIVE"] = str(ensure_class_archive(ensure_connector_jars()))
        broker = stack.enter_context(OwnBroker(folder / "broker", ensure_broker_jars(), {}))
        flights = load_flights(Layout.of_this_checkout().cache)
        broker.create(SOURCE, len(START_MONTHS))
        counts = Counter(map(find_partition, flights))
        print("flights by partition:", *(f"{counts[partition]:,}" for partition in range(len(START_MONTHS))), flush=True)
        send(broker.bootstrap, flights)
        print(f"{'rule':<12}{'late':>10}{'unique':>12}{'seconds':>10}{'most keys':>12}{'most MiB':>12}", flush=True)
        for number in range(arguments.rounds):
            for rule in RULES:
                sink = f"out-{rule}-{number}"
                broker.create(sink, 2)
                yield measure(rule, folder / sink, broker.bootstrap, sink, len(flights), arguments)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.backlog", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="number of runs with each rule; default 2")
    parser.add_argument("--batch", type=int, default=20_000, help="maxOffsetsPerTrigger; default 20000")
    parser.add_argument("--watermark", default="2h", help="default 2h")
    for run in run_all(parser.parse_args(arguments)):
        print(run.describe(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
