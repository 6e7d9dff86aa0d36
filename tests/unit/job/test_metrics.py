"""Names and units follow the rules of Prometheus, `/status` repeats some metrics, and the generated page is up to
date."""

import time
from pathlib import Path

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dedup_api.driver_status import Measures
from dedup_api.faults import Fault
from dedup_job.checkpoint.totals import BatchCounts, StoreTimes, WrittenFaults
from dedup_job.report.metrics import DEFINITIONS, Kind, Metrics, TransactionResult, build_metrics_page, read_measures

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == build_metrics_page(), (
        "docs/metrics.md is stale: run `python job/generate_metrics_page.py`"
    )


def test_every_metric_is_defined_and_exported() -> None:
    metrics = Metrics()
    metrics.build.labels(version="1", spark_version="4").set(1)
    metrics.set_watermark(1000)
    exported = {family.name: family.type for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    assert exported == {definition.name.removesuffix("_total"): definition.kind for definition in DEFINITIONS}


def test_names_follow_the_rules_of_prometheus() -> None:
    for definition in DEFINITIONS:
        assert definition.name.startswith("dedup_")
        assert definition.name.endswith("_total") == (definition.kind is Kind.COUNTER), definition.name
        assert "seconds" not in definition.unit or "_seconds" in definition.name
        assert definition.help.endswith(".")


def test_a_committed_batch_raises_the_counters() -> None:
    metrics = Metrics()
    faults = {Fault.LATE: 2, Fault.NOT_JSON: 1}
    store = StoreTimes(update=3, evict=0.5, commit=0.25)
    metrics.count_batch(
        BatchCounts(rows_in=10, updated=7, duplicates=2, unique=4, faults=faults, store=store), WrittenFaults(emitted=2, dead=1)
    )
    names = ("rows_in", "rows_out", "unique", "duplicates", "late", "late_emitted", "dead_letters")
    values = {name: metrics.registry.get_sample_value(f"dedup_{name}_total") for name in names}
    assert values == {"rows_in": 10, "rows_out": 6, "unique": 4, "duplicates": 2, "late": 2, "late_emitted": 2, "dead_letters": 1}
    assert metrics.registry.get_sample_value("dedup_invalid_total", {"reason": "NotJson"}) == 1
    assert metrics.registry.get_sample_value("dedup_invalid_total", {"reason": "KeyEmpty"}) == 0, (
        "a rate needs a first sample, so every reason starts at 0"
    )
    assert metrics.registry.get_sample_value("dedup_state_operation_seconds_total", {"operation": "evict"}) == 0.5
    assert metrics.registry.get_sample_value("dedup_unaccounted_rows", {"law": "in"}) == 1


def test_status_repeats_some_metrics() -> None:
    metrics = Metrics()
    assert read_measures(metrics) == Measures(transactions={"committed": 0, "aborted": 0})
    metrics.set_watermark(int(time.time() * 1000) - 60_000)
    metrics.phases.labels(phase="plan").inc(0.25)
    metrics.state_operations.labels(operation="evict").inc(2)
    metrics.checkpoint_bytes.set(5000)
    metrics.count_transaction(TransactionResult.ABORTED)
    metrics.count_reopened()
    found = read_measures(metrics)
    assert found.watermark_lag_seconds is not None and 60 <= found.watermark_lag_seconds < 120
    assert (found.batch_phase_seconds, found.state_operation_seconds) == ({"plan": 0.25}, {"evict": 2})
    assert (found.checkpoint_bytes, found.transactions, found.producer_reopens) == (5000, {"committed": 0, "aborted": 1}, 1)


def test_the_lag_of_the_watermark_is_absent_until_there_is_one() -> None:
    metrics = Metrics()
    metrics.set_watermark(0)
    assert metrics.registry.get_sample_value("dedup_watermark_lag_seconds") is None, "there is no watermark yet"
    metrics.set_watermark(int(time.time() * 1000) - 60_000)
    behind = metrics.registry.get_sample_value("dedup_watermark_lag_seconds")
    assert behind is not None and 60 <= behind < 120
