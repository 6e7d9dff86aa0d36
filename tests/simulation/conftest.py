"""Chooses the seeds that the tests run: a fixed range, so that CI gives the same result twice. A flag or a variable
chooses others."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from simulation.run import CHUNK, COVERAGE_SEEDS


def pytest_addoption(parser: pytest.Parser) -> None:
    default = os.environ.get("SIMULATION_SEEDS", "0:5000")
    parser.addoption("--seeds", default=default, help="seeds of the simulation as first:end; default SIMULATION_SEEDS, else 0:5000")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "chunk" in metafunc.fixturenames:
        first, _, end = str(metafunc.config.getoption("--seeds")).partition(":")
        chunks = [range(start, min(start + CHUNK, int(end))) for start in range(int(first), int(end), CHUNK)]
        metafunc.parametrize("chunk", [build_parameter(chunk) for chunk in chunks])


def build_parameter(chunk: range) -> object:
    marks = [pytest.mark.xdist_group("coverage")] if chunk.stop <= COVERAGE_SEEDS else []
    return pytest.param(chunk, marks=marks, id=f"{chunk.start}-{chunk.stop - 1}")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Turns logging off: the operator logs each failure that it meets, and here it meets thousands."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
