"""Notices transactions that stay open in the source topic. Pure: the caller passes offsets and the time.

A consumer of committed records gets nothing from the first record of the oldest open transaction on. That offset is the
last stable offset of the partition. It stays the same until that transaction ends, so an offset that stays names one
transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from dedup_api.driver_status import DriverWarning
from dedup_api.reasons import Reason
from dedup_job.times import build_rfc3339

WARN_AFTER = timedelta(minutes=2)
"""Most producers commit within seconds. The brokers end a transaction after its transaction.timeout.ms: one minute by
default, and at most 15 minutes with the brokers' default of transaction.max.timeout.ms."""
_MAX_LENGTH = 1024
"""Characters of the message of a condition."""
_NAMED = 5
"""Partitions that the warning names. One transaction often writes to all partitions of the topic."""


@dataclass(frozen=True)
class OpenTransaction:
    """The oldest open transaction of a partition."""

    partition: int
    offset: int
    """The last stable offset, which is the offset of the transaction's first record."""
    since: float
    """When the driver first saw it, in seconds since the epoch."""


@dataclass(frozen=True)
class OpenTransactions:
    records: int
    """Offsets from the last stable offset to the high watermark, summed over the partitions. Control records have offsets too, so
    this is an upper bound of the number of records."""
    oldest: tuple[OpenTransaction, ...]
    """One for each partition that has an open transaction; the one that is open for the longest time comes first."""

    def measure_seconds(self, now: float) -> int:
        """How long the driver has seen the oldest transaction; 0 when none is open. `now`: seconds since the epoch."""
        return max(0, round(now - self.oldest[0].since)) if self.oldest else 0

    def build_warning(self, bootstrap_servers: str, topic: str, now: float) -> DriverWarning | None:
        """None until a transaction has been open for WARN_AFTER. `now`: seconds since the epoch.

        The text stays the same while the same transactions are open.
        """
        overdue = [found for found in self.oldest if now - found.since >= WARN_AFTER.total_seconds()]
        if not overdue:
            return None
        return DriverWarning(reason=Reason.SOURCE_TRANSACTION_OPEN, message=_describe(overdue, bootstrap_servers, topic))


class OpenTransactionTracker:
    """Remembers since when the last stable offset of each partition has stayed below the high watermark."""

    def __init__(self) -> None:
        self._since: dict[tuple[int, int], float] = {}
        """By partition and last stable offset."""

    def observe(self, high_watermarks: dict[int, int], stable: dict[int, int], now: float) -> OpenTransactions:
        """Both by partition. The high watermarks must be the older ones: otherwise records that arrive between the two questions
        look like those of a transaction. `now`: seconds since the epoch."""
        behind = {partition: high - stable[partition] for partition, high in high_watermarks.items() if high > stable[partition]}
        places = [(partition, stable[partition]) for partition in behind]
        self._since = {place: self._since.get(place, now) for place in places}
        found = [OpenTransaction(partition, offset, self._since[partition, offset]) for partition, offset in places]
        return OpenTransactions(sum(behind.values()), tuple(sorted(found, key=lambda item: (item.since, item.partition))))


def _describe(overdue: list[OpenTransaction], bootstrap_servers: str, topic: str) -> str:
    first, others = overdue[0], overdue[1:]
    tool = f"kafka-transactions.sh --bootstrap-server {bootstrap_servers.split(',')[0].strip()}"
    text = (
        f"A producer's transaction has been open at offset {first.offset} of partition {first.partition} of the topic {topic} since "
        f"{build_rfc3339(first.since)} or longer. Until it ends, the driver reads nothing of this partition from that offset on. Find the "
        "application that writes to this topic with transactions and hangs or has ended: "
        f"`{tool} describe-producers --topic {topic} --partition {first.partition}` shows its producer id beside "
        f"CurrentTransactionStartOffset {first.offset}, and `… list` shows the transactional id. Restart that application, or stop it and "
        "wait for its transaction.timeout.ms. If `… find-hanging` with the same topic and partition lists the transaction, the brokers "
        f"never end it. `… abort` with the same topic and partition and `--start-offset {first.offset}` ends it and discards its records. "
        f"docs/open-transactions.md says more.{_name_others(others)}"
    )
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"


def _name_others(others: list[OpenTransaction]) -> str:
    if not others:
        return ""
    named = ", ".join(f"{item.partition} (offset {item.offset})" for item in others[:_NAMED])
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return f" The same is true of the partitions {named}{more}."
