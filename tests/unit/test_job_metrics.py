"""Names and units by Prometheus' rules, and a page that is not stale."""

from pathlib import Path

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dedup_job.metrics import DEFINITIONS, Kind, Metrics, build_metrics_page
from dedup_job.totals import BatchCounts

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_not_stale() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == build_metrics_page(), "run python job/generate_metrics_page.py"


def test_every_metric_is_defined_and_exported() -> None:
    metrics = Metrics()
    metrics.build.labels(version="1", spark_version="4").set(1)
    exported = {family.name: family.type for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    assert exported == {definition.name.removesuffix("_total"): definition.kind for definition in DEFINITIONS}


def test_names() -> None:
    for definition in DEFINITIONS:
        assert definition.name.startswith("dedup_")
        assert definition.name.endswith("_total") == (definition.kind is Kind.COUNTER), definition.name
        assert "seconds" not in definition.unit or "_seconds" in definition.name
        assert definition.help.endswith(".")


def test_a_batch_is_counted() -> None:
    metrics = Metrics()
    metrics.count(BatchCounts(rows_in=10, updated=6, duplicates=2, late=1, invalid=1, written=4))
    values = {
        name: metrics.registry.get_sample_value(f"dedup_{name}_total") for name in ("rows_in", "rows_out", "duplicates", "late", "invalid")
    }
    assert values == {"rows_in": 10, "rows_out": 4, "duplicates": 2, "late": 1, "invalid": 1}
    assert metrics.registry.get_sample_value("dedup_unaccounted_rows", {"law": "in"}) == 1
