"""The demo from beginning to end, step by step, with what it says to people."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from dedup_api.driver_status import DriverStatus
from demo.check import Verdict, judge
from demo.cluster import OPERATOR_NAMESPACE, DemoCluster
from demo.flights import write_events
from demo.producer import read_note
from demo.topics import count_records, create_topics, delete_topics, read_topic
from testbed.console import duration, note, step
from testbed.layout import CHECKOUT, KAFKA_BOOTSTRAP, Layout
from testbed.shell import TestbedError

NAMESPACE = "demo"
JOB = "flights"
EXAMPLE = CHECKOUT / "docs" / "examples" / "flights.yaml"
SOURCE, TARGET = "flights", "flights_unique"

KILLS = (4000, 6000, 8000, 5000, 7000, 9000, 4500, 6500)
"""The producer is killed as soon as it has stored so many events that it has not noted: each is sent again."""
EVENTS_BETWEEN_KILLS = 35_000
DUPLICATES_NEEDED = 20_000
PATIENCE = 600.0
"""Seconds without any progress after which the demo gives up."""
STATUS_PATIENCE = 90.0
"""Seconds: the operator refreshes the counts in a DedupJob's status at most once a minute."""


@dataclass
class Production:
    """What the thread that runs and kills the producer reports."""

    kills: int = 0
    stored: int = 0
    error: str | None = None
    done: bool = False
    process: subprocess.Popen[str] | None = None

    def stop(self) -> None:
        """No producer outlives the demo, however that ends."""
        self.error = self.error or "stopped"
        if self.process is not None:
            self.process.kill()


def _produce_with_crashes(state: Production, events: Path, position: Path) -> None:
    command = [sys.executable, "-m", "demo", "produce", KAFKA_BOOTSTRAP, SOURCE, str(events), str(position)]
    while not state.done and state.error is None:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            state.process = process
            assert process.stdout is not None
            for line in process.stdout:
                state.stored = int(line)
                due = state.kills < len(KILLS) and state.stored >= (state.kills + 1) * EVENTS_BETWEEN_KILLS
                if due and state.stored - read_note(position) >= KILLS[state.kills]:
                    process.kill()
                    state.kills += 1
                    break
            else:
                if process.wait() == 0:
                    state.done = True
                else:
                    state.error = f"the producer ended with {process.returncode}"


def _line(status: DriverStatus | None, production: Production) -> str:
    sent = f"sent {production.stored:,}, producer killed {production.kills} times"
    if status is None:
        return f"{sent}; the driver is starting"
    if status.blocked_by is not None:
        return f"{sent}; the driver waits: {status.blocked_by.reason}: {status.blocked_by.message}"
    now = status.progress
    lag = "" if now.lag_records is None else f", {now.lag_records:,} waiting"
    return f"{sent}; in {now.rows_in:,}, out {now.rows_out:,}, duplicates {now.duplicates:,}{lag}"


def _follow(cluster: DemoCluster, production: Production, applied: float) -> float:
    """Shows progress until all that was sent has been through; seconds from apply to the first committed batch."""
    first: float | None = None
    sent: int | None = None
    shown, seen, moved = 0.0, -1, time.monotonic()
    while True:
        status = cluster.read_driver_status(JOB)
        now = time.monotonic()
        if status is not None and status.committed_in_this_run and first is None:
            first = now - applied
        if now - shown > 5:
            note(f"    {_line(status, production)}")
            shown = now
        if production.error is not None:
            raise TestbedError(production.error)
        progress = (status.progress.rows_in if status else 0) + production.stored
        if progress != seen:
            seen, moved = progress, now
        if production.done and sent is None:
            sent = count_records(KAFKA_BOOTSTRAP, SOURCE)
        if first is not None and status is not None and sent is not None and status.progress.rows_in >= sent:
            note(f"    {_line(status, production)}")
            return first
        if now - moved > PATIENCE:
            raise TestbedError(f"nothing has moved for {duration(PATIENCE)}: kubectl -n {NAMESPACE} describe dedupjob {JOB}")
        time.sleep(0.5)


