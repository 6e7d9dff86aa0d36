"""Spark's progress reports as seconds by phase: each batch counts once, and with all of its time."""

from __future__ import annotations

import json

import pytest

from dedup_job.report.phases import PhaseReader, build_phases


def report(batch: int, **durations: int) -> str:
    return json.dumps({"batchId": batch, "durationMs": durations})


def test_the_phases_add_up_to_the_whole_trigger() -> None:
    phases = build_phases(
        {"latestOffset": 10, "getBatch": 1, "queryPlanning": 20, "addBatch": 500, "walCommit": 30, "triggerExecution": 600, "new": 5}
    )
    assert phases["plan"] == pytest.approx(0.021) and phases["process"] == 0.5
    assert phases["other"] == pytest.approx(0.039) and sum(phases.values()) == pytest.approx(0.6)
    assert build_phases({"addBatch": 5})["other"] == 0


def test_each_batch_is_read_once_and_a_trigger_without_a_batch_is_ignored() -> None:
    reader = PhaseReader()
    assert len(reader.read([report(4, addBatch=1), report(5, addBatch=2)])) == 2
    assert reader.read([report(5, addBatch=2), report(6, latestOffset=3)]) == []
    assert [found["process"] for found in reader.read([report(6, latestOffset=3), report(6, addBatch=7)])] == [0.007]
