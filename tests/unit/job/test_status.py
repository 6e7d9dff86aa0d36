"""What the driver's HTTP server reports for a given state."""

import json
import urllib.request
from datetime import timedelta
from typing import Any

import pytest

from dedup_api.driver_status import Blocked, DriverStatus, Phase
from dedup_api.reasons import Reason
from dedup_job.checkpoint.spark_logs import Commit
from dedup_job.checkpoint.totals import Totals
from dedup_job.report.metrics import Metrics
from dedup_job.report.server import Pages, start_server
from dedup_job.report.status import Snapshot, State, build_status, build_stuck_bound, decide_health, decide_readiness

BLOCKED = Blocked(reason=Reason.SOURCE_UNAVAILABLE, message="no broker")
BOUND = timedelta(minutes=10)


def test_the_status_of_a_new_driver_has_only_a_phase() -> None:
    status = build_status(Snapshot())
    assert status == DriverStatus(phase=Phase.STARTING, reports_keys_at_end=True)


def test_the_status_has_every_field_that_the_driver_knows() -> None:
    snapshot = Snapshot(
        phase=Phase.RUNNING,
        attempt=3,
        generation=1,
        committed_in_this_run=True,
        batch_started=1_700_000_000.7,
        commit=Commit(batch=12, next_watermark_ms=1_700_000_000_123, end_offsets={0: 5}),
        committed_at=1_700_000_001.9,
        totals=Totals(12, 10, 7, 6, 2, 1, 1, {"NotJson": 1}, 1, 7, 4096),
        lost=9,
        rows_per_second=5,
        lag=0,
        lag_seconds=0,
    )
    document = json.loads(build_status(snapshot).model_dump_json(by_alias=True, exclude_none=True))
    assert document == {
        "phase": "Running",
        "attempt": 3,
        "generation": 1,
        "checkpointBegun": False,
        "committedInThisRun": True,
        "batchRunningSince": "2023-11-14T22:13:20Z",
        "reportsKeysAtEnd": True,
        "warnings": [],
        "progress": {
            "batch": 12,
            "watermark": "2023-11-14T22:13:20.123Z",
            "rowsIn": 10,
            "rowsOut": 7,
            "unique": 6,
            "duplicates": 2,
            "late": 1,
            "lateEmitted": 1,
            "invalid": 1,
            "invalidByReason": {"NotJson": 1},
            "deadLetters": 1,
            "lost": 9,
            "inputRowsPerSecond": 5,
            "lagRecords": 0,
            "lagSeconds": 0,
            "stateRows": 7,
            "stateBytes": 4096,
            "lastProgressTime": "2023-11-14T22:13:21Z",
        },
    }


def test_the_watermark_is_absent_until_there_is_one() -> None:
    assert build_status(Snapshot(commit=Commit(0, 0, {}))).progress.watermark is None


@pytest.mark.parametrize(
    ("changes", "now", "healthy"),
    [
        ({}, 0.0, True),
        ({"phase": Phase.WAITING, "blocked_by": BLOCKED}, 1e9, True),
        ({"phase": Phase.RUNNING, "batch_started": 100.0}, 700.0, True),
        ({"phase": Phase.RUNNING, "batch_started": 100.0}, 701.0, False),
        ({"phase": Phase.RUNNING, "query_alive": False}, 0.0, False),
        ({"phase": Phase.RUNNING, "running_since": 10.0, "lag_since": 100.0}, 700.0, True),
        ({"phase": Phase.RUNNING, "running_since": 10.0, "lag_since": 100.0}, 701.0, False),
        ({"phase": Phase.RUNNING, "running_since": 10.0}, 701.0, True),
        ({"phase": Phase.RUNNING, "running_since": 10.0, "lag_since": 100.0, "committed_at": 200.0}, 701.0, True),
        ({"phase": Phase.RUNNING, "running_since": 10.0, "lag_since": 100.0, "blocked_by": BLOCKED}, 701.0, True),
        (
            {"phase": Phase.RUNNING, "running_since": 10.0, "lag_since": 9000.0, "committed_at": 20.0},
            9010.0,
            True,
        ),  # the topic was quiet for hours before
        (
            {"phase": Phase.STARTING, "starting_since": 10.0},
            701.0,
            True,
        ),  # kubelet's startup probe restarts a driver that starts for too long
    ],
)
def test_which_states_are_healthy(changes: dict[str, Any], now: float, healthy: bool) -> None:
    assert (decide_health(Snapshot(**changes), BOUND, now) is None) is healthy


@pytest.mark.parametrize(
    ("changes", "ready"),
    [
        ({"phase": Phase.RUNNING}, True),
        ({"phase": Phase.RUNNING, "blocked_by": BLOCKED}, False),
        *(({"phase": phase}, False) for phase in Phase if phase is not Phase.RUNNING),
    ],
)
def test_which_states_are_ready(changes: dict[str, Any], ready: bool) -> None:
    assert (decide_readiness(Snapshot(**changes)) is None) is ready


def test_a_batch_may_take_longer_when_the_trigger_interval_is_long() -> None:
    assert build_stuck_bound(timedelta(seconds=5)) == timedelta(minutes=10)
    assert build_stuck_bound(timedelta(hours=1)) == timedelta(hours=20)


def test_the_pages_are_served_over_http() -> None:
    state, metrics = State(), Metrics()
    port = start_server(0, Pages(state, metrics, BOUND))

    def read(path: str) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        opener = urllib.request.OpenerDirector()
        opener.add_handler(urllib.request.HTTPHandler())  # without the handler that raises on 503
        with opener.open(request, timeout=5) as response:
            return response.status, response.read().decode()

    assert read("/healthz") == (200, "ok\n")
    assert read("/readyz") == (503, "the driver is starting\n")
    state.update(phase=Phase.RUNNING)
    assert read("/readyz")[0] == 200
    assert json.loads(read("/status?x=1")[1])["phase"] == "Running"
    assert "dedup_rows_in_total 0.0" in read("/metrics")[1]
    assert read("/else")[0] == 404


def test_the_end_of_a_batch_clears_its_own_start_only() -> None:
    state = State()
    state.update(batch_started=100.0)
    assert state.end_batch(100.0, committed_at=101.0).batch_started is None
    state.update(batch_started=102.0)
    after = state.end_batch(100.0, committed_at=103.0)
    assert (after.batch_started, after.committed_at) == (102.0, 103.0)
