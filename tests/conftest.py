"""How pytest-xdist distributes the tests over its processes, in the order of the command line."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ONE_CLUSTER = ("tests/cluster/", "tests/fault_injection/")
"""The tests of each of these folders share a cluster and must run one after the other."""
NOTHING_SHARED = "tests/simulation/"


class SharedStateScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Runs tests that share a fixture in one process: those with the same marker `xdist_group`, and else those of a file.

    A process gets its next group when it starts the last test of a group. pytest-xdist would give it the next group one
    test earlier, where it waits for longer, although another process could run it.
    """

    def _split_scope(self, nodeid: str) -> str:
        return find_scope(nodeid)

    def _reschedule(self, node: object) -> None:
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
            super()._reschedule(node)


def find_scope(nodeid: str) -> str:
    """The group of a test. `--dist loadgroup` writes the marker's argument behind the test's name."""
    test, _, group = nodeid.rpartition("@")
    if test and "]" not in group:
        return group
    if nodeid.startswith(NOTHING_SHARED):
        return nodeid
    file = nodeid.split("::", 1)[0]
    return next((folder for folder in ONE_CLUSTER if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return SharedStateScheduling(config, log)
