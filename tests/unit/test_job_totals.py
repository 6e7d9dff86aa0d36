"""Counts of a batch, totals over batches, and their file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_job.totals import BatchCounts, Totals, read_totals, write_totals

ROWS = st.integers(min_value=0, max_value=1_000_000)


@st.composite
def counts(draw: st.DrawFn) -> BatchCounts:
    valid, invalid, duplicates, late = draw(ROWS), draw(ROWS), draw(ROWS), draw(ROWS)
    updated = valid + invalid
    return BatchCounts(updated + duplicates + late, updated, duplicates, late, invalid, valid, removed=draw(st.integers(0, updated)))


@given(st.lists(counts(), max_size=8), st.data())
def test_replayed_batches_count_once(batches: list[BatchCounts], data: st.DataObject) -> None:
    once, replayed = Totals(), Totals()
    for number, batch in enumerate(batches):
        once = once.add(number, batch)
        for _ in range(data.draw(st.integers(1, 3))):
            replayed = replayed.add(number, batch)
    assert once == replayed
    assert once.rows_in == once.rows_out + once.duplicates + once.late + once.invalid
    assert once.state_rows == sum(batch.updated - batch.removed for batch in batches)


@given(counts())
def test_both_laws_hold_for_what_adds_up(batch: BatchCounts) -> None:
    assert (batch.unaccounted_in, batch.unaccounted_out) == (0, 0)


def test_what_is_lost_shows() -> None:
    batch = BatchCounts(rows_in=10, updated=6, duplicates=2, late=1, invalid=1, written=4)
    assert (batch.unaccounted_in, batch.unaccounted_out) == (1, 1)


def test_file_round_trip(tmp_path: Path) -> None:
    totals = Totals(batch=7, rows_in=5, rows_out=3, duplicates=1, late=1, invalid=0, state_rows=3, state_bytes=100)
    write_totals(tmp_path / "totals.json", totals)
    assert read_totals(tmp_path / "totals.json") == totals
    assert [entry.name for entry in tmp_path.iterdir()] == ["totals.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"batch": 1}', "null"])
def test_a_damaged_file_starts_from_zero(tmp_path: Path, content: str) -> None:
    (tmp_path / "totals.json").write_text(content)
    assert read_totals(tmp_path / "totals.json") == Totals()


def test_no_file_starts_from_zero(tmp_path: Path) -> None:
    assert read_totals(tmp_path / "totals.json") == Totals()
