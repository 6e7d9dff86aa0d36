"""What every sink offers to the driver: the opening of its output, and the writing of a batch.

A sink writes one batch in exactly one Spark action that reads every row of every partition. A second action would run
the deduplication again on changed state, and an action that stops early would leave it unfinished.

A batch goes through `begin`, `write` and `confirm`; `abort` follows a failure. Only `confirm` makes an ExactlyOnce
batch visible, so the driver makes every check that must come before that, such as the count of rows, between `write`
and `confirm`.

To add a sink: write a module with a `SinkOpening` and a `Sink`, and name it in `opening.OPENINGS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.last_delivered import LastDelivered
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.kafka.broker_client import TopicLookup
from dedup_job.report.metrics import Metrics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True, kw_only=True)
class SinkContext:
    """What a sink may use while it opens its output."""

    spark: SparkSession
    config: JobConfig
    layout: CheckpointLayout
    attempt: int
    """The number of this driver's start."""
    has_state: bool
    """Whether Spark may have planned batches on the checkpoint."""
    brokers: TopicLookup
    metrics: Metrics


class SinkOpening(Protocol):
    """Opens the output of one driver: first `open`, then the recovery of the checkpoint, then `build`."""

    def open(self) -> LastDelivered | None:
        """Keeps older drivers from writing, and returns the output's record of the last delivered batch.

        None for an output that keeps no record.
        """

    def build(self) -> Sink:
        """Returns the sink for the batches of this driver. Call it once, after recovery."""


class Sink(Protocol):
    @property
    def writes_marker(self) -> bool:
        """Whether the next batch puts a marker into the progress topic."""

    def begin(self, batch: int, entry: str) -> bool:
        """Returns whether the batch is in the output already. The sink then only reads its rows.

        `entry`: the batch's entry in the offset log.
        """

    def write(self, rows: DataFrame, batch: int) -> None:
        """The one action. `rows` have the columns of `routing.route`."""

    def confirm(self, rows: int) -> None:
        """`rows`: how many rows the sink had to write. JobError where it has written another number."""

    def abort(self) -> None:
        """After a failure. Never raises."""
