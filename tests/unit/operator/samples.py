"""What the tests of the operator share."""

from __future__ import annotations

from dedup_operator.domain.observe.owned import find_owned_objects
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.state import ObservedState, observe_state


def observe(snapshot: Snapshot) -> ObservedState:
    """As a reconciliation does it."""
    return observe_state(snapshot, find_owned_objects(snapshot))
