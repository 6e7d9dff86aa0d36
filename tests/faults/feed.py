"""The producer: a process of its own that sends the plan's records, while the broker is killed and starts again.

`python -m faults.feed BOOTSTRAP TOPIC SEED RECORDS FOLDER` reads from `FOLDER/allowed` how many records it may send,
and writes to `FOLDER/fed` how many the broker has stored. The producer is idempotent: it sends a record again when a
killed broker has not answered, and the topic still holds each record once and in order.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from faults.files import build_environment, read_number, write_number
from faults.plan import Plan, build_plan

RECORDS_PER_SECOND = 15_000
"""A driver reads fewer. A faster producer would take the driver's core."""
_SLICE = 300
"""After so many records the producer checks the clock and reads how many it may send."""
_STORED_SECONDS = 600
"""A record must be stored within this time, also if the broker is killed in the meantime."""


class Feeder:
    """The producer's process, seen from the run."""

    def __init__(self, folder: Path, bootstrap: str, topic: str, plan: Plan, tag: dict[str, str]) -> None:
        folder.mkdir(parents=True)
        self._folder, self._log = folder, folder / "feed.log"
        self.allow(0)
        command = [sys.executable, "-m", "faults.feed", bootstrap, topic, str(plan.seed), str(plan.records), str(folder)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, env=build_environment(tag), stdout=log, stderr=log, start_new_session=True)

    def __enter__(self) -> Feeder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()

    def allow(self, records: int) -> None:
        self.allowed = records
        write_number(self._folder / "allowed", records)

    def read_fed(self) -> int:
        return read_number(self._folder / "fed")

    def check(self) -> None:
        code = self._process.poll()
        assert code in (None, 0), f"the producer ended with {code}:\n{self._log.read_text()[-3000:]}"


class _Sender:
    def __init__(self, bootstrap: str, topic: str, folder: Path) -> None:
        self._topic, self._folder, self._stored, self._written = topic, folder, 0, 0
        settings = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            # Partitions with different event times make records late, so few records may be unsent.
            "queue.buffering.max.messages": 2000,
            "message.timeout.ms": _STORED_SECONDS * 1000,
            "reconnect.backoff.max.ms": 1000,
            "log_level": 0,
        }
        self._producer = Producer(settings)

    def send(self, plan: Plan, event: int, copy: int) -> None:
        record = plan.build_record(event, copy)
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    record.value,
                    record.key,
                    partition=plan.find_partition(event, copy),
                    timestamp=record.timestamp,
                    headers=list(record.headers),
                    on_delivery=self._on_delivery,
                )
                return
            except BufferError:
                self._producer.poll(0.02)

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            raise RuntimeError(f"the broker has not stored a record: {error}")
        self._stored += 1

    def wait(self, seconds: float) -> None:
        self._producer.poll(seconds)
        if self._stored != self._written:
            self._written = self._stored
            write_number(self._folder / "fed", self._stored)

    def finish(self) -> None:
        left = self._producer.flush(_STORED_SECONDS)
        self.wait(0)
        if left:
            raise RuntimeError(f"the broker has not stored {left} records")


def feed(bootstrap: str, topic: str, plan: Plan, folder: Path) -> None:
    sender = _Sender(bootstrap, topic, folder)
    allowed, due = 0, time.monotonic()
    for index, (event, copy) in enumerate(plan.list_all()):
        if index % _SLICE == 0:
            due = max(due + _SLICE / RECORDS_PER_SECOND, time.monotonic())
            while index >= allowed or time.monotonic() < due:
                sender.wait(0.02)
                allowed = read_number(folder / "allowed")
        sender.send(plan, event, copy)
    sender.finish()


def main(arguments: list[str]) -> int:
    bootstrap, topic, seed, records, folder = arguments
    feed(bootstrap, topic, build_plan(int(seed), int(records)), Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
