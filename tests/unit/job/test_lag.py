"""How far the job is behind, and what the status says while no broker answers."""

import threading
import time

import pytest

from dedup_api.reasons import Reason
from dedup_job.checkpoint.spark_logs import Commit
from dedup_job.kafka.lag import LagProbe, find_unread
from dedup_job.kafka.open_transactions import WARN_AFTER
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State, build_status
from unit.job.fake_brokers import FakeBrokers, build_config


@pytest.mark.parametrize(
    ("ends", "committed", "starts", "unread"),
    [
        ({}, {}, {}, {}),
        ({0: 10, 1: 20}, {0: 10, 1: 20}, {}, {}),
        ({0: 10, 1: 20}, {0: 4}, {0: 0, 1: 15}, {0: 4, 1: 15}),
        ({0: 10}, {0: 2}, {0: 5}, {0: 5}),
        ({0: 3}, {0: 10}, {0: 0}, {}),
    ],
)
def test_unread_records_start_after_the_commit_or_at_the_earliest_offset(
    ends: dict[int, int], committed: dict[int, int], starts: dict[int, int], unread: dict[int, int]
) -> None:
    assert find_unread(ends, committed, starts) == unread


class FakeOldest:
    """Every unread record has been waiting for a minute."""

    def fetch_timestamp(self, topic: str, offsets: dict[int, int]) -> int | None:
        return int(time.time() * 1000) - 60_000


def build_probe(brokers: FakeBrokers, starting_offsets: str, state: State, metrics: Metrics) -> LagProbe:
    return LagProbe(
        brokers=brokers,
        oldest=FakeOldest(),
        config=build_config(startingOffsets=starting_offsets),
        state=state,
        metrics=metrics,
        stop=threading.Event(),
    )


def test_the_probe_reports_the_lag_and_an_outage() -> None:
    brokers, state, metrics = FakeBrokers(), State(), Metrics()
    probe = build_probe(brokers, "Earliest", state, metrics)
    probe.probe()
    assert state.read().lag == 25 and state.read().lag_seconds in (60, 61)
    state.update(commit=Commit(3, 0, {0: 10, 1: 18}))
    probe.probe()
    assert state.read().lag == 2
    since = state.read().lag_since
    assert since is not None
    probe.probe()
    assert state.read().lag_since == since, "lag_since must stay at the time when the lag was first seen"
    brokers.up = False
    probe.probe()
    blocked = state.read().blocked_by
    assert blocked is not None and blocked.reason == Reason.SOURCE_UNAVAILABLE and state.read().lag == 2
    assert state.read().lag_since is None, "an outage of the brokers must not count as a delay of the driver"
    assert metrics.registry.get_sample_value("dedup_blocked") == 1
    brokers.up = True
    probe.probe()
    assert state.read().blocked_by is None and metrics.registry.get_sample_value("dedup_blocked") == 0
    state.update(commit=Commit(4, 0, {0: 10, 1: 20}))
    probe.probe()
    assert (state.read().lag, state.read().lag_seconds, state.read().lag_since) == (0, 0, None)


def test_a_job_that_starts_at_the_latest_offset_has_no_lag_before_its_first_batch() -> None:
    state = State()
    build_probe(FakeBrokers(), "Latest", state, Metrics()).probe()
    assert state.read().lag is None


def test_an_unexpected_error_is_logged_and_the_next_measurement_works(caplog: pytest.LogCaptureFixture) -> None:
    brokers, state = FakeBrokers(), State()
    probe = build_probe(brokers, "Earliest", state, Metrics())
    probe.probe()
    assert state.read().lag_since is not None
    starts, brokers.starts = brokers.starts, None  # type: ignore[assignment]
    probe.probe()
    probe.probe()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "unexpected error in the thread lag" in caplog.text
    assert state.read().lag_since is None, "a number that the driver cannot measure must not count as a delay"
    brokers.starts = starts
    probe.probe()
    assert state.read().lag == 25 and state.read().lag_since is not None


def test_records_behind_an_open_transaction_are_lag_but_no_delay_of_the_driver(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers, state, metrics, now = FakeBrokers(), State(), Metrics(), [time.time()]
    monkeypatch.setattr("dedup_job.kafka.lag.time.time", lambda: now[0])
    probe = build_probe(brokers, "Earliest", state, metrics)
    state.update(commit=Commit(3, 0, {0: 10, 1: 20}))
    brokers.open_records = {1: 100}
    probe.probe()
    assert (state.read().lag, state.read().open_transaction_records, state.read().lag_since) == (100, 100, None)
    assert build_status(state.read()).warnings == [] and not caplog.records
    now[0] += WARN_AFTER.total_seconds()
    for _ in range(2):
        probe.probe()
        (warning,) = build_status(state.read()).warnings
        assert warning.reason == Reason.SOURCE_TRANSACTION_OPEN and "offset 20 of partition 1 of the topic orders" in warning.message
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert metrics.registry.get_sample_value("dedup_lag_records") == 100
    assert metrics.registry.get_sample_value("dedup_open_transaction_records") == 100
    assert metrics.registry.get_sample_value("dedup_open_transaction_seconds") == 120
    brokers.ends = {0: 13, 1: 20}
    probe.probe()
    assert (state.read().lag, state.read().open_transaction_records, state.read().lag_since) == (103, 100, now[0])
    brokers.ends, brokers.open_records = {0: 13, 1: 121}, {}  # the abort has an offset of its own
    probe.probe()
    assert (state.read().lag, state.read().open_transaction_records) == (104, 0)
    assert build_status(state.read()).warnings == []
    assert metrics.registry.get_sample_value("dedup_open_transaction_seconds") == 0


def test_an_open_transaction_is_visible_before_the_first_batch_of_a_job_that_starts_at_the_latest_offset() -> None:
    brokers, state = FakeBrokers(), State()
    brokers.open_records = {0: 7}
    build_probe(brokers, "Latest", state, Metrics()).probe()
    assert (state.read().lag, state.read().open_transaction_records) == (None, 7)
