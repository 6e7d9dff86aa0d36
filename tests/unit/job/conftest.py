"""Fixtures that several tests of the driver use."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.job.spark_files import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """Batch 0 has read offsets 3 to 9 of partition 0 and 0 to 4 of partition 1."""
    layout = Volume(tmp_path, 1)
    layout.start({0: 3, 1: 0})
    layout.add(0, {0: 10, 1: 5})
    return layout
