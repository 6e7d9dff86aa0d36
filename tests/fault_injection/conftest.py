"""The fixture `harness`: a control plane with a simulated node, started once per session.

Tests that use it must run in the session's event loop: `pytestmark = pytest.mark.asyncio(loop_scope="session")`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fault_injection.harness import Harness, open_harness

SEED = "DEDUP_SEED"


def pytest_configure() -> None:
    """Sets the seed before pytest-xdist starts its workers, so that they use the seed that the header shows."""
    os.environ.setdefault(SEED, str(secrets.randbelow(1_000_000)))


def pytest_report_header() -> str:
    return f"fault injection: the cases are drawn with {SEED}={os.environ[SEED]}; set this variable to repeat them"


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ[SEED])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def harness() -> AsyncIterator[Harness]:
    async with open_harness() as opened:
        yield opened