def _await_status(cluster: DemoCluster, rows_out: int) -> None:
    deadline = time.monotonic() + STATUS_PATIENCE
    while cluster.read_job(JOB).get("status", {}).get("progress", {}).get("rowsOut") != rows_out and time.monotonic() < deadline:
        time.sleep(1)


def _print_verdict(verdict: Verdict, production: Production, first: float) -> None:
    rows: list[tuple[str, str]] = [
        ("sent", f"{verdict.sent:,}"),
        ("distinct", f"{verdict.distinct:,}"),
        ("out", f"{verdict.out:,}"),
        ("duplicates removed", f"{verdict.removed:,}"),
        ("missing", f"{verdict.missing:,}"),
        ("twice", f"{verdict.twice:,}"),
        ("foreign", f"{verdict.foreign:,}"),
        ("producer killed", f"{production.kills} times"),
        ("apply to first committed batch", f"{first:.1f} s"),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n" + "\n".join(f"  {name:<{width}}  {value:>12}" for name, value in rows) + "\n", flush=True)


_LOOK_AROUND = f"""
Everything is still running. To look around:
  export KUBECONFIG="$PWD/.testbed/kubeconfig" PATH="$PWD/.testbed/bin:$PATH"
  kubectl -n {NAMESPACE} get dedupjobs -o wide
  kubectl -n {NAMESPACE} describe dedupjob {JOB}
  kubectl -n {NAMESPACE} logs {JOB}-driver-0
  kubectl explain dedupjob.spec
To remove the demo: make demo-down. To stop the cluster as well: make cluster-down.
"""


def _run_flights(cluster: DemoCluster, production: Production, events: Path, position: Path) -> float:
    """Seconds from `kubectl apply` to the first committed batch; returns when everything has been through."""
    with step("flights through the job"):
        producer = threading.Thread(target=_produce_with_crashes, args=(production, events, position), daemon=True)
        producer.start()
        note(f"    kubectl apply -f {EXAMPLE.relative_to(CHECKOUT)}")
        applied = time.monotonic()
        try:
            cluster.apply(EXAMPLE)
            return _follow(cluster, production, applied)
        finally:
            production.stop()
            producer.join()


def run_demo() -> int:
    """0 when the output holds every event once, and enough of them had come twice, else 1."""
    cluster = DemoCluster(Layout.of_this_checkout(), NAMESPACE)
    with step("helm install dedup-operator"):
        cluster.install_operator()
    with step("topics and namespace"):
        cluster.remove_namespace()
        delete_topics(KAFKA_BOOTSTRAP, [SOURCE, TARGET])
        create_topics(KAFKA_BOOTSTRAP, [SOURCE, TARGET])
        cluster.make_namespace(NAMESPACE)
    production = Production()
    with tempfile.TemporaryDirectory() as folder:
        events, position = Path(folder) / "events", Path(folder) / "position"
        with step("the flights of 2013 as JSON events"):
            planned = write_events(events)
        first = _run_flights(cluster, production, events, position)
    with step("reading the whole output topic"):
        verdict = judge(read_topic(KAFKA_BOOTSTRAP, SOURCE), read_topic(KAFKA_BOOTSTRAP, TARGET))
    with step("status of the job (counts are refreshed once a minute)"):
        _await_status(cluster, verdict.out)
    _print_verdict(verdict, production, first)
    print(cluster.kubectl("get", "dedupjobs", "--namespace", NAMESPACE, "-o", "wide"), flush=True)
    failures = verdict.list_failures(planned, DUPLICATES_NEEDED)
    print("\n".join(f"FAILED: {failure}" for failure in failures) if failures else _LOOK_AROUND, flush=True)
    return 1 if failures else 0


def remove_demo() -> int:
    """Takes away what `run_demo` made; the cluster and the CRD stay, as a Helm uninstall leaves them."""
    cluster = DemoCluster(Layout.of_this_checkout(), NAMESPACE)
    with step("removing the demo's namespace, job and volume"):
        cluster.remove_namespace()
    with step("removing its topics"):
        delete_topics(KAFKA_BOOTSTRAP, [SOURCE, TARGET])
    with step("helm uninstall dedup-operator"):
        cluster.uninstall_operator()
        cluster.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found")
    return 0
