"""The program of the demo's pod: it creates the topics, runs and kills the producer, and checks the output.

All of it happens in the cluster, because there every pod reaches Kafka, whatever cluster it is. From outside one would
need a second Kafka listener, and a port-forward that carries some hundred megabytes. The pod runs the job image, which
has Python and a Kafka client; it mounts these modules from a ConfigMap (`client_pod.py`), so they import nothing but
each other, the standard library and confluent_kafka.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from demo.check import judge
from demo.flights import write_events
from demo.plan import EVENTS_BETWEEN_KILLS, Plan
from demo.producer import produce, read_position
from demo.topics import count_records, create_topics, delete_topics, read_topic, wait_for_broker

DATA = Path("/tmp/flights.csv.zip")
EVENTS = Path("/tmp/events")
POSITION = Path("/tmp/position")
BROKER_WITHIN = 180.0
"""Seconds until Kafka must answer. Its pod is ready when this one starts, but a Service's address takes a moment."""
DATA_WITHIN = 300.0
"""Seconds until `python -m demo run` must have uploaded the data: eight megabytes."""
REPORT_PAUSE = 0.5
"""Seconds between two reports: each is a line in the pod's log."""


@dataclass
class Report:
    """The state of the pod's work. Its last line on stdout is what `python -m demo run` knows of it."""

    step: str = "starting"
    planned: int = 0
    """Events to send."""
    stored: int = 0
    """Events that Kafka has stored, without the duplicates."""
    kills: int = 0
    sent: int | None = None
    """Records in the input topic, duplicates included; None until the producer has sent everything."""
    error: str | None = None

    def write(self) -> None:
        print(json.dumps(dataclasses.asdict(self)), flush=True)

    @classmethod
    def parse(cls, line: str) -> Report:
        return cls(**json.loads(line))


def receive(checksum: str) -> None:
    """Reads the data file from stdin. The `feed` process sees it only when it is complete."""
    content = sys.stdin.buffer.read()
    found = hashlib.sha256(content).hexdigest()
    if found != checksum:
        raise SystemExit(f"received {len(content):,} bytes with the checksum {found}, not {checksum}")
    partial = DATA.with_suffix(".part")
    partial.write_bytes(content)
    partial.rename(DATA)


def feed(bootstrap: str, source: str, target: str, flights: str) -> None:
    """Sends the flights, then stays so that others can run `check` in this pod."""
    report = Report()
    try:
        _feed(report, bootstrap, source, target, Plan(int(flights)))
    except Exception as error:  # noqa: BLE001 - the report is how the demo learns of any failure
        report.error = f"{type(error).__name__}: {error}"
    report.write()
    signal.pause()


def _feed(report: Report, bootstrap: str, source: str, target: str, plan: Plan) -> None:
    report.write()
    wait_for_broker(bootstrap, BROKER_WITHIN)
    delete_topics(bootstrap, [source, target])
    create_topics(bootstrap, [source, target])
    report.step = "waiting for the data"
    report.write()
    deadline = time.monotonic() + DATA_WITHIN
    while not DATA.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the flights did not arrive within {DATA_WITHIN:.0f} s")
        time.sleep(0.1)
    report.step = "preparing"
    report.write()
    # Another process writes the events, so that its memory is free before the producer needs as much.
    command = [sys.executable, "-m", "demo.client", "prepare", str(plan.flights)]
    report.planned = int(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    report.step = "sending"
    report.write()
    _send(report, bootstrap, source, plan)
    report.sent = count_records(bootstrap, source)
    report.step = "sent"


def _send(report: Report, bootstrap: str, source: str, plan: Plan) -> None:
    """Starts the producer again after each kill, until one of them has sent the last event."""
    command = [sys.executable, "-m", "demo.client", "produce", bootstrap, source]
    written = time.monotonic()
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                report.stored = int(line)
                if time.monotonic() - written > REPORT_PAUSE:
                    report.write()
                    written = time.monotonic()
                due = report.kills < len(plan.kills) and report.stored >= (report.kills + 1) * EVENTS_BETWEEN_KILLS
                if due and report.stored - read_position(POSITION) >= plan.kills[report.kills]:
                    process.kill()
                    report.kills += 1
                    break
            else:
                if process.wait() != 0:
                    raise RuntimeError(f"the producer ended with exit code {process.returncode}")
                return


def main(arguments: list[str]) -> None:
    match arguments:
        case ["feed", bootstrap, source, target, flights]:
            feed(bootstrap, source, target, flights)
        case ["receive", checksum]:
            receive(checksum)
        case ["prepare", flights]:
            print(write_events(EVENTS, DATA, int(flights)))
        case ["produce", bootstrap, topic]:
            produce(bootstrap, topic, EVENTS, POSITION)
        case ["check", bootstrap, source, target]:
            print(json.dumps(dataclasses.asdict(judge(read_topic(bootstrap, source), read_topic(bootstrap, target)))))
        case _:
            raise SystemExit("usage: python -m demo.client feed | receive | prepare | produce | check")


if __name__ == "__main__":
    main(sys.argv[1:])
