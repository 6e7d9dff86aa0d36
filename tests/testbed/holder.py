"""Which checkout's cluster runs on this machine.

Ports, bridges and rules of a node are machine-wide, so there can be one cluster at a time. The record lies in the
run folder, which a reboot empties together with the cluster itself.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed import cgroups, snapshot
from testbed.components import START_ORDER
from testbed.daemons import recorded_pid
from testbed.layout import RUN, Layout
from testbed.locks import write_atomically
from testbed.shell import HeldError
from testbed.snapshot import Snapshot

RECORD = RUN / "holder.json"
BEFORE = RUN / "before.json"


@dataclass(frozen=True)
class Holder:
    state: str
    fingerprint: str
    started: float  # seconds since 1970

    @property
    def checkout(self) -> Path:
        return Path(self.state).parent

    def is_ours(self, layout: Layout) -> bool:
        return Path(self.state) == layout.state


def read() -> Holder | None:
    try:
        return Holder(**json.loads(RECORD.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write(layout: Layout, fingerprint: str) -> None:
    record = Holder(str(layout.state), fingerprint, time.time())
    write_atomically(RECORD, json.dumps(asdict(record)) + "\n")


def living_daemons() -> list[str]:
    return [name for name in START_ORDER if recorded_pid(name) is not None]


def anything_left() -> bool:
    return RUN.exists() or bool(cgroups.folders())


def may_take_over() -> bool:
    return os.environ.get("TAKE_OVER", "") not in ("", "0", "false") or os.environ.get("CI", "") == "true"


def raise_if_held(layout: Layout) -> None:
    """Another checkout's cluster is left alone unless it is dead, gone, or to be taken over."""
    if may_take_over():
        return
    holder = read()
    if holder is None:
        if living_daemons():
            raise HeldError(
                f"A cluster runs on this machine, and {RECORD} does not say whose.\nTo stop it and start yours: make cluster TAKE_OVER=1"
            )
        return
    if holder.is_ours(layout) or is_abandoned(holder):
        return
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.started))
    raise HeldError(
        f"The cluster of {holder.checkout} runs on this machine since {since}; there can be one.\n"
        f"To stop that one and start yours: make cluster TAKE_OVER=1\n"
        f"To stop it only: make -C {holder.checkout} cluster-down"
    )


def is_abandoned(holder: Holder) -> bool:
    """Nobody can be using it: nothing of it runs, or the checkout was deleted (all but what was mounted inside)."""
    return is_deleted(holder) or not living_daemons()


def is_deleted(holder: Holder) -> bool:
    return not (Path(holder.state) / "kubeconfig").exists()


def read_before(layout: Layout) -> Snapshot:
    """The machine before the cluster; when every record of it is lost, one that makes nothing foreign be removed."""
    for path in (BEFORE, layout.before_json):
        try:
            return Snapshot.from_json(path.read_text())
        except (OSError, ValueError, TypeError):
            continue
    return Snapshot(links=[], firewall={}, nft_tables=snapshot.nft_tables(), sysctls={}, paths=list(snapshot.FIXED_PATHS))


def record_before(layout: Layout) -> None:
    text = snapshot.take().to_json()
    write_atomically(BEFORE, text)
    write_atomically(layout.before_json, text)
