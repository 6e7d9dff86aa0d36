"""The demo from beginning to end, step by step, with what it prints."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dedup_api.driver_status import DriverStatus
from demo.check import Verdict
from demo.client import Report
from demo.client_pod import ClientPod
from demo.cluster import DemoCluster
from demo.places import EXAMPLE, SOURCE, TARGET, Place, open_place
from demo.settings import Settings
from testbed.console import duration, note, step
from testbed.layout import CHECKOUT
from testbed.shell import TestbedError

JOB = "flights"
PATIENCE = 600.0
"""Seconds without any progress after which the demo gives up."""
STATUS_PATIENCE = 90.0
"""Seconds: the operator refreshes the counts in a DedupJob's status at most every 10 seconds."""
POLL = 0.5
"""Seconds between two questions to the driver."""
LINE_EVERY = 5.0
"""Seconds between two lines of progress."""


@dataclass
class Following:
    """What the demo has seen while the flights pass through the job."""

    applied: float
    """time.monotonic() of `kubectl apply`."""
    first_commit: float | None = None
    """Seconds from `kubectl apply` to the first committed micro-batch."""
    rows: int = -1
    """Records that producer and driver have handled; when it stops to grow, the demo is stuck."""
    moved: float = 0.0
    shown: float = 0.0

    def add(self, status: DriverStatus | None, report: Report) -> None:
        now = time.monotonic()
        if status is not None and status.committed_in_this_run and self.first_commit is None:
            self.first_commit = now - self.applied
        rows = (status.progress.rows_in if status else 0) + report.stored
        if rows != self.rows:
            self.rows, self.moved = rows, now


def describe_progress(status: DriverStatus | None, report: Report, ready: str) -> str:
    sent = f"sent {report.stored:,}, producer killed {report.kills} times"
    if status is None:
        return f"{sent}; the driver does not answer yet ({ready})"
    if status.blocked_by is not None:
        return f"{sent}; the driver waits: {status.blocked_by.reason}: {status.blocked_by.message}"
    now = status.progress
    lag = "" if now.lag_records is None else f", {now.lag_records:,} waiting"
    return f"{sent}; read {now.rows_in:,}, written {now.rows_out:,}, duplicates {now.duplicates:,}{lag}"


def follow(cluster: DemoCluster, client: ClientPod, applied: float) -> tuple[float, Report]:
    """Prints the progress until the driver has read every record that was sent. Returns the seconds to the first
    commit."""
    seen = Following(applied, moved=applied)
    while True:
        status, report = cluster.read_driver_status(JOB), client.read_report()
        seen.add(status, report)
        finished = status is not None and report.sent is not None and status.progress.rows_in >= report.sent
        if finished or time.monotonic() - seen.shown > LINE_EVERY:
            note(f"    {describe_progress(status, report, '' if status else cluster.read_ready(JOB))}")
            seen.shown = time.monotonic()
        if finished and seen.first_commit is not None:
            return seen.first_commit, report
        if time.monotonic() - seen.moved > PATIENCE:
            raise TestbedError(f"Nothing has moved for {duration(PATIENCE)}: kubectl -n {cluster.namespace} describe dedupjob {JOB}")
        time.sleep(POLL)


def wait_for_status(cluster: DemoCluster, rows_out: int) -> None:
    """Until the DedupJob's status has the last count, so that `kubectl get` prints it."""
    deadline = time.monotonic() + STATUS_PATIENCE
    while cluster.read_job(JOB).get("status", {}).get("progress", {}).get("rowsOut") != rows_out and time.monotonic() < deadline:
        time.sleep(1)


def render_verdict(verdict: Verdict, kills: int, first_commit: float) -> str:
    rows: list[tuple[str, str]] = [
        ("records sent", f"{verdict.sent:,}"),
        ("different flights", f"{verdict.distinct:,}"),
        ("records in the output", f"{verdict.out:,}"),
        ("duplicates removed", f"{verdict.removed:,}"),
        ("flights missing", f"{verdict.missing:,}"),
        ("flights repeated", f"{verdict.repeated:,}"),
        ("records never sent", f"{verdict.unknown:,}"),
        ("producer killed", f"{kills} time" if kills == 1 else f"{kills} times"),
        ("apply to first committed batch", f"{first_commit:.1f} s"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value:>12}" for name, value in rows)


def render_next_steps(place: Place) -> str:
    namespace = place.cluster.namespace
    commands = [
        *place.hint(),
        f"kubectl -n {namespace} get dedupjobs -o wide",
        f"kubectl -n {namespace} describe dedupjob {JOB}",
        f"kubectl -n {namespace} logs {JOB}-driver-0",
        "kubectl explain dedupjob.spec",
    ]
    lines = ["Everything is still running. To see more:", *(f"  {command}" for command in commands)]
    return "\n".join([*lines, f"To remove the demo: {place.how_to_remove}."])


def run_demo(settings: Settings) -> int:
    """0 when the output has every flight once, and the producer sent enough duplicates; otherwise 1."""
    place, plan = open_place(settings), settings.plan
    job_image = place.prepare()
    client = ClientPod(place.cluster, place.kafka, SOURCE, TARGET)
    with step("topics, and a pod that will send the flights"):
        client.start(job_image.reference, job_image.pull_policy, plan)
    with step("the flights of 2013 as JSON events"):
        planned = client.upload()
    with step("flights through the job"):
        note(f"    kubectl apply -f {EXAMPLE.relative_to(CHECKOUT)}")
        applied = time.monotonic()
        place.apply_job()
        first_commit, report = follow(place.cluster, client, applied)
    with step("reading the whole output topic"):
        verdict = client.check()
    client.delete()
    with step("status of the job (the operator refreshes the counts every 10 seconds)"):
        wait_for_status(place.cluster, verdict.out)
    print(f"\n{render_verdict(verdict, report.kills, first_commit)}\n", flush=True)
    print(place.cluster.kubectl("get", "dedupjobs", "--namespace", place.cluster.namespace, "-o", "wide"), flush=True)
    failures = verdict.list_failures(planned, plan.duplicates_needed)
    print("\n".join(f"FAILED: {failure}" for failure in failures) if failures else render_next_steps(place), flush=True)
    return 1 if failures else 0


def remove_demo(settings: Settings) -> int:
    """Removes what `run_demo` has made. The cluster stays."""
    open_place(settings).remove()
    return 0
