"""A second job of a run, with `eventTime.from: Arrival`, whose driver starts for each few records and stops again.

A copy that is read soon after its first record must not come out. One that is read after the key has expired must come
out, also if no driver ran in the meantime. The records of a start are sent before it, so that they are one batch.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from faults.own_broker import OwnBroker
from faults.processes import FaultyDriver
from kafka.broker import Broker, Record
from kafka.driver import build_config

WATERMARK = timedelta(minutes=1)
EXPIRED_AFTER = WATERMARK * 1.1 + timedelta(seconds=5)
"""A key lives for the watermark, and for up to a tenth more until the driver checks the clock."""
NEW = 20
"""How many new events a round has."""
SOURCE, SINK = "arrivals-in", "arrivals-out"


@dataclass
class Expectations:
    """How often each event must come out. Pure; all times are seconds of one clock."""

    least: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    _out: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By event: the driver has read the last record that came out within this time. Without the events of which that
    is not known."""

    def add(self, events: list[str], sent: float, read: float) -> None:
        """The driver has read a record of each of the events, later than `sent` and before `read`."""
        watermark = WATERMARK.total_seconds()
        for event in events:
            first, last = self._out.get(event, (None, None))
            if first is None or last is None:
                must = event not in self.most
                may = True
            else:
                must, may = sent - last > EXPIRED_AFTER.total_seconds(), read - first > watermark
            self.least[event] += must
            self.most[event] += may
            if must:
                self._out[event] = (sent, read)
            elif may:
                self._out.pop(event, None)

    def list_expired(self, now: float) -> list[str]:
        """Events of which a copy that is sent now must come out."""
        return [event for event, (_, last) in self._out.items() if now - last > EXPIRED_AFTER.total_seconds()]

    def check(self, output: Counter[str]) -> list[str]:
        wrong = [event for event in self.most | output if not self.least[event] <= output[event] <= self.most[event]]
        return [
            f"with eventTime.from Arrival, {event} came out {output[event]} times, and must {self.least[event]} to {self.most[event]} times"
            for event in sorted(wrong)
        ]


@dataclass
class ArrivalJob:
    """Its topics and its folder are created on the broker and on the disk with it."""

    broker: OwnBroker
    folder: Path
    start: Callable[..., FaultyDriver]
    """Starts a driver."""
    rounds: int = 0
    _sent: int = 0
    _expectations: Expectations = field(default_factory=Expectations)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.broker.create(SOURCE, 1)
        self.broker.create(SINK, 1)

    def run_round(self) -> None:
        """Two starts. The first reads new events and copies of expired ones, the second reads copies of all these."""
        events = [f"{self.rounds}-{number}" for number in range(NEW)] + self._expectations.list_expired(time.monotonic())
        self._read(events)
        self._read(events)
        self.rounds += 1

    def _read(self, events: list[str]) -> None:
        sent = time.monotonic()
        Broker(self.broker.bootstrap).send(SOURCE, [Record(None, json.dumps({"id": event}).encode()) for event in events])
        self._sent += len(events)
        with self.start(None, self.folder, config=self._build_config()) as driver:
            driver.wait_for_rows(self._sent)
            read = time.monotonic()
            code = driver.stop()
            assert code == ExitCode.DONE, f"the driver ended with {code}:\n{driver.read_output()}"
        self._expectations.add(events, sent, read)

    def _build_config(self) -> JobConfig:
        watermark = f"{int(WATERMARK.total_seconds())}s"
        return build_config(self.broker.bootstrap, SOURCE, SINK, eventTime={"from": "Arrival"}, watermark=watermark)

    def check(self) -> list[str]:
        """One sentence for each event that came out too rarely or too often."""
        output = Broker(self.broker.bootstrap).read_all(SINK)
        return self._expectations.check(Counter(json.loads(record.value or b"{}")["id"] for record in output))
