"""The driver's metrics: one table that makes both the collectors and `docs/metrics.md`.

Counters count since the process started, as Prometheus expects; totals since the checkpoint began are on `/status`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from dedup_api.driver_status import Measures
from dedup_api.faults import INVALID_FAULTS
from dedup_job.checkpoint.totals import BatchCounts, Written


class TransactionResult(StrEnum):
    COMMITTED = "committed"
    ABORTED = "aborted"


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
ROWS_OUT = Definition(
    "dedup_rows_out_total", Kind.COUNTER, _ROWS, "Records written to the sink: unique ones, and late ones with spec.onLate: Emit."
)
UNIQUE = Definition("dedup_unique_total", Kind.COUNTER, _ROWS, "Records that were the first of their event.")
DUPLICATES = Definition("dedup_duplicates_total", Kind.COUNTER, _ROWS, "Copies removed.")
LATE = Definition(
    "dedup_late_total", Kind.COUNTER, _ROWS, "Records whose event time was behind the watermark, whatever spec.onLate did with them."
)
LATE_EMITTED = Definition(
    "dedup_late_emitted_total", Kind.COUNTER, _ROWS, "Late records written to the sink unchecked, with spec.onLate: Emit."
)
INVALID = Definition(
    "dedup_invalid_total",
    Kind.COUNTER,
    _ROWS,
    "Records without a readable payload, key or event time, whatever spec.onInvalid did with them; docs/records.md has the reasons.",
    ("reason",),
)
DEAD_LETTERS = Definition("dedup_dead_letters_total", Kind.COUNTER, _ROWS, "Records written to spec.deadLetter.topic.")
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
    "Sum of the differences in a counting law over all batches, must be 0. law=in: records in - unique - duplicates - late - invalid; "
    "law=out: what was new to the state - what came out behind it.",
    ("law",),
)
DURATION = Definition(
    "dedup_batch_duration_seconds", Kind.HISTOGRAM, "seconds", "From the beginning of a batch's processing until its commit was seen."
)
PHASES = Definition(
    "dedup_batch_phase_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time in phases of committed batches. phase: find_offsets, plan, log_offsets, process (read, deduplicate, write), log_commit, other.",
    ("phase",),
)
STORE = Definition(
    "dedup_state_operation_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time in the state store, summed over its partitions, which work side by side. operation: update, evict (of expired keys), commit.",
    ("operation",),
)
LAST_COMMIT = Definition("dedup_last_commit_timestamp_seconds", Kind.GAUGE, "seconds since the epoch", "When the last batch committed.")
LAG = Definition("dedup_lag_records", Kind.GAUGE, _ROWS, "Records in the topic that no committed batch has read yet.")
LAG_SECONDS = Definition(
    "dedup_lag_seconds",
    Kind.GAUGE,
    "seconds",
    "How long the oldest record that no committed batch has read has been in the topic, by its Kafka timestamp; 0 while none waits.",
)
WATERMARK = Definition(
    "dedup_watermark_timestamp_seconds",
    Kind.GAUGE,
    "seconds since the epoch",
    "The watermark after the last batch. Records behind it are late from the second batch that follows.",
)
WATERMARK_LAG = Definition(
    "dedup_watermark_lag_seconds", Kind.GAUGE, "seconds", "How far the watermark is behind the clock; absent before there is one."
)
STATE_ROWS = Definition("dedup_state_rows", Kind.GAUGE, "keys", "Keys remembered.")
STATE_BYTES = Definition("dedup_state_bytes", Kind.GAUGE, "bytes", "Memory and files that the keys take.")
CHECKPOINT_BYTES = Definition("dedup_checkpoint_bytes", Kind.GAUGE, "bytes", "Size of the checkpoint's files, once a minute.")
TRANSACTIONS = Definition(
    "dedup_transactions_total",
    Kind.COUNTER,
    "transactions",
    "Kafka transactions of batches. result: committed, aborted.",
    ("result",),
)
REOPENED = Definition(
    "dedup_producer_reopens_total", Kind.COUNTER, "producers", "Times that the Kafka producer was opened anew after a long pause."
)
BLOCKED = Definition("dedup_blocked", Kind.GAUGE, "0 or 1", "1 while the driver waits for something outside itself.")
BUILD = Definition("dedup_build_info", Kind.GAUGE, "always 1", "Versions of the driver and of Spark.", ("version", "spark_version"))

DEFINITIONS = (
    ROWS_IN,
    ROWS_OUT,
    UNIQUE,
    DUPLICATES,
    LATE,
    LATE_EMITTED,
    INVALID,
    DEAD_LETTERS,
    LOST,
    UNACCOUNTED,
    BATCHES,
    SKIPPED,
    DURATION,
    PHASES,
    STORE,
    LAST_COMMIT,
    LAG,
    LAG_SECONDS,
    WATERMARK,
    WATERMARK_LAG,
    STATE_ROWS,
    STATE_BYTES,
    CHECKPOINT_BYTES,
    TRANSACTIONS,
    REOPENED,
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
        self._watermark_seconds = 0.0
        self._watermark_lag: Gauge | None = None
        self.rows_in, self.rows_out = self._counter(ROWS_IN), self._counter(ROWS_OUT)
        self.unique, self.duplicates, self.invalid = self._counter(UNIQUE), self._counter(DUPLICATES), self._counter(INVALID)
        self.late, self.late_emitted, self.dead_letters = self._counter(LATE), self._counter(LATE_EMITTED), self._counter(DEAD_LETTERS)
        self.batches, self.skipped = self._counter(BATCHES), self._counter(SKIPPED)
        self.lost = self._counter(LOST)
        self.unaccounted = self._gauge(UNACCOUNTED)
        self.duration = Histogram(DURATION.name, DURATION.help, registry=self.registry, buckets=DURATION_BUCKETS)
        self.phases, self.store = self._counter(PHASES), self._counter(STORE)
        self.last_commit, self.lag, self.lag_seconds = self._gauge(LAST_COMMIT), self._gauge(LAG), self._gauge(LAG_SECONDS)
        self.watermark = self._gauge(WATERMARK)
        self.state_rows, self.state_bytes, self.checkpoint_bytes = (
            self._gauge(STATE_ROWS),
            self._gauge(STATE_BYTES),
            self._gauge(CHECKPOINT_BYTES),
        )
        self.transactions, self.reopened = self._counter(TRANSACTIONS), self._counter(REOPENED)
        self.blocked, self.build = self._gauge(BLOCKED), self._gauge(BUILD)
        for law in ("in", "out"):
            self.unaccounted.labels(law=law)
        for fault in INVALID_FAULTS:
            self.invalid.labels(reason=fault)
        for result in TransactionResult:
            self.transactions.labels(result=result)

    def _counter(self, definition: Definition) -> Counter:
        return Counter(definition.name, definition.help, definition.labels, registry=self.registry)

    def _gauge(self, definition: Definition) -> Gauge:
        return Gauge(definition.name, definition.help, definition.labels, registry=self.registry)

    def count(self, counts: BatchCounts, written: Written) -> None:
        """Adds a committed batch."""
        self.rows_in.inc(counts.rows_in)
        self.rows_out.inc(counts.unique + written.emitted)
        self.unique.inc(counts.unique)
        self.duplicates.inc(counts.duplicates)
        self.late.inc(counts.late)
        self.late_emitted.inc(written.emitted)
        self.dead_letters.inc(written.dead)
        for reason, count in counts.invalid_by_reason.items():
            self.invalid.labels(reason=reason).inc(count)
        for operation, seconds in asdict(counts.store).items():
            self.store.labels(operation=operation).inc(seconds)
        self.unaccounted.labels(law="in").inc(abs(counts.unaccounted_in))
        self.unaccounted.labels(law="out").inc(abs(counts.unaccounted_out))
        self.batches.inc()

    def set_watermark(self, milliseconds: int) -> None:
        """0 before there is one."""
        self.watermark.set(milliseconds / 1000)
        if milliseconds > 0 and self._watermark_lag is None:
            self._watermark_lag = self._gauge(WATERMARK_LAG)
            self._watermark_lag.set_function(lambda: time.time() - self._watermark_seconds)
        self._watermark_seconds = milliseconds / 1000

    def count_transaction(self, result: TransactionResult) -> None:
        self.transactions.labels(result=result).inc()

    def count_reopened(self) -> None:
        self.reopened.inc()


def read_measures(metrics: Metrics) -> Measures:
    """For `/status`."""
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]

    def one(definition: Definition) -> float | None:
        return next((sample.value for sample in samples if sample.name == definition.name), None)

    def by(definition: Definition) -> dict[str, float]:
        (label,) = definition.labels
        return {sample.labels[label]: round(sample.value, 3) for sample in samples if sample.name == definition.name}

    behind = one(WATERMARK_LAG)
    return Measures(
        watermark_lag_seconds=None if behind is None else round(behind, 3),
        batch_phase_seconds=by(PHASES),
        state_operation_seconds=by(STORE),
        checkpoint_bytes=one(CHECKPOINT_BYTES) or 0,
        transactions=by(TRANSACTIONS),
        producer_reopens=one(REOPENED) or 0,
    )


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
