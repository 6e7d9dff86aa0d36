"""The driver, but for some of the layers that keep two of them off one checkpoint, so that one can be seen to hold alone.

`--without lock` takes no lock. `--without attempt` never looks whether a newer driver has started. `--without fence` writes under a
transactional id of its own, and so fences nobody. The shipped program has no switch for any of that.

A file `hold-<point>` in /tmp holds a batch at that point until it is gone; `held-<point>` says that it has arrived. The points: `batch`,
after all looks at the beginning of one, and `commit`, after all looks at its end, when its rows are sent and its transaction is open.
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


def hold(point: str) -> Check:
    def wait(batch: int) -> None:
        while (FOLDER / f"hold-{point}").exists():
            (FOLDER / f"held-{point}").touch()
            time.sleep(0.05)

    return wait


def is_of_the_attempt(check: Check) -> bool:
    return isinstance(getattr(check, "__self__", None), AttemptGuard)


def leave_out(layers: list[str]) -> None:
    build_guards = query_run.build_guards

    def build_other_guards(driver: Driver, sink: Sink) -> Guards:
        found = build_guards(driver, sink)

        def keep(checks: tuple[Check, ...]) -> tuple[Check, ...]:
            return tuple(check for check in checks if "attempt" not in layers or not is_of_the_attempt(check))

        return Guards(before=(*keep(found.before), hold("batch")), after=(*keep(found.after), hold("commit")))

    query_run.build_guards = build_other_guards
    if "lock" in layers:
        main.take_lock = take_no_lock  # type: ignore[attr-defined, assignment]
    if "fence" in layers:
        kafka_opening.Transactions = OwnTransactions  # type: ignore[attr-defined]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", action="append", default=[], choices=["lock", "attempt", "fence"])
    leave_out(parser.parse_args().without)
    sys.exit(main.main([]))
