"""The driver without some of the layers that keep two drivers off one checkpoint, so that a test can see one layer alone.

* `--without lock`: it takes no lock.
* `--without attempt`: it never checks whether a newer driver has started.
* `--without fence`: it uses a transactional id of its own, so it fences no other driver.

The shipped program has no option for any of this.

A file `/tmp/hold-<point>` stops a micro-batch at that point until the file is deleted; the driver creates
`/tmp/held-<point>` when it has arrived there. The points are `batch`, after all checks at the start of a micro-batch, and
`commit`, after all checks at its end: all rows are sent and the transaction is open.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dedup_job import main, query_run
from dedup_job.checkpoint.guards import AttemptGuard
from dedup_job.checkpoint.lock import CheckpointLock
from dedup_job.driver import Driver
from dedup_job.sink import kafka_opening
from dedup_job.sink.transactions import Transactions
from dedup_job.stream.guards import Check, Guards

if TYPE_CHECKING:
    from dedup_job.sink.sink import Sink

FOLDER = Path("/tmp")


def take_no_lock(root: Path, wait: Any) -> CheckpointLock:
    return CheckpointLock(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))


class OwnTransactions(Transactions):
    def __init__(self, *, transactional_id: str, **rest: Any) -> None:
        super().__init__(transactional_id=f"{transactional_id}.{socket.gethostname()}", **rest)


def hold_at(point: str) -> Check:
    def wait(batch: int) -> None:
        while (FOLDER / f"hold-{point}").exists():
            (FOLDER / f"held-{point}").touch()
            time.sleep(0.05)

    return wait


def checks_attempt(check: Check) -> bool:
    return isinstance(getattr(check, "__self__", None), AttemptGuard)


def remove_layers(layers: list[str]) -> None:
    build_guards = query_run.build_guards

    def build_remaining_guards(driver: Driver, sink: Sink) -> Guards:
        found = build_guards(driver, sink)

        def keep(checks: tuple[Check, ...]) -> tuple[Check, ...]:
            return tuple(check for check in checks if "attempt" not in layers or not checks_attempt(check))

        return Guards(before=(*keep(found.before), hold_at("batch")), after=(*keep(found.after), hold_at("commit")))

    query_run.build_guards = build_remaining_guards
    if "lock" in layers:
        main.take_lock = take_no_lock  # type: ignore[attr-defined, assignment]
    if "fence" in layers:
        kafka_opening.Transactions = OwnTransactions  # type: ignore[attr-defined]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", action="append", default=[], choices=["lock", "attempt", "fence"])
    remove_layers(parser.parse_args().without)
    sys.exit(main.main([]))
