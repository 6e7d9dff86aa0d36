"""Defines the driver's metrics. The collectors and `docs/metrics.md` both come from these definitions.

Counters start at 0 with the process, as Prometheus expects. `/status` has the totals since the checkpoint was created.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from dedup_api.driver_status import Measures
from dedup_api.faults import INVALID_FAULTS
from dedup_job.checkpoint.totals import BatchCounts, WrittenFaults


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


_RECORDS = "records"
ROWS_IN = Definition("dedup_rows_in_total", Kind.COUNTER, _RECORDS, "Records read from the source topic.")
ROWS_OUT = Definition(
    "dedup_rows_out_total", Kind.COUNTER, _RECORDS, "Records written to the sink: unique records, and late records with spec.onLate: Emit."
)
UNIQUE = Definition("dedup_unique_total", Kind.COUNTER, _RECORDS, "Records that were the first of their key within the watermark.")
DUPLICATES = Definition("dedup_duplicates_total", Kind.COUNTER, _RECORDS, "Records removed because an earlier record had the same key.")
LATE = Definition(
    "dedup_late_total",
    Kind.COUNTER,
    _RECORDS,
    "Records whose event time was behind the watermark. They are counted for every value of spec.onLate.",
)
LATE_EMITTED = Definition(
    "dedup_late_emitted_total",
    Kind.COUNTER,
    _RECORDS,
    "Late records written to the sink without a check for duplicates, with spec.onLate: Emit.",
)
INVALID = Definition(
    "dedup_invalid_total",
    Kind.COUNTER,
    _RECORDS,
    "Records without a readable payload, key or event time, for every value of spec.onInvalid. docs/records.md lists the reasons.",
    labels=("reason",),
)
DEAD_LETTERS = Definition("dedup_dead_letters_total", Kind.COUNTER, _RECORDS, "Records written to spec.deadLetter.topic.")
LOST = Definition(
    "dedup_lost_records_total",
    Kind.COUNTER,
    _RECORDS,
    "Records that the job skipped because the topic no longer held them, with spec.source.onDataLoss: Continue. The driver counts offsets, "
    "so this is an upper bound.",
)
BATCHES = Definition("dedup_batches_total", Kind.COUNTER, "batches", "Committed batches.")
SKIPPED = Definition(
    "dedup_skipped_batches_total",
    Kind.COUNTER,
    "batches",
    "Batches that were in the output already when a restarted driver processed them. The driver read them again and wrote nothing.",
)
UNACCOUNTED = Definition(
    "dedup_unaccounted_rows",
    Kind.GAUGE,
    _RECORDS,
    "Records that the driver cannot account for, summed over all batches; must be 0. law=in: the difference of records in and unique + "
    "duplicates + late + invalid. law=out: the difference of keys new to the state and records that came out of the deduplication.",
    labels=("law",),
)
DURATION = Definition(
    "dedup_batch_duration_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time from the start of a batch's processing until the driver saw its commit.",
)
PHASES = Definition(
    "dedup_batch_phase_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that committed batches took in each phase. phase: find_offsets, plan, log_offsets, process (read, deduplicate, write), "
    "log_commit, other.",
    labels=("phase",),
)
STATE_OPERATIONS = Definition(
    "dedup_state_operation_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time in the state store, summed over its partitions, which work in parallel. operation: update, evict (of expired keys), commit.",
    labels=("operation",),
)
LAST_COMMIT = Definition("dedup_last_commit_timestamp_seconds", Kind.GAUGE, "seconds since the epoch", "Time of the last commit.")
LAG = Definition(
    "dedup_lag_records", Kind.GAUGE, _RECORDS, "Records in the topic that no committed batch has read yet, with those of open transactions."
)
LAG_SECONDS = Definition(
    "dedup_lag_seconds",
    Kind.GAUGE,
    "seconds",
    "Age of the oldest record in the topic that no committed batch has read, by its Kafka timestamp. 0 when all records are read.",
)
OPEN_TRANSACTION_RECORDS = Definition(
    "dedup_open_transaction_records",
    Kind.GAUGE,
    _RECORDS,
    "Records in the topic that the driver cannot read until a transaction of a producer ends. dedup_lag_records counts them too. The "
    "driver counts offsets, so this is an upper bound.",
)
OPEN_TRANSACTION_SECONDS = Definition(
    "dedup_open_transaction_seconds",
    Kind.GAUGE,
    "seconds",
    "Time since the driver first saw the transaction that has been open in the topic for the longest time. 0 when none is open.",
)
WATERMARK = Definition(
    "dedup_watermark_timestamp_seconds",
    Kind.GAUGE,
    "seconds since the epoch",
    "The watermark after the last batch. Records behind it are late from the second batch after that one.",
)
WATERMARK_LAG = Definition(
    "dedup_watermark_lag_seconds", Kind.GAUGE, "seconds", "How far the watermark is behind the clock. Absent until the job has a watermark."
)
STATE_ROWS = Definition("dedup_state_rows", Kind.GAUGE, "keys", "Keys in the state.")
STATE_BYTES = Definition("dedup_state_bytes", Kind.GAUGE, "bytes", "Size of the state in memory and in files.")
CHECKPOINT_BYTES = Definition("dedup_checkpoint_bytes", Kind.GAUGE, "bytes", "Size of the checkpoint's files, measured once a minute.")
TRANSACTIONS = Definition(
    "dedup_transactions_total",
    Kind.COUNTER,
    "transactions",
    "Kafka transactions that have ended. result: committed, aborted.",
    labels=("result",),
)
REOPENED = Definition(
    "dedup_producer_reopens_total", Kind.COUNTER, "producers", "How often the driver opened a new Kafka producer after a long pause."
)
BLOCKED = Definition(
    "dedup_blocked", Kind.GAUGE, "0 or 1", "1 while the driver waits for something outside of it, such as a broker or a topic; otherwise 0."
)
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
    STATE_OPERATIONS,
    LAST_COMMIT,
    LAG,
    LAG_SECONDS,
    OPEN_TRANSACTION_RECORDS,
    OPEN_TRANSACTION_SECONDS,
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
"""Seconds. A batch normally takes 1 to 10 s. At the last bound, the driver reports a batch as stuck."""


class Metrics:
    """The collectors of one driver, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the series named _created would double the page
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
        self.phases, self.state_operations = self._counter(PHASES), self._counter(STATE_OPERATIONS)
        self.last_commit, self.lag, self.lag_seconds = self._gauge(LAST_COMMIT), self._gauge(LAG), self._gauge(LAG_SECONDS)
        self.open_transaction_records = self._gauge(OPEN_TRANSACTION_RECORDS)
        self.open_transaction_seconds = self._gauge(OPEN_TRANSACTION_SECONDS)
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

    def count_batch(self, counts: BatchCounts, written: WrittenFaults) -> None:
        """Adds a committed batch to the counters."""
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
            self.state_operations.labels(operation=operation).inc(seconds)
        self.unaccounted.labels(law="in").inc(abs(counts.unaccounted_in))
        self.unaccounted.labels(law="out").inc(abs(counts.unaccounted_out))
        self.batches.inc()

    def set_watermark(self, milliseconds: int) -> None:
        """`milliseconds` since the epoch; 0 when there is no watermark yet."""
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
    """The metrics that `/status` repeats, for users who collect no metrics."""
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]

    def read_value(definition: Definition) -> float | None:
        return next((sample.value for sample in samples if sample.name == definition.name), None)

    def read_by_label(definition: Definition) -> dict[str, float]:
        (label,) = definition.labels
        return {sample.labels[label]: round(sample.value, 3) for sample in samples if sample.name == definition.name}

    watermark_lag = read_value(WATERMARK_LAG)
    return Measures(
        watermark_lag_seconds=None if watermark_lag is None else round(watermark_lag, 3),
        batch_phase_seconds=read_by_label(PHASES),
        state_operation_seconds=read_by_label(STATE_OPERATIONS),
        checkpoint_bytes=read_value(CHECKPOINT_BYTES) or 0,
        transactions=read_by_label(TRANSACTIONS),
        producer_reopens=read_value(REOPENED) or 0,
    )


def build_metrics_page() -> str:
    """The text of `docs/metrics.md`."""
    lines = [
        "# Metrics of a driver",
        "",
        "Each driver's pod serves its metrics on port 8080 under `/metrics`, in the Prometheus text format.",
        "Counters start at 0 when the process starts.",
        "",
        "| name | type | unit | labels | meaning |",
        "|---|---|---|---|---|",
    ]
    for metric in DEFINITIONS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
