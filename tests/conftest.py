"""How tests that take minutes are spread over processes. The longest come first, as the command line names them."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class ByWhatTheyShare(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of one file run in one process, as they share what they start. So do all tests of tests/cluster, which share
    one cluster, and all tests of tests/fault_injection, which share one control plane."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        if file.startswith("tests/simulation/"):
            return nodeid  # seeds share nothing
        return next((folder for folder in ("tests/cluster", "tests/fault_injection") if file.startswith(f"{folder}/")), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByWhatTheyShare(config, log)
