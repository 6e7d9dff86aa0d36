"""Transactions that stay open in the source topic while drivers get their faults.

A hold sends records in a transaction and, behind it, plain copies of them. No driver may read either before the end of
the transaction. If it is committed, one of the two copies must come out; if it is aborted, the plain one. All of these
records are in a partition of their own, so that the offsets of the plan's records stay those of the plan.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from confluent_kafka import KafkaException, Producer

from faults.plan import Record
from faults.schedule import End

RECORDS = 50
"""How many records a transaction has, and how many plain copies are behind it."""
HEADER = "hold"
_INSIDE, _BEHIND = b"inside", b"behind"
_SECONDS = 300
"""The broker must answer within this time, also if it is killed in the meantime."""


@dataclass
class Holds:
    """All holds of a run. At most one is open."""

    bootstrap: str
    topic: str
    partition: int
    ends: list[End] = field(default_factory=list)
    """How the holds so far have ended."""
    _open: Producer | None = None

    def begin(self, at: datetime) -> None:
        """Sends the records of the next hold. They have the event time `at`."""
        inside = Producer(self._build_client() | {"transactional.id": f"hold-{len(self.ends)}", "transaction.timeout.ms": _SECONDS * 2000})
        inside.init_transactions(_SECONDS)
        inside.begin_transaction()
        self._send(inside, at, _INSIDE)
        self._send(Producer(self._build_client() | {"enable.idempotence": True}), at, _BEHIND)
        self._open = inside

    def _build_client(self) -> dict[str, str | int | float | bool]:
        return {"bootstrap.servers": self.bootstrap, "reconnect.backoff.max.ms": 1000, "log_level": 0}

    def _send(self, producer: Producer, at: datetime, where: bytes) -> None:
        for number in range(RECORDS):
            value = json.dumps({"id": f"hold-{len(self.ends)}-{number}", "at": at.isoformat()}).encode()
            timestamp = int(at.timestamp() * 1000)
            producer.produce(self.topic, value, partition=self.partition, timestamp=timestamp, headers=[(HEADER, where)])
        left = producer.flush(_SECONDS)
        assert left == 0, f"the broker has not stored {left} records within {_SECONDS} s"

    def finish(self, end: End) -> None:
        """Commits or aborts the open transaction."""
        assert self._open is not None
        finish = self._open.commit_transaction if end is End.COMMIT else self._open.abort_transaction
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                finish(_SECONDS)
                break
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
        self._open = None
        self.ends.append(end)

    @property
    def extra(self) -> dict[str, int]:
        """What the driver counts beside the plan's records, once all holds have ended."""
        committed = self.ends.count(End.COMMIT)
        unique = RECORDS * len(self.ends)
        more = RECORDS * committed
        return {"rows_in": unique + more, "rows_out": unique, "unique": unique, "duplicates": more}


@dataclass
class HoldChecker:
    """Takes the records of holds from the output."""

    ends: list[End]
    _inside: Counter[str] = field(default_factory=Counter)
    _behind: Counter[str] = field(default_factory=Counter)

    def sort_out(self, output: Iterable[Record]) -> Iterator[Record]:
        """The other records of the output. Keeps those of holds for `finish`."""
        for record in output:
            where = dict(record.headers).get(HEADER)
            if where is None:
                yield record
            else:
                counts = self._inside if where == _INSIDE else self._behind
                counts[json.loads(record.value or b"{}")["id"]] += 1

    def finish(self, may_repeat: bool) -> list[str]:
        """One sentence for each record that came out wrongly, or did not come out."""
        wrong = []
        for hold, end in enumerate(self.ends):
            for identity in (f"hold-{hold}-{number}" for number in range(RECORDS)):
                inside, behind = self._inside[identity], self._behind[identity]
                if end is End.ABORT and inside:
                    wrong.append(f"{identity} came out of an aborted transaction")
                if inside + behind == 0:
                    wrong.append(f"{identity}, in or behind a transaction with the end {end}, did not come out")
                if inside + behind > 1 and not may_repeat:
                    wrong.append(f"{identity}, in or behind a transaction with the end {end}, came out {inside + behind} times")
        return wrong
