"""Durations and quantities, as users write them in a DedupJob."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.durations import parse_duration
from dedup_api.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("5m", 300), ("1h30m", 5400), ("0s", 0), ("90m", 5400), ("1h1m1s", 3661), ("48h", 172800)],
)
def test_a_valid_duration_is_parsed(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "10 fortnights", "-5m", "5M", "1m1h", "1.5h", "5m ", "P1D", "10s\n", "1d", "99999999999h"])
def test_an_invalid_duration_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="such as 10s, 5m or 1h30m"):
        parse_duration(text)


@given(st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == timedelta(hours=hours, minutes=minutes, seconds=seconds)


@pytest.mark.parametrize(
    ("text", "units"),
    [("500m", "0.5"), ("2", "2"), (2, "2"), ("2Gi", str(2 * 1024**3)), ("1.5Ki", "1536"), ("3k", "3000"), ("1M", "1000000")],
)
def test_a_valid_quantity_is_parsed(text: str | int, units: str) -> None:
    assert parse_quantity(text) == Decimal(units)


@pytest.mark.parametrize("text", ["", "Gi", "2 Gi", "-1", "2GB", "two"])
def test_an_invalid_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)
