"""The producer: a process of its own that sends the plan's records, no further than it is allowed to, through a broker that dies.

`python -m faults.feed BOOTSTRAP TOPIC SEED RECORDS FOLDER`. It reads how many records it may send from `FOLDER/allowed`,
and writes how many are stored to `FOLDER/fed`. An idempotent producer repeats what a dead broker did not answer, so that
the topic holds each record of the plan once, and in order.
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
"""More than a driver takes, and little enough to leave it a core."""
_SLICE = 300
"""Records between two looks at the clock and at what is allowed."""
_STORED_SECONDS = 600
"""Until a record must be stored, whatever happens to the broker meanwhile."""


class Feeder:
    """The process, seen from the run."""

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
            # Partitions that run apart in event time make records late: no more is on its way than a small part of a watermark.
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
            raise RuntimeError(f"a record was not stored: {error}")
        self._stored += 1

    def rest(self, seconds: float) -> None:
        self._producer.poll(seconds)
        if self._stored != self._written:
            self._written = self._stored
            write_number(self._folder / "fed", self._stored)

    def finish(self) -> None:
        left = self._producer.flush(_STORED_SECONDS)
        self.rest(0)
        if left:
            raise RuntimeError(f"{left} records were not stored")


def feed(bootstrap: str, topic: str, plan: Plan, folder: Path) -> None:
    sender = _Sender(bootstrap, topic, folder)
    allowed, due = 0, time.monotonic()
    for index, (event, copy) in enumerate(plan.list_all()):
        if index % _SLICE == 0:
            due = max(due + _SLICE / RECORDS_PER_SECOND, time.monotonic())
            while index >= allowed or time.monotonic() < due:
                sender.rest(0.02)
                allowed = read_number(folder / "allowed")
        sender.send(plan, event, copy)
    sender.finish()


def main(arguments: list[str]) -> int:
    bootstrap, topic, seed, records, folder = arguments
    feed(bootstrap, topic, build_plan(int(seed), int(records)), Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
