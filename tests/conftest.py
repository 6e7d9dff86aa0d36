"""How pytest-xdist distributes the tests over its processes, in the order of the command line."""

from __future__ import annotations

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ONE_CLUSTER = ("tests/cluster/", "tests/fault_injection/")
"""The tests of each of these folders share a cluster and must run one after the other."""
NOTHING_SHARED = "tests/simulation/"
PRIORITIES = {"tests/simulation/": 10, "tests/kafka/": 3}
"""By folder: the nice value of its tests and of the programs that they start. The tests of the cluster mostly wait, and
they take longest, so the run ends earlier when they get a processor as soon as they need one. Drivers of the Kafka tests
have deadlines, so they yield only a little."""


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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without root a process can only lower its priority, so it keeps the usual one for all its tests."""
    if os.geteuid() == 0:
        wanted = next((nice for folder, nice in PRIORITIES.items() if item.nodeid.startswith(folder)), 0)
        os.setpriority(os.PRIO_PROCESS, 0, wanted)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return SharedStateScheduling(config, log)
