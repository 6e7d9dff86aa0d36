"""The driver's metrics: one table that makes both the collectors and `docs/metrics.md`.

Counters count since the process started, as Prometheus expects; totals since the checkpoint began are on `/status`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from dedup_job.totals import BatchCounts


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Definition:
    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()


_ROWS = "records"
ROWS_IN = Definition("dedup_rows_in_total", Kind.COUNTER, _ROWS, "Records read from the source topic.")
ROWS_OUT = Definition("dedup_rows_out_total", Kind.COUNTER, _ROWS, "Records handed to the sink.")
DUPLICATES = Definition("dedup_duplicates_total", Kind.COUNTER, _ROWS, "Copies removed.")
LATE = Definition("dedup_late_total", Kind.COUNTER, _ROWS, "Records dropped because their event time was behind the watermark.")
INVALID = Definition(
    "dedup_invalid_total", Kind.COUNTER, _ROWS, "Records passed by because they are not JSON or lack the key or the event time."
)
LOST = Definition(
    "dedup_lost_records_total",
    Kind.COUNTER,
    _ROWS,
    "Records skipped because the topic no longer held them, with spec.source.onDataLoss: Continue. An upper bound: offsets are counted.",
)
BATCHES = Definition("dedup_batches_total", Kind.COUNTER, "batches", "Batches committed.")
SKIPPED = Definition(
    "dedup_skipped_batches_total",
    Kind.COUNTER,
    "batches",
    "Batches whose rows were in the output already when a restarted driver came to them: read again, not written again.",
)
UNACCOUNTED = Definition(
    "dedup_unaccounted_rows",
    Kind.GAUGE,
    _ROWS,
    "Difference in a counting law over all batches of this process, must be 0. law=in: rows in - unique - duplicates - late - invalid; "
    "law=out: unique - rows handed to the sink.",
    ("law",),
)
DURATION = Definition(
    "dedup_batch_duration_seconds", Kind.HISTOGRAM, "seconds", "From the beginning of a batch's processing until its commit was seen."
)
LAST_COMMIT = Definition("dedup_last_commit_timestamp_seconds", Kind.GAUGE, "seconds since the epoch", "When the last batch committed.")
LAG = Definition("dedup_lag_records", Kind.GAUGE, _ROWS, "Records in the topic that no committed batch has read yet.")
WATERMARK = Definition(
    "dedup_watermark_timestamp_seconds",
    Kind.GAUGE,
    "seconds since the epoch",
    "The watermark after the last batch. Records behind it are late from the second batch that follows.",
)
STATE_ROWS = Definition("dedup_state_rows", Kind.GAUGE, "keys", "Keys remembered.")
STATE_BYTES = Definition("dedup_state_bytes", Kind.GAUGE, "bytes", "Memory and files that the keys take.")
BLOCKED = Definition("dedup_blocked", Kind.GAUGE, "0 or 1", "1 while the driver waits for something outside itself.")
BUILD = Definition("dedup_build_info", Kind.GAUGE, "always 1", "Versions of the driver and of Spark.", ("version", "spark_version"))

DEFINITIONS = (
    ROWS_IN,
    ROWS_OUT,
    DUPLICATES,
    LATE,
    INVALID,
    LOST,
    UNACCOUNTED,
    BATCHES,
    SKIPPED,
    DURATION,
    LAST_COMMIT,
    LAG,
    WATERMARK,
    STATE_ROWS,
    STATE_BYTES,
    BLOCKED,
    BUILD,
)

DURATION_BUCKETS = (0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 600)
"""Seconds. Batches take one to ten seconds in normal operation; the last bound is where a batch counts as stuck."""


class Metrics:
    """The collectors of one driver, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the lines, and nobody reads them
        self.registry = CollectorRegistry()
        self.rows_in, self.rows_out = self._counter(ROWS_IN), self._counter(ROWS_OUT)
        self.duplicates, self.late, self.invalid = self._counter(DUPLICATES), self._counter(LATE), self._counter(INVALID)
        self.batches, self.skipped = self._counter(BATCHES), self._counter(SKIPPED)
        self.lost = self._counter(LOST)
        self.unaccounted = self._gauge(UNACCOUNTED)
        self.duration = Histogram(DURATION.name, DURATION.help, registry=self.registry, buckets=DURATION_BUCKETS)
        self.last_commit, self.lag, self.watermark = self._gauge(LAST_COMMIT), self._gauge(LAG), self._gauge(WATERMARK)
        self.state_rows, self.state_bytes = self._gauge(STATE_ROWS), self._gauge(STATE_BYTES)
        self.blocked, self.build = self._gauge(BLOCKED), self._gauge(BUILD)
        for law in ("in", "out"):
            self.unaccounted.labels(law=law)

    def _counter(self, definition: Definition) -> Counter:
        return Counter(definition.name, definition.help, definition.labels, registry=self.registry)

    def _gauge(self, definition: Definition) -> Gauge:
        return Gauge(definition.name, definition.help, definition.labels, registry=self.registry)

    def count(self, counts: BatchCounts) -> None:
        """Adds a committed batch."""
        self.rows_in.inc(counts.rows_in)
        self.rows_out.inc(counts.written)
        self.duplicates.inc(counts.duplicates)
        self.late.inc(counts.late)
        self.invalid.inc(counts.invalid)
        self.unaccounted.labels(law="in").inc(counts.unaccounted_in)
        self.unaccounted.labels(law="out").inc(counts.unaccounted_out)
        self.batches.inc()


def build_metrics_page() -> str:
    """The text of `docs/metrics.md`."""
    lines = [
        "# Metrics of a driver",
        "",
        "Served on `/metrics` of each driver's pod, port 8080, in the Prometheus text format. Counters start at 0 with the process.",
        "",
        "| name | type | unit | labels | meaning |",
        "|---|---|---|---|---|",
    ]
    for metric in DEFINITIONS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
