"""The fixture `plane`: a control plane with a played node, once per session. Tests that use it run in the session's event loop.

pytestmark = pytest.mark.asyncio(loop_scope="session")
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fault_injection.harness import Plane, open_plane

SEED = "DEDUP_SEED"


def pytest_configure() -> None:
    """Before pytest-xdist starts its workers, which so have the seed that the header shows."""
    os.environ.setdefault(SEED, str(secrets.randbelow(1_000_000)))


def pytest_report_header() -> str:
    return f"interruptions are drawn with {SEED}={os.environ[SEED]}"


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ[SEED])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def plane() -> AsyncIterator[Plane]:
    async with open_plane() as opened:
        yield opened
